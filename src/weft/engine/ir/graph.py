"""The graph of a chain: a small SSA form over host scalars and tensors, with its verifier.

A `Node` is either a *host scalar* (`shape is None`; computed in Python's double, int or bool, once
a cohort) or a *tensor* (a shape and a torch dtype, the dtype that is computed in: a bfloat16
parameter is loaded as float32). Arguments of pointwise ops broadcast as in torch; a host scalar
among them takes the op's dtype. Equal nodes are one node: `Graph.add` finds the one that is there.

Host scalar ops
    const(value)   hyper(name, index: a tuple where the hyper is one)   step   loss   number(name)
    shared(name)
    + - * / // % ** neg abs, comparisons (lt le gt ge eq ne), select(c, a, b), float, int, round
    and the functions of `math` by their names (sqrt exp log pow cos floor ...)

Tensor ops
    load(slot)     p, grad, or a state by its name
    over(name)     a value combined over all parameters, 0-dim
    shared(name)   hyper(name, index)   loss: those that are kept on the device, 0-dim
    full(value)    a host scalar as a tensor
    POINTWISE      see the table
    REDUCED        attrs dims (sorted, all of them when full) and keepdim
    external(tensor)  a tensor that a callback captured, read at every step
    VIEWS          reshape permute(dims) expand slice(dim, start, stop, step) diagonal(offset)
    slice_scatter(base, src, dim, start, stop, step), diagonal_scatter(base, src, offset): what a
                   write through a view gives
    cast           to its dtype; with attr through, rounded to that 16-bit dtype on the way
    where(cond, a, b)  `cond` may be a host scalar: one side or the other for all elements
    call           an opaque torch function: attrs fn (the callable), tree (how args are laid out) and
                   results: 0 for one tensor, else their number, each read with getitem(index);
                   serial, its place in the order of draws, where it draws random numbers
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch

from weft.engine.ir.ops import LEAVES, POINTWISE, PREDICATES, REDUCED

__all__ = [
    "HOST",
    "Graph",
    "GraphError",
    "Node",
    "Output",
    "OutputKind",
    "broadcast_shapes",
]

HOST = (float, int, bool)


class OutputKind(StrEnum):
    """What a step leaves behind."""

    P = "p"  # the parameter
    GRAD = "grad"  # the user's grad, written in place
    STATE = "state"  # a tensor or a host scalar, under its name
    SHARED = "shared"  # a host scalar or a 0-dim tensor, for the group
    OVER = "over"  # this parameter's part of a value over all: 0-dim, or a host scalar
    NORM = "norm"  # the sum of squares that a norm of this name is the root of


class GraphError(AssertionError):
    """A graph that breaks its own rules: a mistake of the engine, never of the user."""


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One value. Identity is equality: a graph holds each value once."""

    op: str
    args: tuple["Node", ...]
    attrs: tuple[tuple[str, Any], ...]
    shape: tuple[int, ...] | None
    dtype: Any  # a torch.dtype, or float, int or bool for a host scalar
    index: int
    source: str = ""  # the callback that it came from

    @property
    def is_host(self) -> bool:
        """Whether this is a host scalar."""
        return self.shape is None

    @property
    def is_leaf(self) -> bool:
        """Whether a host scalar comes from outside: a hyper, the step, the loss, a number of state."""
        return self.op in LEAVES

    @property
    def is_given(self) -> bool:
        """Whether the runtime puts the value in: combined over all parameters, or kept on the device."""
        return self.op == "over" or (self.op in LEAVES and not self.is_host)

    @property
    def numel(self) -> int:
        """How many elements the tensor has; 1 for a host scalar."""
        out = 1
        for n in self.shape or ():
            out *= n
        return out

    def attr(self, name: str, default: Any = None) -> Any:
        """One of the attributes."""
        return next((v for k, v in self.attrs if k == name), default)

    def __repr__(self) -> str:
        args = ", ".join(f"%{a.index}" for a in self.args)
        attrs = "".join(f" {k}={v!r}" for k, v in self.attrs)
        kind = (
            self.dtype.__name__
            if self.is_host
            else f"{str(self.dtype)[6:]}{list(self.shape or ())}"
        )
        return f"%{self.index} = {self.op}({args}){attrs} : {kind}"


@dataclass(frozen=True, slots=True)
class Output:
    """One thing that a step leaves behind."""

    kind: OutputKind
    name: str
    node: Node


