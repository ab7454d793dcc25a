"""Chains that reduce: what is of a tensor, or of all of them, is so on shards; the rest is refused."""

import warnings

import pytest
import torch
from local_cases import net, tensor_parallel, trained
from placed import alike, close, full, give_grads, made, placed, same

import weft
from weft.engine.runtime import programs
from weft.engine.sharded.across import NotOnShards

OF_TENSORS = {
    "lamb": {"lr": 0.01}, "lars": {"lr": 0.1, "momentum": 0.9}, "stableadamw": {"lr": 0.01},
    "adamw+cautious": {"lr": 0.01},
}  # fmt: skip
OF_DIMS = {"adafactor": {"lr": 0.01}, "came": {"lr": 0.01}}
FEW = [(3, 4), (5,), (1,)]
OVER_ALL = {"prodigy": {}, "dog": {}, "adamw+clip_global_norm": {"lr": 0.01}}


def of_tensors(rank, world):
    for name, options in OF_TENSORS.items():
        same(world, made(name, **options), shapes=FEW, few=True)


def of_dims(rank, world):
    """Rows and columns: along a dim that is split, and along one that is not."""
    for name, options in OF_DIMS.items():
        same(world, made(name, **options), shapes=[(6, 4), (3, 4), (5,), (1, 4), (3, 2, 2)])


def over_all(rank, world):
    for name, options in OVER_ALL.items():
        same(world, made(name, **options), shapes=FEW, few=True)


def of_every_kind(rank, world):
    """Extremes, counts, products and questions; a NaN in one shard is a NaN in all."""

    def kinds(p, grad, lr):
        top, low = grad.max(), grad.abs().min()
        share = (grad > 0).float().mean() + (grad > 2).any() + (grad < 3).all()
        product = (1 + grad / 100).prod() + grad.std() + grad.norm(1)
        return {"p": p - lr * (grad * top + low + share * product)}

    make = lambda params, engine: weft.Optimizer(params, [kinds], lr=0.01, engine=engine)
    same(world, make, shapes=[(6, 4), (3, 4), (5,), (2, 3, 2)])
    params, twins = placed(world, shapes=[(6, 4)])
    opt, alone = make(params, "fused"), make(twins, "eager")
    give_grads(params, twins, 0, spoilt=True)
    opt.step()
    alone.step()
    assert all(full(p.detach()).isnan().all() for p in params)
    assert all(twin.isnan().all() for twin in twins)


def norms(rank, world):
    """stats() tells those of the whole."""
    params, twins = placed(world)
    opt, alone = made("adamw", lr=0.05)(params, "fused"), made("adamw", lr=0.05)(twins, "eager")
    for o in (opt, alone):
        o.collect_stats()
    give_grads(params, twins, 0)
    opt.step()
    alone.step()
    for key, said in alone.stats().items():
        for name, value in said.items():
            alike(opt.stats()[key][name], value, 1e-5, (key, name))


def collectives(rank, world):
    """One, by which ranks know that they step alike; as many for twenty tensors as for two."""
    from torch.distributed.tensor.debug import CommDebugMode

    counts = {}
    for name in ("adamw", "lamb", "adafactor"):
        for many in (1, 10):
            params, twins = placed(world, shapes=[(6, 4), (3, 4)] * many, few=True)
            opt = made(name, lr=0.01)(params, "fused")
            for step in range(2):
                give_grads(params, twins, step)
                with CommDebugMode() as mode:
                    opt.step()
            counts[name, many] = mode.get_total_counts()
    alike = 3 if world == 4 else 1  # a dim of a mesh has one
    assert counts["adamw", 1] == counts["adamw", 10] == alike, counts
    assert counts["lamb", 1] == counts["lamb", 10] > alike, counts
    assert counts["adafactor", 1] == counts["adafactor", 10] > alike, counts


def shards_of_shards(rank, world):
    """FSDP over tensor parallelism, where both split the same rows."""
    for name in ("lamb", "adafactor"):
        tensor_parallel(rank, world, name)


def on_nonfinite(rank, world):
    """A NaN in one shard leaves the step out everywhere, whatever else there is."""
    params, twins = placed(world, shapes=[(6, 4), (3, 4)])
    opt = made("adamw", lr=0.01, on_nonfinite="skip")(params, "fused")
    before = [full(p.detach()).clone() for p in params]
    give_grads(params, twins, 0, spoilt=True)
    params[-1].grad = torch.ones_like(params[-1])
    opt.step()
    assert opt.skipped_steps == 1
    for p, held in zip(params, before, strict=True):
        assert torch.equal(full(p.detach()), held)
    give_grads(params, twins, 0)
    opt.step()
    assert opt.skipped_steps == 1
    assert not torch.equal(full(params[0].detach()), before[0])


