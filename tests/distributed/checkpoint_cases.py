"""Checkpoints of torch's kinds, from and to other numbers of ranks and torch.optim; what FSDP2 can be told."""

import copy
import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from local_cases import net
from placed import close, full, matrices
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from wrapper_cases import METHODS, batches, sharded, trained

import weft

FOLDER = "WEFT_TEST_FOLDER"  # told by the test
LEGS = (4, 2, 1, 4)  # ranks, one after the other

# ------------------------------------------------------------ files


def leg(rank, world):
    """Goes on from what another number of ranks saved, comes to what one process does, and saves."""
    folder = Path(os.environ[FOLDER])
    done = len(list(folder.glob("*")))
    begin = 2 * done
    for name in METHODS:
        (model, opt), alone = sharded(name), net()
        if done:
            weights, states = get_state_dict(model, opt)
            dcp.load({"model": weights, "opt": states}, checkpoint_id=folder / f"{done - 1}" / name)
            set_state_dict(model, opt, model_state_dict=weights, optim_state_dict=states)
        trained(model, opt, batches()[begin : begin + 2])
        weights, states = get_state_dict(model, opt)
        dcp.save({"model": weights, "opt": states}, checkpoint_id=folder / f"{done}" / name)
        other = METHODS[name](alone.parameters(), "fused")
        trained(alone, other, batches()[: begin + 2])
        close(list(model.parameters()), list(alone.parameters()), opt, other, 1e-6)


# ------------------------------------------------------------ state dicts

KINDS = [
    {}, {"full_state_dict": True}, {"cpu_offload": True}, {"flatten_optimizer_state_dict": True},
    {"full_state_dict": True, "cpu_offload": True},
]  # fmt: skip


def kinds(rank, world):
    """Each is gone on from exactly."""
    for name in ("ema", "muon"):
        for kind in KINDS:
            (model, opt), (twin, other) = sharded(name), sharded(name)
            trained(model, opt, batches()[:3])
            how = StateDictOptions(**kind)
            saved = copy.deepcopy(get_state_dict(model, opt, options=how))
            if len(kind) == 2:  # of which rank 0 alone is given anything
                dist.broadcast_object_list(held := [saved])
                saved, how = held[0], StateDictOptions(full_state_dict=True)
            set_state_dict(
                twin, other, model_state_dict=saved[0], optim_state_dict=saved[1], options=how
            )
            for m, o in ((model, opt), (twin, other)):
                trained(m, o, batches()[3:6])
            for p, q in zip(model.parameters(), twin.parameters(), strict=True):
                assert torch.equal(full(p), full(q)), (name, kind)


def initialised(rank, world):
    """DCP steps an optimizer once to have its states: neither weights nor grads nor hypers keep a trace."""
    for name in METHODS:
        (model, opt), (twin, other) = sharded(name), sharded(name)
        get_optimizer_state_dict(model, opt)
        assert opt.state
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(full(p), full(q)), name
            assert p.grad is None
        names = {k for b in opt._bound for k in b.binding.hyper_names}
        for group, alone in zip(opt.param_groups, other.param_groups, strict=True):
            assert {k: group[k] for k in names & group.keys()} == {
                k: alone[k] for k in names & alone.keys()
            }


PAIRS = [
    (weft.AdamW, torch.optim.AdamW, {"lr": 0.05}),
    (weft.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
]


def of_torch(rank, world):
    """From torch.optim, and to it."""
    for ours, theirs, options in PAIRS:
        for first, then in ((theirs, ours), (ours, theirs)):
            model, twin = fully_shard(net()), fully_shard(net())
            opt, other = (of(m.parameters(), **options) for of, m in ((first, model), (then, twin)))
            trained(model, opt, batches()[:3])
            twin.load_state_dict(model.state_dict())
            saved = copy.deepcopy(get_optimizer_state_dict(model, opt))
            set_optimizer_state_dict(twin, other, saved)
            for m, o in ((model, opt), (twin, other)):
                trained(m, o, batches()[3:6])
            close(list(twin.parameters()), list(model.parameters()), other, opt, 1e-5)


# ------------------------------------------------------------ FSDP2's options


def policies(rank, world):
    """Compute in bfloat16 on shards in float32; weights that stay gathered, or do not."""
    for policy in (MixedPrecisionPolicy(torch.bfloat16, torch.float32), MixedPrecisionPolicy()):
        for reshard in (True, False):
            both = []
            for of in (weft.AdamW, torch.optim.AdamW):
                model = net()
                for m in (model[0], model):
                    fully_shard(m, mp_policy=policy, reshard_after_forward=reshard)
                opt = of(model.parameters(), lr=0.01)
                trained(model, opt, batches()[:5])
                assert all(p.dtype is torch.float32 for p in model.parameters())
                both.append((list(model.parameters()), opt))
            (ours, opt), (theirs, other) = both
            close(ours, theirs, opt, other, 1e-5)


def scaled(rank, world):
    """An infinity in the grads of one rank: the scaler leaves the step out on all, as with torch's AdamW."""
    held = []
    for of in (weft.AdamW, torch.optim.AdamW):
        model = fully_shard(net())
        opt, scaler = of(model.parameters(), lr=0.05), ShardedGradScaler("cpu", init_scale=8.0)
        for step, x in enumerate(batches()[:4]):
            opt.zero_grad()
            scaler.scale(model(x).square().mean()).backward()
            if step == 2 and rank == 1:
                next(model.parameters()).grad.to_local().view(-1)[0] = torch.inf
            scaler.step(opt)
            scaler.update()
        assert scaler.get_scale() == 4.0
        assert all(own["step"] == 3 for own in opt.state.values())
        held.append((list(model.parameters()), opt))
    (ours, opt), (theirs, other) = held
    close(ours, theirs, opt, other, 1e-5)


def goes_by_dims(rank, world):
    """States of other shapes, flattened: rows, columns and factors."""
    for method in (weft.Adafactor, weft.SOAP):
        make = matrices(method)
        model, twin = fully_shard(net()), fully_shard(net())
        opt, other = make(model.parameters(), "fused"), make(twin.parameters(), "fused")
        how = StateDictOptions(flatten_optimizer_state_dict=True)
        trained(model, opt, batches()[:3])
        twin.load_state_dict(model.state_dict())
        set_optimizer_state_dict(
            twin,
            other,
            copy.deepcopy(get_optimizer_state_dict(model, opt, options=how)),
            options=how,
        )
        for m, o in ((model, opt), (twin, other)):
            trained(m, o, batches()[3:5])
        close(list(twin.parameters()), list(model.parameters()), other, opt, 1e-7)


CASES = {f.__name__: f for f in (kinds, initialised, of_torch, policies, scaled, goes_by_dims)} | {
    "leg": leg
}