@dataclass(slots=True)
class Graph:
    """The nodes of a chain in an order in which they can be computed, and its outputs."""

    nodes: list[Node] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    _known: dict[Any, Node] = field(default_factory=dict)
    source: str = ""

    def add(
        self, op: str, args: tuple[Node, ...] = (), *, shape=None, dtype: Any = float, **attrs: Any
    ) -> Node:
        """The node of this op on these arguments: the one that is there, or a new one."""
        items = tuple(sorted(attrs.items()))
        key = (op, tuple(a.index for a in args), _hashable(items), shape, dtype)
        found = self._known.get(key)
        if found is None:
            found = Node(op, args, items, shape, dtype, len(self.nodes), self.source)
            self.nodes.append(found)
            self._known[key] = found
        return found

    def const(self, value: float | int | bool) -> Node:
        """A number known when the chain is traced."""
        return self.add("const", dtype=type(value), value=value)

    def load(self, slot: str, shape: tuple[int, ...], dtype: torch.dtype) -> Node:
        """The parameter, its grad or one of its states, as the step finds it."""
        return self.add("load", shape=tuple(shape), dtype=dtype, slot=slot)

    def output(self, kind: str, name: str, node: Node) -> None:
        """Say what the step leaves behind; a later one of the same kind and name replaces it."""
        self.outputs = [o for o in self.outputs if (o.kind, o.name) != (kind, name)]
        self.outputs.append(Output(OutputKind(kind), name, node))

    def live(self) -> Iterator[Node]:
        """The nodes that an output needs, in order."""
        needed: set[int] = set()
        todo = [o.node for o in self.outputs]
        while todo:
            n = todo.pop()
            if n.index not in needed:
                needed.add(n.index)
                todo.extend(n.args)
        return (n for n in self.nodes if n.index in needed)

    def verify(self) -> None:
        """Check the rules that every pass must keep.

        Raises:
            GraphError: names the node.
        """
        for i, n in enumerate(self.nodes):
            if n.index != i or any(a.index >= i or self.nodes[a.index] is not a for a in n.args):
                raise GraphError(f"{n!r}: an argument is not computed before it")
            if n.is_host != (n.dtype in HOST):
                raise GraphError(f"{n!r}: a host scalar has a Python type, a tensor a torch dtype")
            if n.is_host and any(not a.is_host for a in n.args):
                raise GraphError(f"{n!r}: a host scalar cannot depend on a tensor")
            if n.op in POINTWISE and not n.is_host:
                _verify_pointwise(n)
            if n.op in REDUCED and tuple(sorted(n.attr("dims", ()))) != n.attr("dims"):
                raise GraphError(f"{n!r}: dims must be sorted")
        for o in self.outputs:
            if self.nodes[o.node.index] is not o.node:
                raise GraphError(f"output {o.kind} {o.name} is not of this graph")

    def __repr__(self) -> str:
        lines = [repr(n) for n in self.live()]
        return "\n".join([*lines, *(f"{o.kind} {o.name} <- %{o.node.index}" for o in self.outputs)])


def broadcast_shapes(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape of two tensors (torch's own function imports sympy, which takes a second).

    Raises:
        RuntimeError: where they have none.
    """
    if len(a) < len(b):
        a, b = b, a
    b = (1,) * (len(a) - len(b)) + b
    for x, y in zip(a, b, strict=True):
        if x != y and x != 1 and y != 1:
            raise RuntimeError(f"shapes {a} and {b} do not broadcast")
    return tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))


def _verify_pointwise(n: Node) -> None:
    if len(n.args) != POINTWISE[n.op]:
        raise GraphError(f"{n!r}: {n.op} takes {POINTWISE[n.op]} arguments")
    shapes = [a.shape for a in n.args if a.shape is not None]
    if shapes and functools.reduce(broadcast_shapes, shapes) != n.shape:
        raise GraphError(f"{n!r}: arguments of {shapes} do not broadcast to it")
    wanted = {a.dtype for a in n.args if not a.is_host}
    if n.op == "where":
        wanted = {a.dtype for a in n.args[1:] if not a.is_host}
    if n.op != "cast" and len(wanted) > 1:
        raise GraphError(f"{n!r}: arguments of {sorted(map(str, wanted))}: a cast is missing")
    if n.op in PREDICATES and n.dtype is not torch.bool:
        raise GraphError(f"{n!r}: a predicate is bool")


def _hashable(items: tuple[tuple[str, Any], ...]) -> Any:
    """Attributes as a key: -0.0 is not 0.0, 1 is not True, and a NaN is itself."""
    return tuple((k, type(v).__name__, repr(v)) for k, v in items)
