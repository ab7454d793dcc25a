"""Matrix methods: each matrix is computed whole by one rank, and comes to what one process has."""

import pytest
import torch
import torch.distributed as dist
from local_cases import net, trained
from placed import close, full, give_grads, made, placed, same
from placed import matrices as by_dims
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

import weft
from weft.callbacks import descend
from weft.engine.runtime import on_owners

MATRICES = [(6, 4), (3, 4), (1, 4), (4, 4)]


def matrices(rank, world):
    """Of every placement, uneven and empty parts and all, beside one that is plain."""
    same(world, made("muon"), steps=10, tolerance=1e-5, shapes=MATRICES, reference="fused")


def with_states(rank, world):
    """Of rows, which are split as they are, and of whole factors and bases."""
    for name in ("normuon", "soap"):
        same(world, made(name), tolerance=1e-5, shapes=MATRICES[:2], reference="fused", few=True)


def weights_of_convolutions(rank, world):
    """A weight of more dims is a matrix of its rows, whichever dim is split."""
    for name, shapes in (
        ("muon", [(3, 2, 2, 2)]),
        ("normuon", [(3, 2, 2, 2)]),
        ("soap", [(4, 2, 3)]),
    ):
        same(world, made(name), tolerance=1e-5, shapes=shapes, reference="fused", few=True)


def random_numbers(rank, world):
    """They are those of one process, in parts or beside matrix work; no rank waits for them."""

    def noisy(update):
        return {"update": update + 0.1 * torch.randn_like(update)}

    def sketched(update):
        basis = torch.randn(update.shape[-1], 2)
        return {"update": update @ basis @ basis.T}

    for cb in (noisy, sketched):
        chain = weft.chain(cb, descend, lr=0.1)
        same(
            world,
            lambda ps, engine, chain=chain: chain(ps, engine=engine),
            tolerance=1e-5,
            shapes=MATRICES,
        )
    params, twins = placed(world, shapes=[(6, 4)])
    opt = weft.chain(noisy, descend, lr=0.1)(params, engine="fused")
    for step in range(2):
        give_grads(params, twins, step)
        with CommDebugMode() as mode:
            opt.step()
    assert mode.get_total_counts() == (3 if world == 4 else 1)  # that ranks step alike


def in_bfloat16(rank, world):
    same(world, made("muon"), shapes=MATRICES, dtype=torch.bfloat16, tolerance=2e-2, few=True)


def in_rounds(rank, world):
    """As many as an owner has room for at once."""
    held, on_owners.ROUND = on_owners.ROUND, 100
    try:
        same(world, made("muon"), tolerance=1e-5, shapes=MATRICES * 3, reference="fused", few=True)
    finally:
        on_owners.ROUND = held


def collectives(rank, world):
    """Four for all that a mesh has: that ranks step alike, there, whether all went well, and back."""
    for many in (1, 10):
        params, twins = placed(world, shapes=[(6, 4), (3, 4)] * many, few=True)
        opt = made("muon")(params[: 2 * many], "fused")
        for step in range(2):
            give_grads(params, twins, step)
            with CommDebugMode() as mode:
                opt.step()
        assert mode.get_total_counts() == 4, mode.get_comm_counts()


def owners_are_told(rank, world):
    """The same on all ranks: who computes what, and what it costs to send."""
    mesh = init_device_mesh("cpu", (world,))
    sizes = [(64, 32), (32, 32), (8, 16), (16, 8)] * 4
    params = [nn.Parameter(distribute_tensor(torch.randn(s), mesh, [Shard(0)])) for s in sizes]
    opt = made("muon")([(f"w{i}", p) for i, p in enumerate(params)], "fused")
    for p in params:
        p.grad = torch.ones_like(p)
    opt.step()
    told = opt.explain().owners
    assert [o.rank for o in told] == list(range(world))
    assert sorted(n for o in told for n in o.parameters) == sorted(f"w{i}" for i in range(16))
    assert max(o.work for o in told) < 1.1 / world
    elements = sum(p.numel() for p in params)
    away = 4 * elements * (world - 1) // world
    assert sum(o.gathers for o in told) == sum(o.returns for o in told) == away
    assert f"rank {world - 1} computes" in str(opt.explain())
    everywhere = [None] * world
    dist.all_gather_object(everywhere, told)
    assert all(other == told for other in everywhere)


def after_a_clip_over_all(rank, world):
    """Regions that wait for a value over all parameters, shards of some and whole others."""
    make = made("muon+clip_global_norm")
    same(world, make, tolerance=1e-5, shapes=MATRICES, reference="fused", few=True)


def a_failure_is_that_of_all(rank, world):
    """The owner says what went wrong; nobody waits for it, and nothing is stepped."""

    def inverse(update):
        return {"update": torch.linalg.inv(update)}

    params, twins = placed(world, shapes=[(4, 4), (4, 4)], few=True)
    plain = params[-1]  # has nothing to wait for
    groups = [{"params": params[:2]}, {"params": [plain], "cbs": weft.AdamW.chain()}]
    opt = weft.Optimizer(groups, [inverse, descend], lr=0.1, engine="fused")
    give_grads(params, twins, 0)
    opt.step()
    params = [*params[:2], plain]
    before = [full(p.detach()).clone() for p in params]
    params[1].grad = torch.zeros_like(params[1])
    with pytest.raises(weft.StepError, match=r"inverse|another rank"):
        opt.step()
    for p, held in zip(params, before, strict=True):
        assert torch.equal(full(p.detach()), held)
    params[1].grad = torch.ones_like(params[1]) + params[0].grad
    opt.step()


def beside_elementwise(rank, world):
    """FSDP2, matrices by one method and the rest by another."""
    from torch.distributed.fsdp import fully_shard

    model, twin = net(), net()
    fully_shard(model[0])
    fully_shard(model)
    make = by_dims(weft.Muon)
    opt, alone = make(model.parameters(), "fused"), make(twin.parameters(), "fused")
    trained(model, opt, 5)
    with CommDebugMode() as mode:
        opt.step()
    assert (
        mode.get_total_counts() == 4
    )  # that ranks step alike; there, whether all went well, and back
    trained(twin, alone, 5)
    alone.step()
    close(list(model.parameters()), list(twin.parameters()), opt, alone, 1e-5)


CASES = {
    f.__name__: f
    for f in (
        matrices,
        with_states,
        weights_of_convolutions,
        random_numbers,
        in_bfloat16,
        in_rounds,
        collectives,
        owners_are_told,
        after_a_clip_over_all,
        a_failure_is_that_of_all,
        beside_elementwise,
    )
}
