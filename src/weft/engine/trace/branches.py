"""Branches on tensors: a callback is run once for each way through it, and the ways are merged."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from weft.contract.names import MISSING
from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Untraceable
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.tensor import Storage, TensorProxy
from weft.engine.trace.tracer import Path, Tracer, default_dtype

__all__ = ["Outcome", "explore"]

MOST_WAYS = 128


@dataclass(slots=True)
class Outcome:
    """What one run of a callback gave: its result, and what it left in the memory it was given.

    In `result`, a tensor is its node.
    """

    result: Any
    memory: list[tuple[Node, int]]


def explore(
    tracer: Tracer, memory: Sequence[Storage], run: Callable[[], Any],
    current: Callable[[str], Any] = lambda name: MISSING,
) -> Any:  # fmt: skip
    """The result of `run` over all its ways; `memory` is left as they leave it.

    Args:
        tracer: which takes down the branches.
        memory: every storage that the callback may write and that outlives it.
        run: the call.
        current: what a name is worth where one way returns it and another does not, or `MISSING`.
    """
    try:
        outcome = _Ways(tracer, memory, run, current).best([])
    finally:
        tracer.path = Path(())
    for s, (value, version) in zip(memory, outcome.memory, strict=True):
        s.value, s.version = value, version
    return outcome.result


class _Ways:
    """The ways of one call through its branches, each run from the same memory."""

    def __init__(self, tracer: Tracer, memory: Sequence[Storage], run: Any, current: Any):
        self.tracer, self.memory, self.run, self.current = tracer, memory, run, current
        self.before = [(s.value, s.version) for s in memory]
        self.count = 0

    def best(self, prefix: list[bool]) -> Outcome:
        """The outcome of all ways that begin so, a tensor deciding element by element."""
        outcome, order = self._along(prefix)
        taken = [*prefix, *(True,) * (len(order) - len(prefix))]
        for k in reversed(range(len(prefix), len(order))):
            other = self.best([*taken[:k], False])
            outcome = _merge(self.tracer, order[k], outcome, other, self._unreturned)
        return outcome

    def _along(self, prefix: Sequence[bool]) -> tuple[Outcome, list[Node]]:
        self.count += 1
        if self.count > MOST_WAYS:
            raise Untraceable("it has too many ways through its branches on tensors")
        for s, (value, version) in zip(self.memory, self.before, strict=True):
            s.value, s.version = value, version
        self.tracer.path = path = Path(prefix)
        try:
            result = _by_value(self.run())
        except Exception as e:
            if path.order and (line := _line_of(e)):
                raise Untraceable(
                    f"it raises {type(e).__name__} in line {line}, where a tensor decides: no kernel "
                    'does; look before the step, or let on_nonfinite="raise" do it'
                ) from e
            raise
        if path.order and self.tracer.random:
            raise Untraceable("it draws random numbers and branches on a tensor")
        return Outcome(result, [(s.value, s.version) for s in self.memory]), path.order

    def _unreturned(self, outcome: Outcome, name: str) -> Any:
        """What a name is worth on a way that did not return it."""
        value = self.current(name)
        if value is MISSING:
            raise Untraceable(
                f"it returns {name!r} on some of the ways through a branch on a tensor"
            )
        if isinstance(value, TensorProxy):
            for s, (node, _) in zip(self.memory, outcome.memory, strict=True):
                if s is value.storage_:
                    return node
        return _by_value(value)


def _line_of(e: Exception) -> int:
    """The line of a user's code that raised an error; 0 where it came out of a call."""
    frames = list(traceback.walk_tb(e.__traceback__))
    frame, line = frames[-1]
    return 0 if frame.f_globals.get("__name__", "").partition(".")[0] in ("weft", "torch") else line


def _by_value(x: Any) -> Any:
    """A result with its tensors as they are now."""
    if isinstance(x, TensorProxy):
        node = x.read()
        if not x.contig:
            x.tracer.strided.add(node.index)
        return node
    if isinstance(x, dict):
        return {k: _by_value(v) for k, v in x.items()}
    return x


def _merge(
    t: Tracer, cond: Node, a: Outcome, b: Outcome, at: Callable[[Outcome, str], Any]
) -> Outcome:
    memory = [
        (t.where(cond, x, y, x.dtype), max(i, j))
        for (x, i), (y, j) in zip(a.memory, b.memory, strict=True)
    ]
    if isinstance(a.result, dict) or isinstance(b.result, dict):
        one = a.result if isinstance(a.result, dict) else {}
        two = b.result if isinstance(b.result, dict) else {}
        names = list(dict.fromkeys([*one, *two]))
        result: Any = {}
        for n in names:
            x = one[n] if n in one else at(a, n)
            y = two[n] if n in two else at(b, n)
            result[n] = _either(t, cond, x, y)
    else:
        result = _either(t, cond, a.result, b.result)
    return Outcome(result, memory)


def _either(t: Tracer, cond: Node, x: Any, y: Any) -> Any:
    """`x` or `y`, whichever way `cond` goes."""
    if x is y:
        return x
    tensors = (isinstance(x, Node | torch.Tensor), isinstance(y, Node | torch.Tensor))
    if all(tensors):
        a, b = t.tensor(x), t.tensor(y)
        if a.shape == b.shape == () and a.dtype.is_floating_point and b.dtype.is_floating_point:
            return t.where(cond, a, b, torch.promote_types(a.dtype, b.dtype))
        if a.shape != b.shape or a.dtype is not b.dtype:
            raise Untraceable("ways through a branch on a tensor give different shapes or dtypes")
        node = t.where(cond, a, b)
        if not t.strided.isdisjoint((a.index, b.index)):
            t.strided.add(node.index)
        return node
    if any(tensors) and isinstance(number := y if tensors[0] else x, float | int):
        held = t.tensor(x if tensors[0] else y)  # min(lr, tensor): a number or a 0-dim tensor
        if held.shape == () and (held.dtype.is_floating_point or isinstance(number, int)):
            one, two = (held, y) if tensors[0] else (x, held)
            return t.where(cond, one, two, held.dtype)
    if not any(tensors) and isinstance(x, float | int) and isinstance(y, float | int):
        kinds = {v.kind if isinstance(v, Scalar) else type(v) for v in (x, y)}
        if len(kinds) > 1:
            raise Untraceable("ways through a branch on a tensor give different kinds of number")
        if not isinstance(x, Scalar) and not isinstance(y, Scalar) and x == y:
            return x
        kind = kinds.pop()
        wide = torch.float64 if kind is float else default_dtype(kind)
        return Scalar(t, t.where(cond, x, y, wide))
    if type(x) is type(y) and not any(tensors) and x == y:
        return x
    raise Untraceable("ways through a branch on a tensor give different kinds of result")
