"""The tracer: a bound chain, run once with proxies, becomes one graph.

`trace(binding, example)` calls every callback of the chain once, on stand-ins for one parameter's
tensors and numbers, and writes down what they do. Nothing is computed, no user tensor is touched,
no random number is drawn. What cannot be written down raises `Untraceable`.

    traced = trace(bound.binding, Example(p.shape, p.dtype, state, hypers, given, step=3))
    traced.graph                      # nodes and outputs
    host = host_function(traced, traced.host_nodes())
    host.leaves                       # what the numbers come from: hyper lr, step, ...
    host(*values)                     # their values, or None: a guard failed, trace again
"""

from weft.engine.ir.traced import Capture, Example, External, Kept, TensorSpec, Traced, Untraceable
from weft.engine.trace.chain import trace

__all__ = [
    "Capture",
    "Example",
    "External",
    "Kept",
    "TensorSpec",
    "Traced",
    "Untraceable",
    "trace",
]
