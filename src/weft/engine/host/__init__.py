"""What every backend needs of the host: looks at tensors, counts of steps, numbers from hypers, threads.

In: tensors, groups, a trace. Out: what has changed since, and a row of numbers. It knows no kernel: what
it writes for one is addresses and numbers (native/inputs.h).
"""
