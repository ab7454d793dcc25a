"""What was saved by an earlier version, and how: a short run, its state dict and its pickle, and how it went on.

`python tests/optimizer/saved/job.py VERSION` writes `VERSION.pt.xz` with the weft that is on the path. A file is written
once, before what saves or loads is changed, and never again.
"""

import io
import lzma
import pickle
import sys
import warnings
from functools import partial
from pathlib import Path

import torch

import weft
from weft import callbacks as cb

SHAPES = ((6, 4), (5,), (3, 2, 2, 2))
STEPS = 3

# beside every optimizer: wrappers, modifiers, chains of a user's own
SPECS = tuple(
    f"adamw+{modifier}"
    for modifier in (
        "lookahead(k=2)", "outernesterov(k=2)", "weightema", "swa(start=1, every=1)", "lawa(window=2, every=1)",
        "gpa", "trac", "mechanic", "sam", "asam", "clip_global_norm", "centralize", "cautious",
    )
)  # fmt: skip


def counted(grad, n=0, seen=weft.zeros, total=weft.shared(0.0)):
    """A callback with a number, a tensor and a shared value as its state."""
    return {"n": n + 1, "seen": seen + grad, "total": total + 1.0, "update": seen + grad}


CHAINS = {
    "two chains": lambda ps, **more: weft.Optimizer(
        [{"params": ps[:1], "cbs": weft.Muon.chain()}, {"params": ps[1:], "cbs": weft.AdamW.chain()}],
        lr=0.02, **more,
    ),
    "of one's own": partial(weft.Optimizer, cbs=[counted, cb.descend], lr=0.02),
}  # fmt: skip


def jobs():
    """The names of all that is saved."""
    return [*weft.list_optimizers(), *SPECS, *CHAINS]


def make(name, params):
    """The optimizer of that name, eager: so that what it saves depends on no compiler."""
    if name in CHAINS:
        return CHAINS[name](params, engine="eager")
    return weft.create(name, params, engine="eager")


def start(name):
    """The parameters, of those shapes that the optimizer takes."""
    gen = torch.Generator().manual_seed(3)
    params = [torch.nn.Parameter(torch.randn(s, generator=gen)) for s in SHAPES]
    return [p for p in params if takes(name, p)] if name not in CHAINS else params


def takes(name, p):
    try:
        make(name, [p])
    except ValueError:
        return False
    return True


def train(opt, begin, end):
    """Steps `begin` to `end` on grads that the step's number decides."""
    params = [p for group in opt.param_groups for p in group["params"]]
    for t in range(begin, end):
        torch.manual_seed(t)
        grads = [torch.randn_like(p) + 0.5 for p in params]

        def closure(grads=grads):
            loss = sum((g * (p + 0.1 * p**3)).sum() for p, g in zip(params, grads, strict=True))
            found = torch.autograd.grad(loss, params, create_graph=True)
            for p, g in zip(params, found, strict=True):
                p.grad = g
            return loss

        for p, g in zip(params, grads, strict=True):
            p.grad = g
        opt.step(closure) if opt.needs_closure else opt.step(loss=2 / (1 + 0.1 * t))
    return [p.detach().clone() for p in params]


def run(name):
    """All that is kept of one job."""
    params = start(name)
    opt = make(name, params)
    kept = {"params": train(opt, 0, STEPS), "state_dict": opt.state_dict()}
    for p in params:
        p.grad = None
    try:
        kept["pickle"] = pickle.dumps(opt)
    except Exception as e:  # a job that could not be pickled then is only loaded
        kept["why not"] = f"{type(e).__name__}: {e}"
    kept = pickle.loads(pickle.dumps(kept))  # the run goes on in the same tensors
    kept["after"] = train(opt, STEPS, 2 * STEPS)
    return kept


def read(version):
    """Every job of a file."""
    with lzma.open(Path(__file__).with_name(f"{version}.pt.xz")) as f:
        return torch.load(io.BytesIO(f.read()), weights_only=False)


if __name__ == "__main__":
    # pickled under the name that a test imports it by
    sys.path[:0] = [str(Path(__file__).parents[1])]
    from saved import job

    warnings.simplefilter("ignore")
    buffer = io.BytesIO()
    torch.save({name: job.run(name) for name in job.jobs()}, buffer)
    path = Path(__file__).with_name(f"{sys.argv[1]}.pt.xz")
    path.write_bytes(lzma.compress(buffer.getvalue()))
    print(path.name, path.stat().st_size)
