"""The machine's compiler, and the libraries that it has built.

In: C as text. Out: a library that is loaded. It knows nothing of what the text is for.
"""
