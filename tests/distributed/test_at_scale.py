"""What docs/distributed.md says of 8 to 4,096 ranks, counted: the tensors of a 7B model on a simulated mesh.

Of the model each size is a 128th, and of an owner's room the square of that: as many rounds, 1/16384 of
the bytes. What is told of the owners is of the true sizes.
"""

import math
import re
import sys
from pathlib import Path

import pytest
import torch
from placed import simulated
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import weft
from weft.bench.ranks import counting
from weft.engine.runtime import on_owners
from weft.engine.sharded.owners import balanced, cost

PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"
MATRICES = ([(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]) * 32
VECTORS = [(4096,)] * 65
SCALE = 128
ROUND = 1 << 26
COSTS = list(map(cost, MATRICES))


def small(shape):
    return tuple(n // SCALE for n in shape)


def stepped(world, make):
    """What a step takes: bytes and collectives, and calls of functions, Python's and torch's."""
    mesh = init_device_mesh("cpu", (world,))
    params = [
        torch.nn.Parameter(
            distribute_tensor(torch.randn(small(shape)), mesh, [Shard(0)], src_data_rank=None)
        )
        for shape in MATRICES + VECTORS
    ]
    for p in params:
        p.grad = torch.ones_like(p)
    opt = make(params)
    for _ in range(3):
        opt.step()
    with counting() as count:
        opt.step()
    calls = 0

    def called(frame, event, arg):
        nonlocal calls
        calls += event.endswith("call")

    sys.setprofile(called)
    try:
        opt.step()
    finally:
        sys.setprofile(None)
    return count["collectives"], count["bytes"], calls


def muon(params):
    groups = [
        {"params": [p for p in params if p.ndim == 2], "cbs": weft.Muon.chain(lr=0.01)},
        {"params": [p for p in params if p.ndim == 1], "cbs": weft.AdamW.chain(lr=0.01)},
    ]
    return weft.Optimizer(groups, engine="fused")


def by(name):
    return lambda params: weft.create(name, params, lr=0.01, engine="fused")


def owned(world):
    """Of each rank, the matrices that it owns."""
    out = [[] for _ in range(world)]
    for shape, owner in zip(MATRICES, balanced(COSTS, world), strict=True):
        out[owner].append(shape)
    return out


def rounds(world):
    """How many: an owner begins another where it has taken in as much as it has room for."""
    most = 0
    for own in owned(world):
        many, held = 1, 0
        for shape in own:
            many, held = (many + 1, 0) if held >= ROUND else (many, held)
            held += 4 * math.prod(shape)
        most = max(most, many)
    return most


def part(shape, world, rank):
    """The bytes of a rank's part: rows, in chunks as torch cuts them, and a multiple of 64."""
    m, n = small(shape)
    chunk = math.ceil(m / world)
    return math.ceil(4 * max(0, min(chunk, m - rank * chunk)) * n / 64) * 64


def from_first(world):
    """What the first rank sends: its parts of the others' matrices, and to the others those of its own."""
    own = owned(world)[0]
    there = sum(part(s, world, 0) for s in MATRICES) - sum(part(s, world, 0) for s in own)
    return there + sum(part(s, world, rank) for s in own for rank in range(1, world))


@pytest.mark.parametrize("world", [8, 64, 1024])
def test_collectives_and_bytes(world, monkeypatch):
    monkeypatch.setattr(on_owners, "ROUND", ROUND // SCALE**2)
    with simulated(world):
        assert stepped(world, by("adamw"))[:2] == (1, 16)
        assert stepped(world, by("lamb"))[:2] == (2, 16 + 2 * 8 * len(MATRICES + VECTORS))
        collectives, sent, _ = stepped(world, muon)
    assert collectives == 2 + 2 * rounds(world)
    assert sent == 16 + 8 + from_first(world)


def test_the_host_does_not_count_ranks(monkeypatch):
    """No more calls at 1,024 than at 64, for the rank that owns what the first one does."""
    calls = {}
    for world in (64, 1024):
        with simulated(world):
            for name, make in {"adamw": by("adamw"), "lamb": by("lamb"), "muon": muon}.items():
                calls[name, world] = stepped(world, make)[2]
    for name in ("adamw", "lamb", "muon"):
        assert calls[name, 1024] <= 1.1 * calls[name, 64], calls


def test_owners_are_even():
    """Within a tenth up to 64 ranks; then a matrix is more than a rank's share, and the page says so."""
    told = re.findall(r"^\| ([\d,]+) \| (\d+) \| ([\d.]+) \|", PAGE.read_text(), flags=re.M)
    assert [int(n.replace(",", "")) for n, *_ in told] == [2**i for i in range(3, 13)]
    for ranks, many, busiest in told:
        world = int(ranks.replace(",", ""))
        work = [sum(map(cost, own)) for own in owned(world)]
        even = sum(COSTS) / world
        assert rounds(world) == int(many)
        assert max(work) / even == pytest.approx(float(busiest), abs=0.01)
        assert max(work) <= even + max(COSTS)
        if world <= 64:
            assert 0.9 * even < min(work) <= max(work) < 1.1 * even
        elif world >= 256:
            assert max(work) == max(COSTS)
