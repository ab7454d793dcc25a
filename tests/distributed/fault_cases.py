"""What one rank alone has: all take the same decision, or say alike in what they differ."""

import os
import re
import signal
import time
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from placed import full, give_grads, made, placed
from torch.distributed.checkpoint import CheckpointException

import weft
from weft.callbacks import descend
from weft.engine.sharded import agreement
from weft.optimizer.nonfinite import Skips

TIMEOUT = 10  # seconds that collectives wait
VICTIM = 1


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(*args, **kwargs):
    time.sleep(2 * TIMEOUT)
    die()


@contextmanager
def ends_in_time():
    """With an error of torch's, before or when collectives end their waiting."""
    begin = time.monotonic()
    with pytest.raises((RuntimeError, CheckpointException), match=r"gloo|[Tt]imed out"):
        yield
    assert time.monotonic() - begin < TIMEOUT + 5


def unlike(said, change, name="adamw", at=0, **options):
    """Every rank raises, in the same words, and nothing is stepped."""

    def case(rank, world):
        params, twins = placed(world, shapes=[(6, 4), (3, 4)])
        opt = made(name, lr=0.01, **options)([params[-1], *params[:-1]], "fused")
        for step in range(at + 1):
            give_grads(params, twins, step)
            if step == at and rank == 1:
                opt = change(opt, params) or opt
            if step < at:
                opt.step()
        before = [full(p.detach()).clone() for p in params]
        with pytest.raises(weft.StepError, match=said) as e:
            opt.step()
        assert "Nothing has been stepped" in str(e.value)
        for p, held in zip(params, before, strict=True):
            assert torch.equal(full(p.detach()), held)

    return case


def without_a_grad(opt, params):
    params[0].grad = None


def another_lr(opt, params):
    opt.param_groups[0]["lr"] = 0.02


def another_chain(opt, params):
    return weft.Optimizer([params[-1], *params[:-1]], [descend], lr=0.01, engine="fused")


def another_group(opt, params):
    groups = [{"params": [params[-1], *params[:2]]}, {"params": params[2:-1]}]
    return weft.AdamW(groups, lr=0.01, engine="fused")


def fewer(opt, params):
    return weft.AdamW(params[1:], lr=0.01, engine="fused")


MISSING = r"the grad of parameter 1 of group 0 \(6, 4\) is there on rank 0, and missing on rank 1"
CASES = {
    "missing": unlike(MISSING, without_a_grad),
    "missing_later": unlike(MISSING, without_a_grad, at=2),
    "missing_in_a_sum": unlike(MISSING, without_a_grad, "lamb", at=2),
    "missing_matrix": unlike(MISSING, without_a_grad, "muon", at=2),
    "missing_where_grads_are_looked_at": unlike(MISSING, without_a_grad, on_nonfinite="skip"),
    "hypers": unlike("'lr' of group 0 is 0.01 on rank 0, and 0.02 on rank 1", another_lr),
    "hypers_later": unlike(
        "'lr' of group 0 is 0.01 on rank 0, and 0.02 on rank 1", another_lr, at=2
    ),
    "chains": unlike("the chain of group 0 is weight_decay, .*, and descend on", another_chain),
    "groups": unlike("the number of groups is 1 on rank 0, and 2 on rank 1", another_group),
    "parameters": unlike("the number of parameters of group 0 is", fewer),
}


def not_finite(rank, world):
    """One element of one rank's shard: all leave the step out, or all say which parameter it was."""
    for policy in ("skip", "raise"):
        params, twins = placed(world, shapes=[(6, 4), (3, 4)])
        opt = made("adamw", lr=0.01, on_nonfinite=policy)(params, "fused")
        give_grads(params, twins, 0)
        if rank == 1:
            params[0].grad.to_local().view(-1)[0] = torch.inf
        before = [full(p.detach()).clone() for p in params]
        assert Skips().decide(opt._bound) == 1  # as a device does by itself
        if policy == "skip":
            opt.step()
            assert len(opt.nonfinite) == opt.skipped_steps == 1
        else:
            with pytest.raises(
                weft.NonFiniteError, match=re.escape("parameter 0 of group 0 (6, 4) ")
            ):
                opt.step()
        for p, held in zip(params, before, strict=True):
            assert torch.equal(full(p.detach()), held)
        give_grads(params, twins, 1)
        opt.step()
        assert not torch.equal(full(params[0].detach()), before[0])


def read_later(rank, world):
    """As on a GPU, where the step that ranks differ in is taken, and the next is refused on all."""
    at_once, agreement.AT_ONCE = agreement.AT_ONCE, ()
    try:
        params, twins = placed(world, shapes=[(6, 4), (3, 4)])
        opt = made("adamw", lr=0.01)(params, "fused")
        for step in range(3):
            give_grads(params, twins, step)
            if step == 2 and rank == 1:
                params[0].grad = None
            opt.step()
        give_grads(params, twins, 3)
        with pytest.raises(weft.StepError, match="in the last step, ranks differ"):
            opt.step()
        opt.step()
    finally:
        agreement.AT_ONCE = at_once


def killed(rank, world):
    """The last: the others end with an error."""
    params, twins = placed(world, shapes=[(6, 4)])
    opt = made("lamb", lr=0.01)(params, "fused")
    for step in range(2):
        give_grads(params, twins, step)
        opt.step()
    if rank == VICTIM:
        dist.all_reduce = die
    with ends_in_time():
        opt.step()


CASES |= {"not_finite": not_finite, "read_later": read_later, "killed": killed}
