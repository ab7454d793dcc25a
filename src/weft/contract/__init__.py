"""What a callback says by its signature and its code, and what a chain of them is bound to.

In: callbacks, a group's hypers. Out: a `Binding`, a `BoundGroup`. It knows no engine.
"""
