"""Chains without reductions, on shards: each step is the local part of the step on the whole."""

import torch
from placed import close, give_grads, made, placed, same
from torch.distributed.device_mesh import init_device_mesh

import weft


def adamw(rank, world):
    same(world, made("adamw", lr=0.05, amsgrad=True))


def sgd(rank, world):
    same(world, made("sgd", lr=0.05, momentum=0.9, nesterov=True))


def states_that_callbacks_make(rank, world):
    """Empty shards have them too, so that all ranks hold the same names."""

    def average(update, average=None):
        average = update if average is None else average.lerp(update, 0.1)
        return {"average": average, "update": average}

    chain = weft.chain(average, weft.callbacks.descend, lr=0.1)
    same(world, lambda params, engine: chain(params, engine=engine))


def numbers_of_the_shape_are_of_the_whole(rank, world):
    def by_size(p, grad, lr):
        return {"p": p - lr * grad * (p.numel() + len(p.shape) + p.shape[0]) / 100}

    same(world, lambda params, engine: weft.Optimizer(params, [by_size], lr=0.1, engine=engine))


def bfloat16(rank, world):
    same(world, made("adamw", lr=0.05), dtype=torch.bfloat16)


def frozen_unused_and_late(rank, world):
    params, twins = placed(world)
    make = made("adamw", lr=0.05)
    some = [i for i in range(len(params)) if i % 4]
    opt = make([params[i] for i in some], engine="fused")
    alone = make([twins[i] for i in some], engine="eager")
    params[some[0]].requires_grad_(False)
    twins[some[0]].requires_grad_(False)
    for step in range(6):
        give_grads(params, twins, step, without=(some[0], some[1 + step % 3]))
        if step == 3:
            late = [i for i in range(len(params)) if not i % 4]
            opt.add_param_group({"params": [params[i] for i in late], "lr": 0.01})
            alone.add_param_group({"params": [twins[i] for i in late], "lr": 0.01})
        opt.step()
        alone.step()
    close(params, twins, opt, alone)


def hypers_that_change(rank, world):
    params, twins = placed(world)
    opt, alone = made("adamw", lr=0.05)(params, "fused"), made("adamw", lr=0.05)(twins, "eager")
    for step in range(5):
        for o in (opt, alone):
            o.param_groups[0]["lr"] = 0.05 / (step + 1)
        give_grads(params, twins, step)
        opt.step()
        alone.step()
    assert opt.explain().builds <= 2
    close(params, twins, opt, alone)


def clipped_before(rank, world):
    params, twins = placed(world, shapes=[(6, 4), (3, 4), (1, 4)])
    params, twins = params[:3], twins[:3]  # of one mesh, as torch's function wants them
    opt, alone = made("adamw", lr=0.05)(params, "fused"), made("adamw", lr=0.05)(twins, "eager")
    for step in range(3):
        give_grads(params, twins, step)
        torch.nn.utils.clip_grad_norm_(params, 0.5)
        torch.nn.utils.clip_grad_norm_(twins, 0.5)
        opt.step()
        alone.step()
    close(params, twins, opt, alone, 1e-5)


def state_dicts(rank, world):
    """What is loaded is used, and a state dict holds DTensors."""
    params, twins, opt, alone = same(world, made("adamw", lr=0.05), steps=2)
    saved, other = opt.state_dict(), made("adamw", lr=0.05)(params, "fused")
    other.load_state_dict(saved)
    for step in range(2, 4):
        give_grads(params, twins, step)
        other.step()
        alone.step()
    close(params, twins, other, alone)


def state_of_one_process(rank, world):
    """A state dict of plain tensors is cut as the parameters are."""
    params, twins, opt, alone = same(world, made("adamw", lr=0.05), steps=2)
    opt.load_state_dict(alone.state_dict())
    give_grads(params, twins, 2)
    opt.step()
    alone.step()
    close(params, twins, opt, alone)


def net(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3), torch.nn.Linear(3, 1)
    )


def trained(model, opt, n=4):
    generator = torch.Generator().manual_seed(7)
    for _ in range(n):
        opt.zero_grad()
        model(torch.randn(8, 5, generator=generator)).square().mean().backward()
        opt.step()


def fsdp(rank, world, mesh=None, model=None, name="adamw"):
    """FSDP2 around a model, uneven and empty shards and all."""
    from torch.distributed.fsdp import fully_shard

    make, model, alone = made(name, lr=0.05), model or net(), net()
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    opt, other = make(model.parameters(), "fused"), make(alone.parameters(), "eager")
    trained(model, opt)
    trained(alone, other)
    close(list(model.parameters()), list(alone.parameters()), opt, other, 1e-5)


def hybrid(rank, world):
    """Replicas of shards: a mesh of two dims."""
    fsdp(rank, world, init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("r", "s")))


def tensor_parallel(rank, world, name="adamw"):
    """FSDP over tensor parallelism: shards of shards, strided where both split the rows."""
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    mesh = init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("dp", "tp"))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    model = parallelize_module(net(), mesh["tp"], plan)
    fsdp(rank, world, mesh["dp"], model, name)


CASES = {
    f.__name__: f
    for f in (
        adamw, sgd, states_that_callbacks_make, numbers_of_the_shape_are_of_the_whole, bfloat16,
        frozen_unused_and_late, hypers_that_change, clipped_before, state_dicts, state_of_one_process,
        fsdp, hybrid, tensor_parallel,
    )
}  # fmt: skip
