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

from weft.engine.trace.api import Capture, Example, External, Kept, TensorSpec, Traced, Untraceable
from weft.engine.trace.chain import trace
from weft.engine.trace.hostcode import HOST_SCOPE, HostFunction, host_function, host_source, is_leaf

__all__ = [
    "HOST_SCOPE",
    "Capture",
    "Example",
    "External",
    "HostFunction",
    "Kept",
    "TensorSpec",
    "Traced",
    "Untraceable",
    "host_function",
    "host_source",
    "is_leaf",
    "trace",
]
