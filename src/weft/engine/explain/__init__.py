"""Chains and kernels in words: what `opt.explain()` prints."""
