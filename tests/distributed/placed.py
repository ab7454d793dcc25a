"""Parameters in many placements, and the same in one process: what both come to."""

from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import weft

SHAPES = [(6, 4), (3, 4), (5,), (1, 4), (2, 3, 2), (1,)]  # even, uneven, and smaller than the world


def _nothing_comes(output, *args, **options):
    output.zero_()  # torch's own leaves what was there, and refuses a rank that sends nothing


@contextmanager
def simulated(world):
    """Ranks of which this is the first, and the others do nothing."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    real, dist.all_to_all_single = dist.all_to_all_single, _nothing_comes
    try:
        yield
    finally:
        dist.all_to_all_single = real
        dist.destroy_process_group()


def meshes(world):
    """(mesh, placements) of a matrix; of a vector those that fit."""
    flat = init_device_mesh("cpu", (world,))
    out = [(flat, [Shard(0)]), (flat, [Shard(1)]), (flat, [Replicate()])]
    if world == 4:
        square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
        out += [
            (square, [Replicate(), Shard(0)]),
            (square, [Shard(0), Shard(1)]),
            (square, [Shard(0), Shard(0)]),
        ]
    return out


def placed(world, shapes=SHAPES, dtype=torch.float32, few=False):
    """Parameters and their twins: each shape in each placement (or in two), and one that is plain."""
    generator = torch.Generator().manual_seed(3)
    wholes, out = [], []
    every = meshes(world)
    for mesh, placements in (every[0], every[-2]) if few else every:
        for shape in shapes:
            whole = torch.randn(shape, generator=generator).to(dtype)
            fits = [
                p if not isinstance(p, Shard) or p.dim < len(shape) else Shard(0)
                for p in placements
            ]
            out.append(torch.nn.Parameter(distribute_tensor(whole, mesh, fits)))
            wholes.append(torch.nn.Parameter(whole.clone()))
    whole = torch.randn(4, 3, generator=generator).to(dtype)
    return [*out, torch.nn.Parameter(whole)], [*wholes, torch.nn.Parameter(whole.clone())]


def give_grads(params, twins, step, without=(), spoilt=False):
    """The same grads to both, in the placement of each; `spoilt` ones have a NaN."""
    generator = torch.Generator().manual_seed(100 + step)
    for i, (p, twin) in enumerate(zip(params, twins, strict=True)):
        grad = torch.randn(twin.shape, generator=generator).to(twin.dtype)
        if i in without:
            p.grad = twin.grad = None
            continue
        if spoilt:
            grad.view(-1)[0] = torch.nan
        twin.grad = grad
        if isinstance(p, DTensor):
            grad = distribute_tensor(grad.clone(), p.device_mesh, p.placements)
        p.grad = grad.clone()


def full(x):
    return x.full_tensor() if isinstance(x, DTensor) else x


def close(params, twins, opt, alone, tolerance=1e-6):
    """Parameters and states come to the same, and states lie as their parameters do."""
    for i, (p, twin) in enumerate(zip(params, twins, strict=True)):
        alike(full(p.detach()), full(twin.detach()), tolerance, f"parameter {i}")
        own, other = opt.state.get(p, {}), alone.state.get(twin, {})
        assert list(own) == list(other), (i, list(own), list(other))
        for name, value in own.items():
            alike(full(value), full(other[name]), tolerance, f"{name} of parameter {i}")
            if (
                isinstance(p, DTensor)
                and isinstance(value, torch.Tensor)
                and value.shape == p.shape
            ):
                assert type(value) is DTensor, (i, name)
                assert value.placements == p.placements, (i, name)


def alike(ours, theirs, tolerance, what):
    if not isinstance(theirs, torch.Tensor):
        assert abs(ours - theirs) <= tolerance * abs(theirs), what
        return
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    size = max(0.01, float(theirs.abs().max())) if theirs.numel() else 0.0  # one element may cancel
    torch.testing.assert_close(
        ours, theirs, rtol=tolerance, atol=tolerance * size, msg=lambda m: f"{what}: {m}"
    )


def same(
    world, make, steps=5, tolerance=1e-6, shapes=SHAPES, dtype=torch.float32, loss=None,
    reference="eager", few=False,
):  # fmt: skip
    """`make(params, engine)` on shards, fused, and in one process; gives what it ran on."""
    params, twins = placed(world, shapes, dtype, few)
    opt, alone = make(params, engine="fused"), make(twins, engine=reference)
    for step in range(steps):
        give_grads(params, twins, step)
        drawn = []
        for o in (opt, alone):
            torch.manual_seed(step)
            o.step(loss=loss)
            drawn.append(torch.rand(()))
        assert drawn[0] == drawn[1], "each rank draws what one process does"
    close(params, twins, opt, alone, tolerance)
    return params, twins, opt, alone


def made(name, **options):
    return lambda params, engine: weft.create(name, params, engine=engine, **options)


def matrices(method):
    """A matrix method for the matrices, AdamW for the rest."""

    def make(params, engine):
        params = list(params)
        groups = [
            {"params": [p for p in params if p.ndim == 2], "lr": 0.02},
            {"params": [p for p in params if p.ndim != 2], "cbs": weft.AdamW.chain()},
        ]
        return method(groups, engine=engine)

    return make
