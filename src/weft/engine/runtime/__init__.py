"""The runtime: from parameters and state to launches of kernels."""
