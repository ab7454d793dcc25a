"""Replicas (DDP) stay the same bit for bit; ZeRO-1 by torch's own parts comes to what one process does."""

import copy
import re
from pathlib import Path

import torch
import torch.distributed as dist
from local_cases import net
from placed import close, made, matrices
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

import weft

PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"
METHODS = {
    "adamw": made("adamw", lr=0.05), "lamb": made("lamb", lr=0.05), "muon": matrices(weft.Muon),
    "prodigy": made("prodigy"), "clip": made("adamw+clip_global_norm", lr=0.05),
}  # fmt: skip


def trained(model, step, n, rank=0, world=1):
    """Steps on this rank's part of each batch."""
    generator = torch.Generator().manual_seed(7)
    for _ in range(n):
        model.zero_grad()
        model(torch.randn(8, 5, generator=generator)[rank::world]).square().mean().backward()
        step()


def same_everywhere(model, opt):
    tensors = [*model.parameters(), *(t for own in opt.state.values() for t in own.values())]
    held = torch.cat([torch.as_tensor(t).detach().double().flatten() for t in tensors])
    others = [torch.empty_like(held) for _ in range(dist.get_world_size())]
    dist.all_gather(others, held)
    assert all(torch.equal(held, other) for other in others)
    assert held.isfinite().all()


def replicas(n):
    def case(rank, world):
        for make in METHODS.values():
            model = DistributedDataParallel(net())
            opt = make(model.parameters(), "fused")
            trained(model, opt.step, n, rank, world)
            same_everywhere(model, opt)

    return case


def page():
    """What the page defines for replicas."""
    (block,) = (
        b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "Parts" in b
    )
    names = {"torch": torch, "dist": dist, "weft": weft}
    exec(compile(block, str(PAGE), "exec"), names)
    return names


def consolidated(opt):
    opt.consolidate_state_dict(to=0)
    held = [copy.deepcopy(opt.state_dict()) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(held)
    return held[0]


def whole_parameters(rank, world):
    """Each on one rank; what is consolidated is what one process has, and resumes."""
    model, alone = DistributedDataParallel(net()), net()
    opt = page()["whole_parameters"](model, weft.LAMB, lr=0.05)
    assert isinstance(opt, ZeroRedundancyOptimizer)
    other = weft.LAMB(alone.parameters(), lr=0.05, engine="fused")
    trained(model, opt.step, 4, rank, world)
    trained(alone, other.step, 4)
    assert 0 < len(opt.optim.state) < len(other.state)
    saved, twin = consolidated(opt), DistributedDataParallel(net(1))
    twin.load_state_dict(model.state_dict())
    resumed = ZeroRedundancyOptimizer(twin.parameters(), weft.LAMB, lr=0.05)
    resumed.load_state_dict(saved)
    for m, o in ((model, opt), (twin, resumed)):
        trained(m, o.step, 4, rank, world)
    trained(alone, other.step, 4)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        exact = (
            world == 2
        )  # DDP has other buckets in its first step, in which more ranks add otherwise
        torch.testing.assert_close(p, q, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6)
    back = weft.LAMB(model.parameters(), lr=0.05)
    back.load_state_dict(consolidated(opt))
    close(list(model.parameters()), list(alone.parameters()), back, other, 1e-5)


def parts(rank, world):
    """Cut as the page says; values over all parameters are those of the whole."""
    for make in METHODS.values():
        model, alone = DistributedDataParallel(net()), net()
        cut = page()["Parts"](model)
        opt, other = make(cut.params, "fused"), make(alone.parameters(), "fused")
        trained(model, lambda cut=cut, opt=opt: cut.step(opt), 5, rank, world)
        trained(alone, other.step, 5)
        close(cut.params, list(alone.parameters()), opt, other, 1e-4)
        for p, q in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


CASES = {
    "replicas": replicas(10), "replicas_for_long": replicas(500),
    "whole_parameters": whole_parameters, "parts": parts,
}  # fmt: skip
