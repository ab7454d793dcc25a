"""GPUs: plans rendered as CUDA C, built by NVRTC, launched on torch's current stream.

In: a plan, tensors' addresses. Out: a kernel and its launches. It knows nothing of chains and groups.
"""
