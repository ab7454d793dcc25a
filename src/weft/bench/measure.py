"""Timing: interleaved, so that what else the machine does touches all sides alike."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

__all__ = ["Race", "bandwidth", "parameters", "race"]


class Race(NamedTuple):
    """Seconds a step of each side, round by round."""

    times: dict[str, list[float]]

    def median(self, side: str) -> float:
        """The median of a side's steps, in seconds."""
        return statistics.median(self.times[side])

    def least(self, side: str) -> float:
        """The fastest step of a side, in seconds."""
        return min(self.times[side])

    def ratio(self, a: str, b: str) -> float:
        """The median, over rounds, of what `a` took to what `b` took.

        >>> Race({"a": [1.0, 2.0], "b": [2.0, 4.0]}).ratio("a", "b")
        0.5
        """
        return statistics.median(x / y for x, y in zip(self.times[a], self.times[b], strict=True))


def parameters(shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    """Parameters of these shapes with grads."""
    torch.manual_seed(0)
    out: list[torch.Tensor] = []
    for shape in shapes:
        p = torch.nn.Parameter(torch.randn(shape) * 0.02)
        p.grad = torch.randn_like(p)
        out.append(p)
    return out


def race(
    sides: Mapping[str, Callable[[], Any]], seconds: float, rounds: tuple[int, int] = (5, 400)
) -> Race:
    """Run all sides in turn, A B A B, for about so many seconds.

    Python's garbage collector waits meanwhile: it would charge one side with what all have made.
    """
    for step in sides.values():
        for _ in range(2):
            step()
    times: dict[str, list[float]] = {name: [] for name in sides}
    gc.collect()
    collected = gc.isenabled()
    gc.disable()
    try:
        until = time.perf_counter() + seconds
        for n in range(rounds[1]):
            if n >= rounds[0] and time.perf_counter() > until:
                break
            for name, step in sides.items():
                begin = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - begin)
    finally:
        if collected:
            gc.enable()
    return Race(times)


def bandwidth(megabytes: int = 256, rounds: int = 7) -> float:
    """Bytes read and written a second by torch's copy, the best of some rounds."""
    a = torch.ones(megabytes << 18)
    b = torch.empty_like(a).copy_(a)
    best = min(_timed(lambda: b.copy_(a)) for _ in range(rounds))
    return 2 * 4 * a.numel() / best


def _timed(what: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    what()
    return time.perf_counter() - begin
