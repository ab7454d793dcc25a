"""What the callbacks of a graph reduce, in words."""

from typing import Any

from weft.engine.ir.graph import Graph, Node
from weft.engine.ir.ops import REDUCED

__all__ = ["reductions"]

KINDS = {"prod": "product", "amax": "max", "amin": "min"}


def reductions(graph: Graph, shape: tuple[int, ...]) -> dict[str, list[str]]:
    """Callback -> what it reduces of a parameter of this shape: "mean over each row".

    What several callbacks reduce alike is computed once, and is said of the first.
    """
    live = list(graph.live())
    means = {n.args[0].index for n in live if n.op == "div" and _divides_by_count(n)}
    found: dict[str, dict[str, None]] = {}
    for n in live:
        if n.op in REDUCED:
            kind = "mean" if n.index in means else _kind(n)
        elif n.op == "call" and n.shape == () and n.args and n.args[0].numel > 1:
            kind = _name(n.attr("fn"))
        else:
            continue
        found.setdefault(n.source, {})[f"{kind} over {_extent(n, shape)}"] = None
    return {source: list(words) for source, words in found.items()}


def _divides_by_count(n: Node) -> bool:
    """Whether a division makes a mean of a sum."""
    total, by = n.args
    if total.op != "sum" or by.op != "const":
        return False
    return by.attr("value") * total.numel == total.args[0].numel


def _kind(n: Node) -> str:
    squares = n.args[0].op == "mul" and n.args[0].args[0] is n.args[0].args[1]
    return "sum of squares" if n.op == "sum" and squares else KINDS.get(n.op, n.op)


def _name(fn: Any) -> str:
    return getattr(fn, "__name__", type(fn).__name__).partition(".")[0]


def _extent(n: Node, shape: tuple[int, ...]) -> str:
    """What is reduced: all of the parameter, each row of it, a vector that a callback has made."""
    of = n.args[0].shape or ()
    whole = "the parameter"
    if of != shape:
        whole = "a vector" if max(of, default=1) == n.args[0].numel else "a value of its own"
    dims = n.attr("dims", ())
    if n.numel == 1 or n.op == "call":
        return whole
    if of == shape and len(shape) == 2:
        return "each column" if dims == (0,) else "each row"
    return f"dims {', '.join(map(str, dims))} of {whole}"
