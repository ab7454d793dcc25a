"""What two processes do together; each check is one function, run in both of them."""

import copy
import json
import os
import sys
import traceback

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import state_dict as dcp
from torch.nn.parallel import DistributedDataParallel

import weft


def net(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))


def batches(n, rank=None):
    """The same batches everywhere; each process takes its half of every one."""
    generator = torch.Generator().manual_seed(7)
    for _ in range(n):
        x = torch.randn(8, 4, generator=generator)
        yield x if rank is None else x[rank::2]


def train(model, opt, rank=None, n=4):
    for x in batches(n, rank):
        opt.zero_grad()
        model(x).square().mean().backward()
        opt.step()


def close(ours, theirs, tolerance=1e-5):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=tolerance, atol=tolerance)


def alone(cls, n=4, **options):
    model = net()
    opt = cls(model.parameters(), **options)
    train(model, opt, n=n)
    return model, opt


def ddp(rank):
    model = net()
    opt = weft.AdamW(model.parameters(), lr=0.05)
    train(DistributedDataParallel(model), opt, rank)
    close(model.parameters(), alone(torch.optim.AdamW, lr=0.05)[0].parameters())


def zero_redundancy(rank):
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = net()
    opt = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=weft.AdamW, lr=0.05)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 1.0)
    train(DistributedDataParallel(model), opt, rank)
    scheduler.step()
    close(model.parameters(), alone(torch.optim.AdamW, lr=0.05)[0].parameters())
    opt.consolidate_state_dict(to=0)
    if rank == 0:
        saved = opt.state_dict()
        assert len(saved["state"]) == 4
        one, _ = alone(weft.AdamW, lr=0.05)
        whole = weft.AdamW(one.parameters(), lr=0.05)
        whole.load_state_dict(saved)


def shard(name, **options):
    from torch.distributed.fsdp import fully_shard

    model = net()
    for layer in (model[0], model[2]):
        fully_shard(layer)
    fully_shard(model)
    return model, getattr(weft, name)(model.parameters(), **options)


def sharded(name, rank, **options):
    model, opt = shard(name, **options)
    train(model, opt, rank)
    reference, _ = alone(getattr(torch.optim, name), **options)
    close([p.full_tensor() for p in model.parameters()], reference.parameters())
    for p in model.parameters():
        for key, value in opt.state[p].items():
            assert key == "step" or type(value) is type(p.data), (key, type(value))


def fsdp_adamw(rank):
    sharded("AdamW", rank, lr=0.05, amsgrad=True)


def fsdp_sgd(rank):
    sharded("SGD", rank, lr=0.05, momentum=0.9, nesterov=True)


def fsdp_reductions(rank):
    """What a chain sums over the parameter is summed over its shards."""
    model, opt = shard("LAMB", lr=0.05)
    train(model, opt, rank)
    close(
        [p.full_tensor() for p in model.parameters()],
        alone(weft.LAMB, lr=0.05)[0].parameters(),
    )


def fsdp_over_params(rank):
    norm = weft.over_params("norm_sq", lambda grad: grad.square().sum())

    def clip(grad, norm_sq, max_norm=0.1):
        return {"grad": grad * (max_norm / norm_sq.sqrt()).clamp(max=1)}

    chain = weft.chain(norm, clip, weft.callbacks.descend, lr=0.5)
    model, _ = shard("SGD")
    train(model, chain(model.parameters()), rank)
    other = net()
    train(other, chain(other.parameters()))
    close([p.full_tensor() for p in model.parameters()], other.parameters())


def fsdp_checkpoint(rank):
    """A full state dict of a sharded optimizer, made anew, goes into one that has never stepped."""
    model, opt = shard("AdamW", lr=0.05)
    train(model, opt, rank)
    options = dcp.StateDictOptions(full_state_dict=True)
    saved = dcp.get_optimizer_state_dict(model, opt, options=options)
    twin, other = shard("AdamW", lr=0.05)
    full = copy.deepcopy(saved) if rank == 0 else {}
    dcp.set_optimizer_state_dict(
        twin,
        other,
        full,
        options=dcp.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True),
    )
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        for key, value in opt.state[p].items():
            held = other.state[q][key]
            value, held = (
                v.full_tensor() if hasattr(v, "full_tensor") else v for v in (value, held)
            )
            assert torch.equal(value, held), key


CHECKS = {
    f.__name__: f
    for f in (
        ddp, zero_redundancy, fsdp_adamw, fsdp_sgd, fsdp_reductions, fsdp_over_params, fsdp_checkpoint,
    )
}  # fmt: skip


def main(rank, folder):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    failures = {}
    for name, check in CHECKS.items():
        try:
            check(rank)
        except Exception:
            failures[name] = traceback.format_exc()
            break  # the other process may be waiting in a collective that this one has left
    with open(os.path.join(folder, f"{rank}.json"), "w") as f:
        json.dump(failures, f)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
