"""The tracer: where proxies write down what was done to them.

Its methods are the ops of the graph with torch's rules around them: type promotion, broadcasting,
folding of numbers that are known. Handlers of torch functions are written in terms of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from weft.engine.ir.graph import HOST, Graph, Node, broadcast_shapes
from weft.engine.ir.ops import PREDICATES, evaluate
from weft.engine.ir.traced import External, Untraceable

__all__ = ["Path", "Tracer", "Wrapped", "category"]

UNKNOWN = object()  # the value of a number that only the step itself will know
MOST_DECISIONS = 12
# ops that give a float whatever they are given
FLOAT_OPS = frozenset(
    [
        "div",
        "atan2",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "exp",
        "exp2",
        "log",
        "log2",
        "log10",
        "log1p",
        "expm1",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "sigmoid",
        "erf",
    ]
)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A number read out of a tensor (`.item()`): promotes like a number, though a tensor node."""

    node: Node


@dataclass(slots=True)
class Path:
    """One way through a callback's branches on tensors: decided so far, and what to decide first."""

    prefix: Sequence[bool]
    taken: dict[int, bool] = field(default_factory=dict)
    order: list[Node] = field(default_factory=list)


def category(dtype: torch.dtype) -> int:
    """bool 0, int 1, float 2."""
    return 2 if dtype.is_floating_point else 0 if dtype is torch.bool else 1


class Calls(NamedTuple):
    """Who answers a call on a proxy: proxies know their tracer, and nothing above it.

    Attributes:
        torch: `(tracer, function, args, kwargs)`.
        numpy: `(ufunc, method, args, options)`.
    """

    torch: Callable[..., Any]
    numpy: Callable[..., Any]


