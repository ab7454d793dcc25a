"""Nothing is built again because a value has changed; what is specialised is bounded."""

import math
import warnings

import pytest
import torch
from test_run import adam

import weft
from weft.callbacks import descend

SHAPES = ((4, 3), (5,), (2, 3, 2))


def decay(p, lr, weight_decay=0.01):
    return {"p": p * (1 - lr * weight_decay)}


def pair(cbs=(adam, decay, descend), **hypers):
    """The eager optimizer and the fused one, of the same parameters in two groups."""
    out = []
    for engine in ("eager", "fused"):
        torch.manual_seed(0)
        a, b, c = (torch.nn.Parameter(torch.randn(s)) for s in SHAPES)
        groups = [{"params": [a, b]}, {"params": [c]}]
        out.append(weft.Optimizer(groups, list(cbs), engine=engine, **{"lr": 0.1, **hypers}))
    return out


def step(opts, seed, without=(), **kwargs):
    for opt in opts:
        torch.manual_seed(seed)
        for i, p in enumerate(p for g in opt.param_groups for p in g["params"]):
            g = torch.randn(p.shape)
            p.grad = None if i in without else g
        opt.step(**kwargs)


def agree(opts, builds=1):
    a, b = opts
    for g, h in zip(a.param_groups, b.param_groups, strict=True):
        for p, q in zip(g["params"], h["params"], strict=True):
            torch.testing.assert_close(q, p, rtol=2e-5, atol=2e-5)
    assert b.explain().builds == builds
    assert b.explain().fallbacks == []


CHANGES = {
    "lr": lambda g, i: g.update(lr=0.1 / (1 + i)),
    "an int lr": lambda g, i: g.update(lr=i % 3),
    "betas": lambda g, i: g.update(betas=(0.9 - i / 50, 0.99 + i / 5000)),
    "eps": lambda g, i: g.update(eps=10.0 ** -(3 + i)),
    "weight_decay": lambda g, i: g.update(weight_decay=i / 10),
    "all": lambda g, i: g.update(
        lr=0.1 / (1 + i), betas=(0.8, 0.9 + i / 100), weight_decay=0.1 * i
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_hypers_that_change_at_every_step(what):
    opts = pair()
    for i in range(8):
        for opt in opts:
            for k, g in enumerate(opt.param_groups):
                CHANGES[what](g, i + k)
        step(opts, i)
    # an int is read as another kind of number: once more, and then never again
    agree(opts, opts[1].explain().builds)
    assert opts[1].explain().builds <= (2 if what == "an int lr" else 1)


def test_tensor_hypers_written_in_place_and_replaced():
    opts = pair(lr=torch.tensor(0.1))
    for i in range(8):
        for opt in opts:
            for g in opt.param_groups:
                if i % 2:
                    g["lr"].fill_(0.1 / (1 + i))
                else:
                    g["lr"] = torch.tensor(0.05 * (1 + i))
        step(opts, i)
    agree(opts)


def test_the_loss_changes():
    def polyak(update, loss):
        return {"update": update * min(float(loss), 2.0)}

    opts = pair([polyak, descend])
    for i in range(6):
        step(opts, i, loss=torch.tensor(0.5 + i))
    agree(opts, opts[1].explain().builds)
    assert opts[1].explain().builds <= 2


def test_schedulers_drive_lr_and_momentum():
    opts = pair()
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=10) for opt in opts
    ]
    for i in range(9):
        step(opts, i)
        for s in schedules:
            s.step()
    agree(opts)


def test_grads_that_come_and_go():
    opts = pair()
    for i, without in enumerate([(), (0,), (1, 2), (), (0, 1, 2), (2,), ()]):
        step(opts, i, without)
    agree(opts)


def test_step_counts_that_differ():
    opts = pair()
    for i in range(9):
        step(opts, i, without=[k for k in range(3) if i < 2 * k])
    counts = {float(s["step"]) for s in opts[1].state.values()}
    assert counts == {9.0, 7.0, 5.0}
    agree(opts)


def test_groups_added_frozen_and_thawed():
    opts = pair()
    for i in range(10):
        for opt in opts:
            if i == 2:
                torch.manual_seed(5)
                opt.add_param_group({"params": [torch.nn.Parameter(torch.randn(6, 2))], "lr": 0.03})
            if i == 4:
                opt.freeze_to(-1)
            if i == 6:
                opt.unfreeze()
        step(opts, i)
    agree(opts)


def test_state_loaded_and_cleared():
    opts = pair()
    for i in range(3):
        step(opts, i)
    for opt in opts:
        opt.load_state_dict(opt.state_dict())
    step(opts, 3)
    for opt in opts:
        opt.clear_state()
    for i in range(4, 7):
        step(opts, i)
    agree(opts)


def test_a_branch_on_a_number_is_one_build_for_each_outcome():
    def warm_up(update, step, warm=3):
        return {"update": update * step / warm} if step < warm else {"update": update}

    def maybe(p, lr, weight_decay=0.0):
        return {"p": p * (1 - lr * weight_decay)} if weight_decay != 0 else None

    opts = pair([warm_up, maybe, descend])
    for i in range(12):
        for opt in opts:
            opt.set_hypers(weight_decay=0.1 * (i % 2))
        step(opts, i)
    builds = opts[1].explain().builds
    assert builds <= 4
    assert opts[1].explain().variants <= 4
    for i in range(12, 18):
        for opt in opts:
            opt.set_hypers(weight_decay=0.1 * (i % 2) + i)
        step(opts, i)
    agree(opts, builds)


def test_numbers_of_state_and_of_math_stay_symbolic():
    def counts(update, lr, n=weft.state(0.0)):
        n = n + 1.0
        return {"n": n, "update": update / (1 + math.log1p(n) * math.sqrt(lr))}

    opts = pair([counts, descend])
    for i in range(8):
        for opt in opts:
            opt.set_hypers(lr=0.1 / (1 + i))
        step(opts, i)
    agree(opts)


def test_what_is_specialised_is_bounded():
    def pick(update, step):
        return {"update": update * list(range(1, 100))[step % 50]}

    a, _ = pair([pick, descend], lr=1e-3)
    torch.manual_seed(0)
    x, y, z = (torch.nn.Parameter(torch.randn(s)) for s in SHAPES)
    groups = [{"params": [x, y]}, {"params": [z]}]
    b = weft.Optimizer(groups, [pick, descend], engine="auto", lr=1e-3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for i in range(15):
            step((a, b), i)
    assert ["more than" in str(w.message) for w in said] == [True]
    assert b.explain().builds <= 8
    for p, q in zip(a.param_groups[0]["params"], b.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(q, p)


@pytest.mark.parametrize("scope", ["optimizer", "group"])
def test_groups_with_a_value_over_all_parameters_share_a_kernel(scope):
    total = weft.over_params("total", lambda grad: grad.square().sum(), scope=scope)

    def shrink(update, total=total):
        return {"update": update / total.sqrt()}

    ends = []
    for engine in ("eager", "fused"):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(4, 3)) for _ in range(12)]
        groups = [{"params": params[i::4], "lr": 0.01 * (i + 1)} for i in range(4)]
        opt = weft.chain(shrink, weft.callbacks.ema, weft.callbacks.descend, lr=0.1)(
            groups, engine=engine
        )
        for _ in range(3):
            for p in params:
                p.grad = torch.randn_like(p)
            opt.step()
        ends.append(params)
    assert opt.explain().builds == 1
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(p, q)
