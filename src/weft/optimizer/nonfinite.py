"""What a step does about gradients with infinities or NaNs: decided for the whole, before it writes."""

from collections.abc import Iterator
from math import isfinite
from typing import Any

import torch

from weft.contract.declare import LOW
from weft.contract.groups import BoundGroup
from weft.engine.sharded.agreement import most as largest
from weft.engine.sharded.agreement import union
from weft.errors import NonFiniteError

__all__ = ["POLICIES", "Skips", "culprits", "policy", "refusal"]

POLICIES = ("keep", "skip", "raise")


def policy(name: str) -> str:
    """`name`, if it is one of the policies.

    Raises:
        ValueError: for another name.

    >>> policy("skip")
    'skip'
    """
    if name not in POLICIES:
        raise ValueError(f"on_nonfinite must be one of {POLICIES}, not {name!r}")
    return name


def culprits(groups: list[BoundGroup]) -> list[str]:
    """The parameters whose grad has an infinity or a NaN, in words: on any rank, where there are several.

    Every grad is read once. The Euclidean norm is what torch reads fastest (the largest magnitude
    takes twenty times as long on a CPU); it is finite only where all elements are. Where it is not,
    a sum of squares may have overflown, so such a grad, and only such a one, is looked at again.
    """
    alike: dict[Any, list[tuple[BoundGroup, int, torch.Tensor]]] = {}
    for found in _grads(groups):
        alike.setdefault((found[2].device, found[2].dtype), []).append(found)
    suspects: list[tuple[BoundGroup, int, torch.Tensor]] = []
    for (_, dtype), found in alike.items():
        wide = torch.float32 if dtype in LOW else None  # float16 ends at 65504
        norms = torch.stack(torch._foreach_norm([g for *_, g in found], 2, wide))
        if not norms.isfinite().all():
            suspects += [f for f, n in zip(found, norms.tolist(), strict=True) if not isfinite(n)]
    own = {(b.index, i, b.name_of(i)) for b, i, grad in suspects if not bool(grad.isfinite().all())}
    return [name for _, _, name in sorted(union(_meshes(groups), own))]


class Skips:
    """The steps that were left out: how many, and the parameters for which the last of them was.

    What a device has decided is read from it when somebody asks.
    """

    def __init__(self, steps: int = 0, names: tuple[str, ...] = ()):
        self._steps, self._names = steps, names
        self._counted: torch.Tensor | None = None  # on the device, besides
        self._bad: torch.Tensor | None = None  # of `looked_at`, in the last of those
        self._looked_at: list[str] = []

    def add(self, names: tuple[str, ...]) -> None:
        """One more, for these parameters."""
        self._steps, self._names = self.steps + 1, names
        self._counted = self._bad = None

    @property
    def steps(self) -> int:
        """How many; a device that counts is waited for."""
        return self._steps + (0 if self._counted is None else int(self._counted))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in words."""
        bad = [] if self._bad is None else self._bad.tolist()
        found = tuple(n for n, b in zip(self._looked_at, bad, strict=False) if b)
        return found or self._names

    def decide(self, groups: list[BoundGroup]) -> torch.Tensor | None:
        """1 where a grad has an infinity or a NaN, else 0, on the device, which counts such steps.

        The largest magnitude is finite only where all elements are. None where there is no grad.
        """
        grads = {(b.index, i): g for b, i, g in _grads(groups) if g.numel()}
        meshes = _meshes(groups)  # whose ranks all take part, with as many numbers
        if not grads and not meshes:
            return None
        every = [(b, i) for b in groups for i in range(len(b.params))]
        device = next(p.device for b in groups for p in b.params)
        found = torch._foreach_norm(list(grads.values()), torch.inf) if grads else ()
        norms = dict(zip(grads, found, strict=True))
        nothing = torch.zeros((), device=device)
        # in double, where what is finite stays so
        most = [norms.get((b.index, i), nothing).to(device, torch.float64) for b, i in every]
        bad = ~torch.stack(most).isfinite()
        for mesh in meshes:
            bad = largest(bad.float(), mesh) > 0
        names = [b.name_of(i) for b, i in every]
        if self._bad is None or self._counted is None or names != self._looked_at:
            self._steps, self._names = self.steps, self.names  # what was counted so far
            self._counted = torch.zeros((), dtype=torch.int64, device=device)
            self._bad, self._looked_at = torch.zeros_like(bad), names
        left_out = bad.any()
        self._counted.add_(left_out)
        self._bad.copy_(torch.where(left_out, bad, self._bad))
        return left_out.float()


def _meshes(groups: list[BoundGroup]) -> list[Any]:
    """Of the parameters that are DTensors."""
    every: list[Any] = [p for b in groups for p in b.params]
    return list(dict.fromkeys(p.device_mesh for p in every if hasattr(p, "device_mesh")))


def refusal(names: list[str]) -> NonFiniteError:
    """The error that names all of them, the first in full."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return NonFiniteError(
        f"the grad of parameter {names[0]}{more} has an infinity or a NaN; nothing has been "
        "stepped. on_nonfinite='skip' leaves such steps out, 'keep' takes them",
        names,
    )


def _grads(groups: list[BoundGroup]) -> Iterator[tuple[BoundGroup, int, torch.Tensor]]:
    for bound in groups:
        for i, p in enumerate(bound.params):
            if (grad := p.grad) is not None:
                here = _here(p, grad) if hasattr(grad, "to_local") else grad
                yield bound, i, here.coalesce().values() if here.is_sparse else here


def _here(p: Any, grad: Any) -> torch.Tensor:
    """What is local of a DTensor's grad; sums that wait for other ranks are those of the step."""
    placed = grad.placements == p.placements
    return (grad if placed else grad.redistribute(p.device_mesh, p.placements)).to_local()
