"""What goes into a trace and what comes out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from weft.contract.hyperparameters import as_read
from weft.engine.fallback import Fallback
from weft.engine.ir.graph import Graph, Node

__all__ = [
    "Arg",
    "Capture",
    "Example",
    "External",
    "Kept",
    "Sharding",
    "Splits",
    "TensorSpec",
    "Traced",
    "Untraceable",
    "is_numpys",
    "put_back",
]


class Untraceable(Fallback):
    """A callback that cannot be turned into a graph; the chain runs eagerly.

    Attributes:
        reason: in words, for the warning.
        callback, file, line: of the callback that was being traced.
    """

    def __init__(self, reason: str, callback: str = "", file: str = "", line: int = 0):
        reason = next(iter(reason.strip().splitlines()), "")[:300]  # torch's own can be pages
        super().__init__(reason)
        self.reason, self.callback, self.file, self.line = reason, callback, file, line

    def __str__(self) -> str:
        where = f" ({self.file}:{self.line})" if self.file else ""
        return f"{self.callback}{where}: {self.reason}" if self.callback else self.reason


class TensorSpec(NamedTuple):
    """A tensor as it is stored."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Kept(NamedTuple):
    """A state that is no number and no tensor: a string, None, an object, kept as it is."""

    value: Any


class External:
    """A tensor that a callback captured: read at every step, never written."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor

    def __repr__(self) -> str:
        return f"External({id(self.tensor):#x})"


Splits = tuple[tuple[int, ...], ...]  # for each dim of a tensor, the dims of a mesh that split it


class Sharding(NamedTuple):
    """How a parameter is spread over ranks.

    Attributes:
        local: what this rank has of its shape.
        splits: of its dims.
        states: the splits of states that have another shape than the parameter.
    """

    local: tuple[int, ...]
    splits: Splits
    states: tuple[tuple[str, Splits], ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """One parameter in one step, as far as the graph depends on it.

    The *values* of numbers only decide which way branches on them go; `key()` is what the graph
    depends on besides, so two examples with equal keys may share a `Traced` whose guards hold.

    Attributes:
        shape, dtype: of the parameter and its grad, as stored; bfloat16 and float16 are computed
            in float32.
        state: `state[p]`: a `TensorSpec` for a tensor, the value itself for anything else. A name
            that is absent is absent here.
        hypers: the parameter group without "params" and "param_names", shared values included.
            Numbers, tensors of one element and tuples of numbers become symbolic; the rest is
            static.
        given: the names in `hypers` for which `BoundGroup.is_set` holds.
        step: how many steps the parameter has taken, this one included.
        loss: what `step` was given: None, a number, or a tensor of one element.
        device: what `p.device` says.
        contiguous: parameter, grad and state are all C-contiguous; where this is False, a callback
            whose aliasing depends on the layout (`reshape`, `contiguous`) is untraceable.
        norms: the step leaves norms behind.
        grad_dtype: of the grad, where it is not the parameter's.
        kind: the parameter's class.
        requires_grad: what `p.requires_grad` says.
        floats: torch's default dtype.
        resident: hypers and losses that are tensors stay where they are: reading them would wait.
        counted: the count of steps is the host's; else it is on the device, and a step advances it.
        sharding: of a DTensor, whose `shape` and states are those of the whole.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    state: Mapping[str, Any] = field(default_factory=dict)
    hypers: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    step: int = 1
    loss: Any = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    contiguous: bool = True
    norms: bool = False
    grad_dtype: torch.dtype | None = None
    kind: type = torch.nn.Parameter
    requires_grad: bool = True
    floats: torch.dtype = field(default_factory=torch.get_default_dtype)
    resident: bool = False
    counted: bool = True
    sharding: Sharding | None = None

    def key(self) -> tuple[Any, ...]:
        """What the graph depends on besides the guards: compare with `==`, or hash it."""
        return (
            tuple(self.shape), self.dtype, self.grad_dtype, self.device.type, self.contiguous, self.norms,
            self.kind, self.requires_grad, self.floats, self.resident, self.counted,
            self.sharding,
            static(self.loss),
            frozenset((k, static(v)) for k, v in self.state.items()),  # a stray key may be no string
            frozenset((k, static(as_read(v, self.dtype)), k in self.given) for k, v in self.hypers.items()),
        )  # fmt: skip


