"""The CPU: plans rendered as C, built by the machine's compiler, run on a small pool of threads."""
