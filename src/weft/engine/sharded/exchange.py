"""The collectives of a step: one for all numbers that wait for the same ranks, whatever their tensors.

Ranks hold other shapes and group them into other launches, so numbers are put in an order that all
agree on: that of the parameters, and of the reductions within a chain.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from weft.engine.sharded.shard import Shard

__all__ = ["Column", "Exchange"]

# reduction -> how its parts are combined, and the sign that makes a maximum of it
COMBINED = {
    "sum": ("sum", 1), "amax": ("max", 1), "amin": ("max", -1), "any": ("max", 1), "all": ("max", -1),
    "prod": ("product", 1),
}  # fmt: skip


class Column(NamedTuple):
    """One reduction of the members of a launch.

    Attributes:
        parts, results: memory, one after the other; the numbers of a member lie together.
        name: of the reduction, in its chain.
        owners: of each member its place among all, its shard (None where it is whole), and how
            many numbers it has.
    """

    parts: Sequence[torch.Tensor]
    results: Sequence[torch.Tensor]
    name: str
    op: str
    dims: tuple[int, ...]
    owners: Sequence[tuple[int, Shard | None, int]]


class Exchange:
    """Numbers that are combined at one point of a step."""

    def __init__(self, columns: Sequence[Column]):
        self.parts = [part for c in columns for part in c.parts]
        self.results = [result for c in columns for result in c.results]
        every: list[tuple[int, str, Column, Shard | None, range]] = []
        begin = 0
        for c in columns:
            for place, shard, count in c.owners:
                every.append((place, c.name, c, shard, range(begin, begin + count)))
                begin += count
        groups: dict[Any, list[tuple[range, int]]] = {}
        for _, _, c, shard, numbers in sorted(every, key=lambda x: x[:2]):
            how, sign = COMBINED[c.op]
            for dim in c.dims if shard else ():
                assert shard is not None
                groups.setdefault((shard.mesh, dim, how), []).append((numbers, sign))
        device = self.parts[0].device
        self.reductions = [(*key, *_columns(of, device)) for key, of in groups.items()]

    def run(self) -> None:
        """Combine all parts, and leave the results in their places."""
        flat = torch.cat([part.double() for part in self.parts])
        for mesh, dim, how, at, sign in self.reductions:
            parts = (flat[at] * sign).to(mesh.device_type)
            flat[at] = _combine(parts, how, mesh.get_group(dim)).to(flat.device) * sign
        for result, value in zip(
            self.results, flat.split(list(map(len, self.results))), strict=True
        ):
            result.copy_(value)


def _columns(
    of: Sequence[tuple[range, int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places and signs of numbers."""
    at = [i for numbers, _ in of for i in numbers]
    signs = [float(sign) for numbers, sign in of for _ in numbers]
    return torch.tensor(at, device=device), torch.tensor(signs, device=device).double()


def _combine(parts: torch.Tensor, how: str, group: Any) -> torch.Tensor:
    """Parts of all ranks of a group as one, in place or not."""
    import torch.distributed as dist  # not every torch has it

    if how != "max":
        dist.all_reduce(parts, dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.PRODUCT, group)
        return parts
    nan = parts.isnan()  # collectives are free to lose it
    both = torch.stack([parts.masked_fill(nan, -torch.inf), nan.to(parts.dtype)])
    dist.all_reduce(both, dist.ReduceOp.MAX, group)
    return both[0].masked_fill(both[1] > 0, torch.nan)
