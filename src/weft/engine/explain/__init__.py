"""Chains and kernels in words: what `opt.explain()` prints.

In: plans and programs. Out: text. Nothing depends on it.
"""
