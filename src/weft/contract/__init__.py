"""What a callback says by its signature and its code, and what a chain of them is bound to."""
