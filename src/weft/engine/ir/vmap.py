"""From the nodes of one parameter to those of several: every tensor gets a first dimension more.

This is what `torch.vmap` would do, ahead of time. A value that is the same for all (a number, the
identity, a captured tensor) stays as it is and broadcasts.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from weft.engine.ir import interpret
from weft.engine.ir.graph import Graph, Node
from weft.engine.ir.ops import POINTWISE, REDUCED
from weft.engine.ir.traced import Arg, put_back

__all__ = ["Batch"]


class Batch:
    """Nodes for `many` parameters at once.

    Attributes:
        graph: of the nodes.
        place: index of a node of one parameter -> the node that has its value for all of them.
        stacked: indices, in `graph`, of values with one row a parameter; the others are shared.
        given: index in `graph` -> the host scalar that it stands for, computed elsewhere.
    """

    def __init__(self, nodes: Iterable[Node], many: int):
        self.many, self.graph = many, Graph()
        self.place: dict[int, Node] = {}
        self.stacked: set[int] = set()
        self.given: dict[int, Node] = {}
        for n in nodes:
            for a in n.args:
                if a.index not in self.place:
                    new = self.graph.add("given", dtype=a.dtype, of=a.index)
                    self.place[a.index], self.given[new.index] = new, a
            args = [self.place[a.index] for a in n.args]
            if n.op == "load":
                new = self._add("load", (), n, **dict(n.attrs))
            elif any(a.index in self.stacked for a in args):
                new = self._stack(n, args)
            else:
                new = self.graph.add(
                    n.op, tuple(args), shape=n.shape, dtype=n.dtype, **dict(n.attrs)
                )
            self.place[n.index] = new

    @property
    def nodes(self) -> list[Node]:
        """What is to be computed, in order."""
        return [n for n in self.graph.nodes if n.index not in self.given]

    def _add(self, op: str, args: Iterable[Node], like: Node, **attrs: Any) -> Node:
        """A node with a row a parameter, whose rows are as `like`."""
        return self._rows(op, args, like.shape or (), like.dtype, **attrs)

    def _rows(
        self, op: str, args: Iterable[Node], shape: tuple[int, ...], dtype: Any, **attrs: Any
    ) -> Node:
        new = self.graph.add(op, tuple(args), shape=(self.many, *shape), dtype=dtype, **attrs)
        self.stacked.add(new.index)
        return new

    def _shape(self, n: Node) -> tuple[int, ...]:
        """The shape for one parameter."""
        shape = n.shape or ()
        return shape[1:] if n.index in self.stacked else shape

    def _align(self, n: Node, rank: int) -> Node:
        """A value whose rows broadcast to `rank` dimensions; torch aligns shared ones by itself."""
        shape = self._shape(n)
        if n.index not in self.stacked or len(shape) >= rank:
            return n
        return self._rows("reshape", (n,), (1,) * (rank - len(shape)) + shape, n.dtype)

    def _spread(self, n: Node) -> Node:
        """A value with a row a parameter, whether it is shared or not."""
        if n.index in self.stacked:
            return n
        return self._rows("expand", (n,), n.shape or (), n.dtype)

    def _call(self, fn: Callable[..., Any], args: Iterable[Node], like: Node) -> Node:
        args = tuple(args)
        tree = (tuple(Arg(i) for i in range(len(args))), {})
        results = like.attr("results", 0)
        return self._add("call", args, like, fn=fn, tree=tree, results=results)

    def _stack(self, n: Node, args: list[Node]) -> Node:
        attrs, rank = dict(n.attrs), len(n.shape or ())
        if n.op in POINTWISE or n.op == "expand":
            return self._add(n.op, [self._align(a, rank) for a in args], n, **attrs)
        if n.op in REDUCED:
            if not attrs["dims"]:  # of one element; for torch no dims are all dims
                return self._add("cast", args, n)
            attrs["dims"] = tuple(d + 1 for d in attrs["dims"])
            return self._add(n.op, args, n, **attrs)
        match n.op:
            case "reshape" | "getitem":
                return self._add(n.op, args, n, **attrs)
            case "permute":
                dims = (0, *(d % rank + 1 for d in attrs["dims"]))
                return self._add(n.op, args, n, dims=dims)
            case "slice":
                return self._add(n.op, args, n, **{**attrs, "dim": attrs["dim"] + 1})
            case "slice_scatter":
                base, src = self._spread(args[0]), self._align(args[1], rank)
                return self._add(n.op, (base, src), n, **{**attrs, "dim": attrs["dim"] + 1})
            case "call" if n.attr("fn") is torch.matmul:
                return self._matmul(n, args)
            case "call" if n.attr("fn") in (torch.cat, torch.stack) and _is_plain_list(n):
                tree = n.attr("tree")
                dim = (*tree[0][1:], *tree[1].values(), 0)[0]
                tree = (tree[0][:1], {"dim": dim + 1 if dim >= 0 else dim})
                return self._add("call", map(self._spread, args), n, **{**attrs, "tree": tree})
            case "call" if n.attr("fn") in (torch.tril, torch.triu) and len(args) == 1:
                return self._add("call", args, n, **attrs)
        return self._one_by_one(n, args)

    def _matmul(self, n: Node, args: list[Node]) -> Node:
        (a, b), (left, right) = args, (self._shape(args[0]), self._shape(args[1]))
        if len(left) == 1:
            a = self._reshape(a, (1, *left))
        if len(right) == 1:
            b = self._reshape(b, (*right, 1))
        rank = max(len(self._shape(a)), len(self._shape(b)))
        shape = n.shape or ()
        if len(right) == 1:
            shape = (*shape, 1)
        if len(left) == 1:
            shape = (*shape[:-1], 1, *shape[-1:])
        tree, both = ((Arg(0), Arg(1)), {}), (self._align(a, rank), self._align(b, rank))
        product = self._rows("call", both, shape, n.dtype, fn=torch.matmul, tree=tree, results=0)
        return product if shape == n.shape else self._add("reshape", (product,), n)

    def _reshape(self, n: Node, shape: tuple[int, ...]) -> Node:
        if n.index in self.stacked:
            return self._rows("reshape", (n,), shape, n.dtype)
        return self.graph.add("reshape", (n,), shape=shape, dtype=n.dtype)

    def _one_by_one(self, n: Node, args: list[Node]) -> Node:
        """What has no plain form for a stack: row by row."""
        of_rows = [a.index in self.stacked for a in args]
        fn, many = _function(n), self.many

        def each(*values: Any) -> Any:
            out = [
                fn([v[k] if row else v for v, row in zip(values, of_rows, strict=True)])
                for k in range(many)
            ]
            if isinstance(out[0], torch.Tensor):
                return torch.stack(out)
            return tuple(torch.stack(r) for r in zip(*out, strict=True))

        return self._call(each, args, n)


def _is_plain_list(n: Node) -> bool:
    """Whether a call is of a list of tensors, and of a `dim` at most."""
    args, kwargs = n.attr("tree")
    of_tensors = len(args) in (1, 2) and isinstance(args[0], tuple)
    rest = (*args[1:], *kwargs.values())
    return (
        of_tensors
        and all(isinstance(a, Arg) for a in args[0])
        and len(rest) <= 1
        and all(type(d) is int for d in rest)
        and kwargs.keys() <= {"dim"}
    )


def _function(n: Node) -> Callable[[list[Any]], Any]:
    """A node as a function of the values of its arguments."""
    if n.op == "call":
        fn, tree = n.attr("fn"), n.attr("tree")

        def called(values: list[Any]) -> Any:
            args, kwargs = put_back(tree, values)
            return fn(*args, **kwargs)

        return called
    return lambda values: interpret._tensor(n, values, values[0].device)
