"""The reference: a chain run callback by callback, one parameter at a time.

In: bound groups, their state. Out: a step. It knows nothing of graphs and kernels.
"""
