"""Who computes what needs a whole tensor, and which elements of it each rank has.

All ranks come to the same without a word: it follows from shapes and placements.
"""

import heapq
import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

__all__ = ["Parts", "Team", "balanced", "cost"]

At = tuple[tuple[int, int], ...]  # places along dims of a mesh: (dim, place)
Box = tuple[Any, ...]  # for each dim a slice, or the places along it


def cost(shape: Sequence[int]) -> int:
    """About how much work a matrix is: m n min(m, n), of a tensor as the matrix of its first dim."""
    m, n = shape[0] if shape else 1, math.prod(shape[1:])
    return m * n * min(m, n)


def balanced(costs: Sequence[float], ranks: int) -> list[int]:
    """An owner for each, the dearest first to whoever has least.

    >>> balanced([3, 5, 2, 4], 2)
    [1, 0, 0, 1]
    """
    loads = [(0.0, rank) for rank in range(ranks)]
    owners = [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        load, owners[i] = loads[0]
        heapq.heapreplace(loads, (load + costs[i], owners[i]))
    return owners


class Team:
    """The ranks that a tensor is split over.

    Attributes:
        group: torch's; `me` is this rank's place in it.
        ranks: their numbers among all processes.
        places: of each rank, dim of the mesh -> its place along it.
    """

    def __init__(self, mesh: Any, dims: Sequence[int]):
        import torch.distributed as dist  # not every torch has it

        here = mesh.get_coordinate()
        at = tuple(slice(None) if i in dims else here[i] for i in range(mesh.ndim))
        ranks = mesh.mesh[at].flatten().tolist()
        self.group, self.device = _group(mesh, dims, ranks), mesh.device_type
        every = product(*(range(mesh.size(i)) for i in dims))
        of = {
            rank: dict(zip(dims, place, strict=True))
            for rank, place in zip(ranks, every, strict=True)
        }
        self.ranks = dist.get_process_group_ranks(self.group)
        self.places = [of[rank] for rank in self.ranks]
        self.me = dist.get_rank(self.group)


class Parts:
    """The elements that each rank of a team has of one tensor.

    Attributes:
        boxes: of each rank, where they are; shapes: of each rank, of its part.
        begins: of each rank, where its rows begin in the memory of the whole; None where they are no rows.
    """

    def __init__(self, shape: Sequence[int], mesh: Any, placements: Sequence[Any], team: Team):
        along = [_along(size, d, mesh, placements) for d, size in enumerate(shape)]
        self.boxes: list[Box] = [tuple(of[_at(of, place)] for of in along) for place in team.places]
        self.shape, self.shapes = tuple(shape), [tuple(map(_length, box)) for box in self.boxes]
        self.begins: list[int] | None = None
        if all(isinstance(box[0], slice) for box in self.boxes if box) and all(
            s[1:] == self.shape[1:] for s in self.shapes
        ):
            row = math.prod(shape[1:])
            self.begins = [box[0].start * row if box else 0 for box in self.boxes]

    def take(self, whole: torch.Tensor, rank: int) -> torch.Tensor:
        """A rank's part of a whole tensor."""
        return whole[self._index(rank, whole.device)]

    def put(self, whole: torch.Tensor, rank: int, part: torch.Tensor) -> None:
        """Put a rank's part into its place."""
        whole[self._index(rank, whole.device)] = part

    def _index(self, rank: int, device: torch.device) -> Box:
        box = self.boxes[rank]
        if all(isinstance(i, slice) for i in box):
            return box
        places = [torch.arange(i.stop)[i] if isinstance(i, slice) else i for i in box]
        last = len(places) - 1
        return tuple(i.view(-1, *(1,) * (last - d)).to(device) for d, i in enumerate(places))


def _along(size: int, d: int, mesh: Any, placements: Sequence[Any]) -> dict[At, Any]:
    """For each place in the dims of the mesh that split a dim, what is there of it."""
    parts = {(): torch.arange(size)}
    for i, placement in enumerate(placements):
        if not placement.is_replicate() and placement.dim == d and mesh.size(i) > 1:
            split = {}
            for at, places in parts.items():
                shaped = places.view((1,) * d + (-1,))
                chunks, _ = placement._split_tensor(shaped, mesh.size(i), with_padding=False)
                split |= {(*at, (i, k)): chunk.reshape(-1) for k, chunk in enumerate(chunks)}
            parts = split
    return {at: _run(places) for at, places in parts.items()}


def _at(of: dict[At, Any], place: dict[int, int]) -> At:
    dims = [i for i, _ in next(iter(of))]
    return tuple((i, place[i]) for i in dims)


def _run(places: torch.Tensor) -> Any:
    """Places one after the other, as a slice."""
    n = len(places)
    if not n:
        return slice(0, 0)
    first = int(places[0])
    return slice(first, first + n) if int(places[-1]) == first + n - 1 else places


def _length(i: Any) -> int:
    return i.stop - i.start if isinstance(i, slice) else len(i)


def _group(mesh: Any, dims: Sequence[int], ranks: Sequence[int]) -> Any:
    """A group of these ranks: the mesh's own, that of all, or one that is made once."""
    import torch.distributed as dist  # not every torch has it

    if len(dims) == 1:
        return mesh.get_group(dims[0])
    if sorted(ranks) == list(range(dist.get_world_size())):
        return dist.group.WORLD
    key = tuple(sorted(ranks)), dist.group.WORLD
    if key not in _groups:
        _groups[key] = dist.new_group(list(key[0]), use_local_synchronization=True)
    return _groups[key]


_groups: dict[Any, Any] = {}
