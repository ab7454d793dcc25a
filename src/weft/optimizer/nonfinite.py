"""What a step does about gradients with infinities or NaNs: decided for the whole, before it writes."""

from collections.abc import Iterator
from math import isfinite
from typing import Any

import torch

from weft.contract.declare import LOW
from weft.contract.groups import BoundGroup
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
    """The parameters whose grad has an infinity or a NaN, in words.

    Every grad is read once. The Euclidean norm is what torch reads fastest (the largest magnitude
    takes twenty times as long on a CPU); it is finite only where all elements are. Where it is not,
    a sum of squares may have overflown, so such a grad, and only such a one, is looked at again.
    """
    alike: dict[Any, list[tuple[BoundGroup, int, torch.Tensor]]] = {}
    for found in _grads(groups):
        grad: Any = found[2]
        spread = (grad.device_mesh, grad.placements) if hasattr(grad, "device_mesh") else None
        alike.setdefault((grad.device, grad.dtype, spread), []).append(found)
    suspects: list[tuple[BoundGroup, int, torch.Tensor]] = []
    for (_, dtype, _), found in alike.items():
        wide = torch.float32 if dtype in LOW else None  # float16 ends at 65504
        norms = _whole(torch.stack(torch._foreach_norm([g for *_, g in found], 2, wide)))
        if not norms.isfinite().all():
            suspects += [f for f, n in zip(found, norms.tolist(), strict=True) if not isfinite(n)]
    named = [(b.index, i, b) for b, i, grad in suspects if not bool(_whole(grad.isfinite().all()))]
    return [b.name_of(i) for _, i, b in sorted(named, key=lambda n: n[:2])]


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
        found = [f for f in _grads(groups) if f[2].numel()]
        if not found:
            return None
        most = [n.to(torch.float32) for n in torch._foreach_norm([g for *_, g in found], torch.inf)]
        device = most[0].device
        bad = ~_whole(torch.stack([n.to(device) for n in most])).isfinite()
        names = [b.name_of(i) for b, i, _ in found]
        if self._bad is None or self._counted is None or names != self._looked_at:
            self.__init__(self.steps, self.names)
            self._counted = torch.zeros((), dtype=torch.int64, device=device)
            self._bad, self._looked_at = torch.zeros_like(bad), names
        left_out = bad.any()
        self._counted.add_(left_out)
        self._bad.copy_(torch.where(left_out, bad, self._bad))
        return left_out.float()


def _whole(t: Any) -> torch.Tensor:
    """What all ranks know of a value together: they have to decide alike."""
    return t.full_tensor() if hasattr(t, "full_tensor") else t


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
                yield bound, i, grad.coalesce().values() if grad.is_sparse else grad