def checkpoints(rank, world):
    """torch's own: what one optimizer has, another goes on from, whole or in parts."""
    import copy

    from torch.distributed.checkpoint import state_dict as dcp
    from torch.distributed.fsdp import fully_shard

    def sharded():
        model = fully_shard(net())
        return model, made("adafactor", lr=0.05)(model.parameters(), "fused")

    for whole in (False, True):
        (model, opt), (twin, other) = sharded(), sharded()
        trained(model, opt)
        how = dcp.StateDictOptions(full_state_dict=whole)
        saved = copy.deepcopy(dcp.get_state_dict(model, opt, options=how))
        dcp.set_state_dict(
            twin, other, model_state_dict=saved[0], optim_state_dict=saved[1], options=how
        )
        for m, o in ((model, opt), (twin, other)):
            trained(m, o)
        close(list(twin.parameters()), list(model.parameters()), other, opt)


def drawn_from(p, grad, lr):
    return {"p": p - lr * grad * torch.bernoulli(grad.sigmoid())}


def shifted(p, grad, lr):
    return {"p": p - lr * (grad + THERE)}


THERE = torch.ones(6, 4)


def captured(rank, world):
    """A tensor that a callback has captured is whole on every rank."""
    make = lambda ps, engine: weft.Optimizer(ps, [shifted], lr=0.1, engine=engine)
    params, twins = (ps[:-1] for ps in placed(world, shapes=[(6, 4)]))
    opt, alone = make(params, "fused"), make(twins, "eager")
    for step in range(2):
        give_grads(params, twins, step)
        opt.step()
        alone.step()
    close(params, twins, opt, alone)


def refused(rank, world):
    """What cannot be right is refused, with the callback and the reason."""
    params, twins = placed(world, shapes=[(6, 4)])
    before = [full(p.detach()).clone() for p in params]
    give_grads(params, twins, 0)
    with pytest.raises(weft.StepError, match=r"drawn_from .* random numbers"):
        weft.Optimizer(params, [drawn_from], lr=0.1, engine="fused").step()
    for p, held in zip(params, before, strict=True):
        assert torch.equal(full(p.detach()), held)


def left_to_torch(rank, world):
    def refuse(traced, example, binding, whole):
        raise NotOnShards("for a test, and the parameter is spread over ranks")

    params, twins = placed(world, shapes=[(6, 4)])
    params, twins = params[:-1], twins[:-1]
    opt, alone = made("muon", lr=0.01)(params, "auto"), made("muon", lr=0.01)(twins, "eager")
    combined, programs.combined = programs.combined, refuse
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for step in range(2):
                give_grads(params, twins, step)
                opt.step()
                alone.step()
    finally:
        programs.combined = combined
    assert sum("spread over ranks" in str(w.message) for w in said) == 1
    for p, twin in zip(params, twins, strict=True):
        alike(full(p.detach()), twin.detach(), 1e-4, "muon")


def one_that_cannot(rank, world):
    """What fails on one rank alone is run fused by none; else the others would wait for it."""
    failing(rank, world, made("lamb", lr=0.01), at=0)


def one_that_cannot_any_more(rank, world):
    """Nor what fails when a chain goes another way, later."""

    def later(p, grad, lr, step):
        return {"p": p - lr * grad / (1 + grad.norm()) if step < 3 else p - lr * grad * grad.norm()}

    failing(
        rank, world, lambda ps, engine: weft.Optimizer(ps, [later], lr=0.1, engine=engine), at=2
    )


def failing(rank, world, make, at):
    """From step `at` on, one rank can build nothing."""
    from weft.engine.fallback import Unavailable
    from weft.engine.runtime.programs import ProgramCache

    def fails(*args):
        raise Unavailable("this rank has no compiler")

    params, twins = placed(world, shapes=[(6, 4)])
    params, twins = params[:-1], twins[:-1]
    opt, alone = make(params, "auto"), make(twins, "eager")
    trace = ProgramCache.trace
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for step in range(5):
                if step == at and rank == 1:
                    ProgramCache.trace = fails
                give_grads(params, twins, step)
                opt.step()
                alone.step()
    finally:
        ProgramCache.trace = trace
    assert ("this rank has no compiler" if rank == 1 else "another rank") in str(said[-1].message)
    close(params, twins, opt, alone, 1e-5)


CASES = {
    f.__name__: f
    for f in (
        of_tensors,
        of_dims,
        over_all,
        collectives,
        on_nonfinite,
        shards_of_shards,
        checkpoints,
        of_every_kind,
        norms,
        captured,
        refused,
        left_to_torch,
        one_that_cannot,
        one_that_cannot_any_more,
    )
}