class Tracer:
    """One trace: the graph so far, the value of every number, and the guards."""

    def __init__(self, device: torch.device, calls: Calls):
        self.calls = calls
        self.graph = Graph()
        self.device = device
        self.values: dict[int, Any] = {}
        self.decided: dict[int, bool] = {}
        self.decisions: list[tuple[Node, bool]] = []
        self.pins: list[tuple[Node, Any]] = []
        self.path = Path(())
        self.random: list[Node] = []
        self.given: list[Any] = []  # tensors that outlive the callback that is traced now
        self.inside: list[Any] = []  # functions of torch's that are run line by line now
        self.strided: set[int] = set()  # results that are not certain to be C-contiguous

    # ------------------------------------------------------------ numbers

    def const(self, value: float | int | bool) -> Node:
        """A number that is known now."""
        if value != value:
            raise Untraceable("a number was computed outside of the tracer's sight (it reads NaN)")
        node = self.graph.const(value)
        self.values[node.index] = value
        return node

    def leaf(self, op: str, value: Any, **attrs: Any) -> Node:
        """A number that comes from outside, with the value that it has now."""
        dtype = type(value) if type(value) in HOST else float
        node = self.graph.add(op, dtype=dtype, **attrs)
        self.values[node.index] = value
        return node

    def host(self, op: str, *args: Node) -> Node:
        """A host scalar computed from others; known at once where they are constants."""
        values = [self.values[a.index] for a in args]
        if UNKNOWN in values:
            value, dtype = UNKNOWN, bool if op in PREDICATES or op == "not" else float
        else:
            value = evaluate_on(op, values)
            dtype = type(value)
            if dtype not in HOST:
                raise Untraceable(f"{op} of numbers gave {value!r}, which is not a real number")
            if all(a.op == "const" for a in args) and value == value:
                return self.const(value)
            if op == "**" and dtype is int and args[1].op != "const":
                dtype = float
        node = self.graph.add(op, args, dtype=dtype)
        self.values[node.index] = value
        return node

    def decide(self, node: Node) -> bool:
        """Which way a branch on a number goes now; recorded, so that another way is noticed."""
        if node.op == "const":
            return bool(node.attr("value"))
        if node.index not in self.decided:
            if self.values[node.index] is UNKNOWN:
                raise Untraceable("it branches on a shared value that the same step decides")
            self.decided[node.index] = bool(self.values[node.index])
            self.decisions.append((node, self.decided[node.index]))
        return self.decided[node.index]

    def pin(self, node: Node, to: type) -> Any:
        """The concrete value of a number; another value needs another trace."""
        value = self.values[node.index]
        if value is UNKNOWN:
            raise Untraceable("it needs the value of a shared number that the same step decides")
        if node.op != "const" and all(n is not node for n, _ in self.pins):
            self.pins.append((node, value))
        return to(value)

    def branch(self, node: Node) -> bool:
        """Which way a branch on a tensor goes on this path; the other way has a path of its own."""
        path = self.path
        if node.index not in path.taken:
            depth = len(path.order)
            if depth >= MOST_DECISIONS:
                raise Untraceable(f"more than {MOST_DECISIONS} branches on tensors (a while loop?)")
            path.taken[node.index] = path.prefix[depth] if depth < len(path.prefix) else True
            path.order.append(node)
        return path.taken[node.index]

    # ------------------------------------------------------------ operands

    def lift(self, x: Any) -> Node | Wrapped:
        """What a graph op takes, from what a callback has in its hands."""
        if isinstance(x, Node | Wrapped):
            return x
        if isinstance(x, torch.Tensor):
            return x.read() if hasattr(x, "read") else self.external(x)  # type: ignore[attr-defined]
        if isinstance(x, float | int):
            node = getattr(x, "node", None)
            if node is None:
                return self.const(x if type(x) in HOST else float(x))
            return node if node.is_host else Wrapped(node)
        if type(x).__module__ == "numpy" and getattr(x, "ndim", None) == 0:
            return self.const(x.item())
        raise Untraceable(f"a {type(x).__name__} where a tensor or a number belongs")

    def tensor(self, x: Any) -> Node:
        """A tensor operand."""
        node = self.lift(x)
        if isinstance(node, Wrapped):
            return node.node
        if node.is_host:
            return self.full(node, (), default_dtype(node.dtype))
        return node

    def external(self, tensor: torch.Tensor) -> Node:
        """A tensor that the callback brought along."""
        if tensor.layout is not torch.strided or tensor.is_complex() or tensor.is_quantized:
            raise Untraceable(f"a captured tensor that is {tensor.layout} {tensor.dtype}")
        if tensor.device.type == "meta" and self.device.type != "meta":
            raise Untraceable("a function that the tracer cannot look into was given a tensor")
        if tensor.device != self.device and "meta" not in (tensor.device.type, self.device.type):
            raise Untraceable(
                f"a captured tensor is on {tensor.device}, and the parameter on {self.device}"
            )
        held = External(tensor)
        return self.graph.add(
            "external", shape=tuple(tensor.shape), dtype=tensor.dtype, tensor=held
        )

    def promote(self, *operands: Node | Wrapped) -> torch.dtype:
        """torch's result type: tensors over 0-dim tensors over numbers, within a category."""
        ranks: list[torch.dtype | None] = [None, None, None]
        for x in operands:
            if isinstance(x, Wrapped):
                rank, dtype = 2, default_dtype({0: bool, 1: int, 2: float}[category(x.node.dtype)])
            elif x.is_host:
                rank, dtype = 2, default_dtype(x.dtype)
            else:
                rank, dtype = (0 if x.shape else 1), x.dtype
            held = ranks[rank]
            ranks[rank] = dtype if held is None else torch.promote_types(held, dtype)
        result = None
        for dtype in ranks:
            if result is None:
                result = dtype
            elif dtype is not None and category(dtype) > category(result):
                result = torch.promote_types(result, dtype)
        if result is None:
            raise Untraceable("an operation without operands")
        return result

    # ------------------------------------------------------------ tensor ops

    def pointwise(self, op: str, *args: Any, dtype: torch.dtype | None = None) -> Node:
        """An elementwise op with torch's promotion and broadcasting."""
        operands = [self.lift(a) for a in args]
        dtype = dtype or self.promote(*operands)
        if op in FLOAT_OPS and not dtype.is_floating_point:
            dtype = torch.get_default_dtype()
        nodes = tuple(self.in_dtype(x, dtype) for x in operands)
        out = torch.bool if op in PREDICATES else dtype
        return self.graph.add(op, nodes, shape=self.broadcast(nodes), dtype=out)

    def where(self, cond: Any, a: Any, b: Any, dtype: torch.dtype | None = None) -> Node:
        """Elements of `a` where `cond` holds, of `b` elsewhere; `cond` may be a host scalar."""
        c, a, b = self.lift(cond), self.lift(a), self.lift(b)
        dtype = dtype or self.promote(a, b)
        c = self.in_dtype(c, torch.bool)
        nodes = (c, self.in_dtype(a, dtype), self.in_dtype(b, dtype))
        if nodes[1] is nodes[2]:
            return nodes[1]
        return self.graph.add("where", nodes, shape=self.broadcast(nodes), dtype=dtype)

    def in_dtype(self, x: Node | Wrapped, dtype: torch.dtype) -> Node:
        """An operand as the op computes it: tensors cast, numbers as they are."""
        if isinstance(x, Wrapped):
            return self.cast(x.node, dtype)
        return x if x.is_host else self.cast(x, dtype)

    def cast(self, x: Node, dtype: torch.dtype) -> Node:
        """A tensor in another dtype; a bool from a number is whether it is not zero."""
        if x.dtype is dtype:
            return x
        if dtype.is_complex:
            raise Untraceable("complex numbers")
        return self.graph.add("cast", (x,), shape=x.shape, dtype=dtype)

    def full(self, value: Any, shape: tuple[int, ...], dtype: torch.dtype | None) -> Node:
        """A tensor of one number."""
        x = self.lift(value)
        if isinstance(x, Wrapped) or not x.is_host:
            node = x.node if isinstance(x, Wrapped) else x
            return self.expand(self.cast(node, dtype or self.promote(x)), shape)
        return self.graph.add(
            "full", (x,), shape=tuple(shape), dtype=dtype or default_dtype(x.dtype)
        )

    def reduce(self, op: str, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
        """A reduction over `dims`, or over all where they are None."""
        if x.shape == ():
            return self.cast(x, torch.bool) if op in ("any", "all") else x
        assert x.shape is not None
        axes = range(len(x.shape)) if dims is None else [d % len(x.shape) for d in dims]
        axes = tuple(sorted(set(axes)))
        shape = tuple(
            1 if i in axes else n for i, n in enumerate(x.shape) if keepdim or i not in axes
        )
        dtype = torch.bool if op in PREDICATES else x.dtype
        return self.graph.add(op, (x,), shape=shape, dtype=dtype, dims=axes, keepdim=keepdim)

    # ------------------------------------------------------------ shapes

    def broadcast(self, nodes: Sequence[Node]) -> tuple[int, ...]:
        """The shape of tensors worked on together."""
        out: tuple[int, ...] = ()
        for n in nodes:
            if n.shape and n.shape != out:
                out = n.shape if not out else broadcast_shapes(out, n.shape)
        return out

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        """The elements in C order in another shape."""
        shape = tuple(shape)
        if x.shape == shape:
            return x
        if x.op == "reshape":
            return self.reshape(x.args[0], shape)
        if x.op == "full":
            return self.graph.add("full", x.args, shape=shape, dtype=x.dtype)
        return self.graph.add("reshape", (x,), shape=shape, dtype=x.dtype)

    def permute(self, x: Node, dims: Sequence[int]) -> Node:
        """The axes in another order."""
        dims = tuple(dims)
        if dims == tuple(range(len(dims))):
            return x
        assert x.shape is not None
        if x.op == "permute":
            inner = x.attr("dims")
            return self.permute(x.args[0], tuple(inner[d] for d in dims))
        shape = tuple(x.shape[d] for d in dims)
        return self.graph.add("permute", (x,), shape=shape, dtype=x.dtype, dims=dims)

    def expand(self, x: Node, shape: Sequence[int]) -> Node:
        """Broadcast to `shape`."""
        shape = tuple(shape)
        if x.shape == shape:
            return x
        if broadcast_shapes(x.shape or (), shape) != shape:
            raise Untraceable(f"a tensor of {x.shape} does not broadcast to {shape}")
        return self.graph.add("expand", (x,), shape=shape, dtype=x.dtype)

    def slice(self, x: Node, dim: int, start: int, stop: int, step: int) -> Node:
        """Elements `start:stop:step` along `dim`."""
        assert x.shape is not None
        if (start, stop, step) == (0, x.shape[dim], 1):
            return x
        n = max(0, -(-(stop - start) // step))
        shape = (*x.shape[:dim], n, *x.shape[dim + 1 :])
        return self.graph.add(
            "slice", (x,), shape=shape, dtype=x.dtype, dim=dim, start=start, stop=stop, step=step
        )


def default_dtype(kind: Any) -> torch.dtype:
    """The dtype of a Python number as a tensor."""
    return torch.bool if kind is bool else torch.int64 if kind is int else torch.get_default_dtype()


def evaluate_on(op: str, values: list[Any]) -> Any:
    """The value of a host op now; an op that fails on numbers fails the trace as it fails eager."""
    try:
        return evaluate(op, values)
    except (ArithmeticError, ValueError) as e:
        raise Untraceable(f"{op} of numbers {values} raises {type(e).__name__}: {e}") from e
