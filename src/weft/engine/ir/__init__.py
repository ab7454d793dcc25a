"""What a chain is once it is traced: a graph of values, and what has to hold for it."""
