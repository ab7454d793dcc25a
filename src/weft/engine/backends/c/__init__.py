"""The CPU: plans rendered as C, built by the machine's compiler, run on the host's threads.

In: a plan, tensors' addresses. Out: a kernel and its launches. It knows nothing of chains and groups.
"""
