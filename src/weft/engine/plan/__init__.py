"""A graph cut into passes over memory.

In: a graph and a shape. Out: a `Plan`: what is reduced over which dims, what waits for what. It knows no
language, no device and no chunks: those are a backend's.
"""
