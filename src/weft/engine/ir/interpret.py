"""Running a graph with torch, node by node: the independent check of the tracer."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from weft.engine.ir.graph import Graph, Node, Output, OutputKind
from weft.engine.ir.ops import evaluate
from weft.engine.ir.traced import put_back

__all__ = ["interpret"]


def interpret(
    graph: Graph, slots: Mapping[str, torch.Tensor], leaf: Callable[[Node], Any],
    over: Callable[[str, Any], torch.Tensor] = lambda name, own: own,
) -> list[tuple[Output, Any]]:  # fmt: skip
    """The outputs of a graph.

    Args:
        graph: what to run.
        slots: the parameter ("p"), its grad ("grad") and its states; they are not written.
        leaf: the value of a host leaf: a hyper, the step, ...
        over: the combined value of a name over all parameters, from this parameter's part.
    """
    values: dict[int, Any] = {}
    parts = {o.name: o.node for o in graph.outputs if o.kind is OutputKind.OVER}
    with torch.no_grad():
        for n in graph.live():
            args = [values[a.index] for a in n.args]
            if n.op == "over":
                value = over(n.attr("name"), values[parts[n.attr("name")].index])
                values[n.index] = torch.as_tensor(value).to(n.dtype)
            elif n.is_host:
                values[n.index] = _host(n, args, leaf)
            elif n.is_given:
                values[n.index] = torch.as_tensor(leaf(n)).to(n.dtype)
            elif n.op == "load":
                values[n.index] = slots[n.attr("slot")].detach().to(n.dtype)
            else:
                values[n.index] = _tensor(n, args, slots["p"].device)
    return [(o, _copy(values[o.node.index])) for o in graph.outputs]


def _copy(value: Any) -> Any:
    """An output that shares no memory with what it came from: a slot may be returned as it is."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def _host(n: Node, args: list[Any], leaf: Callable[[Node], Any]) -> Any:
    if n.op == "const":
        return n.attr("value")
    return leaf(n) if n.is_leaf else evaluate(n.op, args)


def _tensor(n: Node, args: list[Any], device: torch.device) -> Any:
    shape = n.shape or ()
    match n.op:
        case "full":
            return torch.full(shape, args[0], dtype=n.dtype, device=device)
        case "external":
            return n.attr("tensor").tensor.detach()
        case "cast":
            return args[0].to(n.attr("through", n.dtype)).to(n.dtype)
        case "where":
            return _where(args, n.dtype, shape, device)
        case "reshape":
            return args[0].reshape(shape)
        case "expand":
            return args[0].expand(shape)
        case "permute":
            return args[0].permute(n.attr("dims"))
        case "slice":
            return args[0][_index(n)]
        case "diagonal":
            return args[0].diagonal(n.attr("offset"))
        case "slice_scatter":
            out = args[0].clone()
            out[_index(n)] = args[1]
            return out
        case "diagonal_scatter":
            return torch.diagonal_scatter(args[0], args[1], n.attr("offset"))
        case "call":
            a, kw = put_back(n.attr("tree"), args)
            return n.attr("fn")(*a, **kw)
        case "getitem":
            return args[0][n.attr("index")]
        case "sum" | "prod" | "amax" | "amin" | "any" | "all":
            return _reduce(n, args[0])
        case "and" | "or" | "xor" | "not":
            return getattr(torch, f"bitwise_{n.op}")(*args)
    return _pointwise(n, args, device)


def _index(n: Node) -> tuple[slice, ...]:
    part = slice(n.attr("start"), n.attr("stop"), n.attr("step"))
    return (*(slice(None),) * n.attr("dim"), part)


def _where(args: list[Any], dtype: torch.dtype, shape: tuple, device: torch.device) -> Any:
    cond, a, b = args
    if not isinstance(cond, torch.Tensor):
        picked = a if cond else b
        return _on(device, picked, dtype).expand(shape)
    return torch.where(cond, _on(device, a, dtype), _on(device, b, dtype))


def _on(device: torch.device, x: Any, dtype: torch.dtype) -> torch.Tensor:
    """A tensor there; a number is filled in, as a copy would have to be waited for."""
    if isinstance(x, torch.Tensor):
        return x.to(device, dtype)
    return torch.full((), x, dtype=dtype, device=device)


def _reduce(n: Node, x: torch.Tensor) -> torch.Tensor:
    dims, keep = n.attr("dims"), n.attr("keepdim")
    if n.op == "prod":
        for d in reversed(dims):
            x = x.prod(dim=d, keepdim=keep)
        return x
    if n.op == "sum":
        return x.sum(dim=dims, keepdim=keep, dtype=n.dtype)
    return getattr(torch, n.op)(x, dim=dims, keepdim=keep)


def _pointwise(n: Node, args: list[Any], device: torch.device) -> torch.Tensor:
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    if not tensors:
        raise AssertionError(f"{n!r} has no tensor argument")
    if isinstance(args[0], torch.Tensor) and n.op not in (
        "maximum",
        "minimum",
        "copysign",
        "atan2",
    ):
        return getattr(torch, n.op)(*args)
    dtype = tensors[0].dtype  # a number first: as a 0-dim tensor of the op's dtype
    args = [a if isinstance(a, torch.Tensor) else _on(device, a, dtype) for a in args]
    return getattr(torch, n.op)(*args)
