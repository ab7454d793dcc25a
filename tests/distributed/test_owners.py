"""Who computes what, and where its elements are: told by every rank alone, without a process but this one."""

import math

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

import weft
from weft.engine.sharded.owners import Parts, Team, balanced

D = 32
BLOCK = [(3 * D, D), (D, D), (4 * D, D), (D, 4 * D)]  # a layer of a GPT


@pytest.fixture
def world(request):
    """A mesh of ranks of which this is the first, and the others do nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=request.param)
    yield request.param
    dist.destroy_process_group()


def test_the_dearest_come_first():
    assert balanced([3, 5, 2, 4], 2) == [1, 0, 0, 1]
    assert balanced([], 3) == []
    assert sorted(balanced([1] * 6, 3)) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("world", [2, 4, 8], indirect=True)
def test_work_is_even_within_a_tenth(world):
    """The matrices of a GPT of twelve layers."""
    mesh = init_device_mesh("cpu", (world,))
    params = [
        torch.nn.Parameter(distribute_tensor(torch.randn(shape), mesh, [Shard(0)]))
        for shape in BLOCK * 12
    ]
    opt = weft.Muon(params, engine="fused")
    for p in params:
        p.grad = torch.ones_like(p)
    opt.step()
    owners = opt.explain().owners
    assert [o.rank for o in owners] == list(range(world))
    assert sum(len(o.parameters) for o in owners) == len(params)
    for o in owners:
        assert 0.9 / world < o.work < 1.1 / world


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
