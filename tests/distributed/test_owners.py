"""Who computes what, and where its elements are: told by every rank alone, without a process but this one."""

import math

import pytest
import torch
from placed import simulated
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

from weft.engine.sharded.owners import Parts, Team, balanced


@pytest.fixture
def world(request):
    with simulated(request.param):
        yield request.param


def test_the_dearest_come_first():
    assert balanced([3, 5, 2, 4], 2) == [1, 0, 0, 1]
    assert balanced([], 3) == []
    assert sorted(balanced([1] * 6, 3)) == [0, 0, 1, 1, 2, 2]


SPREAD = [
    [Shard(0), Replicate()], [Shard(0), Shard(1)], [Shard(0), Shard(0)], [Shard(1), Shard(0)],
    [_StridedShard(0, split_factor=2), Shard(0)], [Replicate(), Shard(2)],
]  # fmt: skip


@pytest.mark.parametrize("world", [4], indirect=True)
@pytest.mark.parametrize("placements", SPREAD, ids=str)
@pytest.mark.parametrize("shape", [(7, 3, 5), (8, 4, 2), (1, 1, 1)])
def test_parts_are_those_of_torch(world, placements, shape):
    mesh = init_device_mesh("cpu", (2, 2))
    split = [i for i, p in enumerate(placements) if not p.is_replicate()]
    team = Team(mesh, split)
    parts = Parts(shape, mesh, placements, team)
    whole = torch.arange(math.prod(shape)).view(shape)
    local = distribute_tensor(whole, mesh, placements, src_data_rank=None).to_local()
    assert torch.equal(parts.take(whole, team.me), local)
    back = torch.full(shape, -1)
    for rank, size in enumerate(parts.shapes):
        part = parts.take(whole, rank)
        assert part.shape == size
        parts.put(back, rank, part)
    assert torch.equal(back, whole)
    assert sum(map(math.prod, parts.shapes)) == whole.numel()