def static(value: Any) -> Any:
    """What of a value is part of the signature: the type of a number, all of anything else."""
    if isinstance(value, TensorSpec):
        return f"tensor {tuple(value.shape)} {value.dtype}"
    if isinstance(value, torch.Tensor):
        return f"tensor {tuple(value.shape)} {value.dtype}"
    if type(value) in (int, float) or is_numpys(value):
        return type(value).__name__
    if type(value) is tuple:
        return "(" + ", ".join(static(v) for v in value) + ")"
    return repr(value)


def is_numpys(value: Any) -> bool:
    """Whether a value is one number of NumPy's; no array, which could change."""
    held = type(value).__module__ == "numpy" and hasattr(value, "item")
    return held and not hasattr(value, "__setitem__") and isinstance(value.item(), int | float)


@dataclass(frozen=True, slots=True)
class Capture:
    """A value that a callback took from outside: a global, a closure's cell, an attribute."""

    name: str
    get: Callable[[], Any]
    value: Any

    def holds(self) -> bool:
        """Whether it still is what it was."""
        try:
            now = self.get()
        except Exception:
            return False
        return now is self.value or same(now, self.value)


def same(a: Any, b: Any) -> bool:
    """Whether two captured values mean the same: numbers by value, objects by identity."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, int | float | str | bytes | frozenset | set):
        return a == b
    return False


@dataclass(slots=True)
class Traced:
    """The graph of a chain for one parameter, and what has to hold for it to be the right one.

    Attributes:
        graph: the nodes and outputs. State outputs are in the dtype that is computed in.
        decisions: `(host node, outcome)` in the order in which callbacks branched on them.
        pins: `(host node, value)`: numbers that had to be concrete (an index, a range).
        captures: what callbacks took from outside.
        stores: state name -> how its output is kept: a `TensorSpec` (shape and storage dtype; it
            may be new, or another than the state has now), or float, int, bool for a Python number
            (its node is a host scalar, or a 0-dim tensor whose `.item()` it is), or an object that
            is kept as it is (`Kept`, which has no output).
        wrote: (kind, name) of an output -> names of the callbacks that wrote it, in order.
        same_step: a shared value follows from `step`, so that all parameters of the group have to
            be at the same step; otherwise the first one's would decide for all: run eagerly.
        asked: a callback asked whether the parameter requires grad.
        random: the chain draws random numbers, in the order of the graph's calls.
    """

    graph: Graph
    decisions: list[tuple[Node, bool]] = field(default_factory=list)
    pins: list[tuple[Node, Any]] = field(default_factory=list)
    captures: list[Capture] = field(default_factory=list)
    stores: dict[str, Any] = field(default_factory=dict)
    wrote: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    random: bool = False
    same_step: bool = False
    asked: bool = False

    def captures_hold(self) -> bool:
        """Whether everything captured still is what it was."""
        return not self.captures or all(c.holds() for c in self.captures)

    def host_nodes(self) -> Iterator[Node]:
        """The host scalars that tensors or outputs take, constants but as outputs left out."""
        live = list(self.graph.live())
        wanted = {
            a.index for n in live if not n.is_host for a in n.args if a.is_host and a.op != "const"
        }
        wanted |= {o.node.index for o in self.graph.outputs if o.node.is_host}
        return (n for n in live if n.index in wanted)


class Arg(NamedTuple):
    """The place of a node's value among the arguments of a call."""

    index: int


def put_back(tree: Any, values: Sequence[Any]) -> Any:
    """The arguments of a call, from their layout and the values of its nodes."""
    if isinstance(tree, Arg):
        return values[tree.index]
    if isinstance(tree, tuple):
        return tuple(put_back(v, values) for v in tree)
    if isinstance(tree, dict):
        return {k: put_back(v, values) for k, v in tree.items()}
    return tree
