"""What a chain is once it is traced: a graph of values, and what has to hold for it.

In: nothing. Out: `Graph`, `Traced`, the one table of ops. It knows no callback, no device, no memory.
"""
