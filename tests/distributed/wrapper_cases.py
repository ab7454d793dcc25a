"""What runs around a step, on FSDP2: as in one process, and resumed from a checkpoint."""

import copy

import torch
from local_cases import net
from placed import alike, close, full, matrices
from torch.distributed.checkpoint import state_dict as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import weft

AROUND = {
    "lookahead": lambda ps, engine: weft.Lookahead(weft.AdamW(ps, lr=0.05, engine=engine), k=2),
    "ema": lambda ps, engine: weft.WeightEMA(weft.AdamW(ps, lr=0.05, engine=engine), decay=0.9),
    "swa": lambda ps, engine: weft.SWA(weft.AdamW(ps, lr=0.05, engine=engine)),
    "sam": lambda ps, engine: weft.SAM(weft.SGD(ps, lr=0.05, momentum=0.9, engine=engine)),
    "asam": lambda ps, engine: weft.ASAM(weft.SGD(ps, lr=0.05, momentum=0.9, engine=engine)),
    "schedulefreeadamw": lambda ps, engine: weft.ScheduleFreeAdamW(ps, lr=0.05, engine=engine),
    "schedulefreesgd": lambda ps, engine: weft.ScheduleFreeSGD(ps, lr=0.05, engine=engine),
}


def batches():
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(8, 5, generator=generator) for _ in range(10)]


def trained(model, opt, of):
    if hasattr(opt, "train"):
        opt.train()
    for x in of:

        def closure(x=x):
            opt.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        opt.step(closure)


METHODS = AROUND | {"muon": matrices(weft.Muon), "soap": matrices(weft.SOAP)}


def sharded(name, mesh=None):
    model = net()
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, METHODS[name](model.parameters(), "fused")


def around_a_step(rank, world):
    for name, make in AROUND.items():
        (model, opt), alone = sharded(name), net()
        other = make(alone.parameters(), "fused")
        trained(model, opt, batches()[:6])
        trained(alone, other, batches()[:6])
        close(list(model.parameters()), list(alone.parameters()), opt, other, 1e-5)
        for o in (opt, other):
            o.eval()
        close(list(model.parameters()), list(alone.parameters()), opt, other, 1e-5)


def both_go_on(model, opt, twin, other, how):
    """The twin takes everything over, and both are trained to the end."""
    saved = copy.deepcopy(dcp.get_state_dict(model, opt, options=how))
    dcp.set_state_dict(
        twin, other, model_state_dict=saved[0], optim_state_dict=saved[1], options=how
    )
    for m, o in ((model, opt), (twin, other)):
        trained(m, o, batches()[4:])


def resumed(rank, world):
    """Exactly, from parts and from whole tensors."""
    for name in METHODS:
        for whole in (False, True):
            (model, opt), (twin, other) = sharded(name), sharded(name)
            trained(model, opt, batches()[:4])
            how = dcp.StateDictOptions(full_state_dict=whole)
            both_go_on(model, opt, twin, other, how)
            for p, q in zip(model.parameters(), twin.parameters(), strict=True):
                assert torch.equal(full(p), full(q)), (name, whole)


def resumed_on_fewer(rank, world):
    """The halves of the world go on as all of it does."""
    if world != 4:
        return
    half = init_device_mesh("cpu", (2, 2), mesh_dim_names=("of", "in"))["in"]
    how = dcp.StateDictOptions(full_state_dict=True)
    for name in METHODS:
        (model, opt), (twin, other) = sharded(name), sharded(name, half)
        trained(model, opt, batches()[:4])
        both_go_on(model, opt, twin, other, how)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            alike(full(q), full(p), 1e-6, name)


CASES = {f.__name__: f for f in (around_a_step, resumed, resumed_on_fewer)}
