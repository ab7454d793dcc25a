"""Every scheduler of torch drives weft as it drives torch.optim."""

import warnings

import pytest
import torch
from contract_problems import advance, give_grads, mixed, parameters, same
from torch.optim import lr_scheduler as s

import weft

SCHEDULERS = {
    "LambdaLR": lambda o: s.LambdaLR(o, lambda t: 0.9**t),
    "MultiplicativeLR": lambda o: s.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: s.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: s.MultiStepLR(o, [2, 5], 0.5),
    "ConstantLR": lambda o: s.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: s.LinearLR(o, 0.1, total_iters=5),
    "ExponentialLR": lambda o: s.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: s.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: s.CosineAnnealingLR(o, 6),
    "CosineAnnealingWarmRestarts": lambda o: s.CosineAnnealingWarmRestarts(o, 3),
    "OneCycleLR": lambda o: s.OneCycleLR(o, 0.1, total_steps=10),
    "CyclicLR": lambda o: s.CyclicLR(o, 0.01, 0.1, step_size_up=3, cycle_momentum=True),
    "SequentialLR": lambda o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 3), s.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, 3), s.ExponentialLR(o, 0.9)]
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.05, anneal_epochs=4),
}
TENSORS = {"0-dim": (), "1-dim": (1,), "2-dim": (1, 1)}


def test_no_scheduler_is_left_out():
    known = {*SCHEDULERS, "LRScheduler", "ReduceLROnPlateau"}
    assert set(s.__all__) <= known


@pytest.mark.parametrize("momentum", ["betas", "momentum"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_drives_weft_as_it_drives_torch(name, momentum):
    ours, theirs = parameters(), parameters()
    if momentum == "betas":
        a, b = weft.AdamW(ours, lr=0.1), torch.optim.AdamW(theirs, lr=0.1, foreach=False)
    else:
        a, b = (c.SGD(p, lr=0.1, momentum=0.9) for c, p in ((weft, ours), (torch.optim, theirs)))
    schedulers = SCHEDULERS[name](a), SCHEDULERS[name](b)
    for t in range(10):
        for opt, params, scheduler in zip((a, b), (ours, theirs), schedulers, strict=True):
            advance(opt, params, 1, t)
            scheduler.step()
        assert a.param_groups[0]["lr"] == b.param_groups[0]["lr"]
        assert a.param_groups[0][momentum] == b.param_groups[0][momentum]
        same(ours, theirs)


def test_reduce_on_plateau():
    params = parameters()
    opt = weft.AdamW(params, lr=0.1)
    scheduler = s.ReduceLROnPlateau(opt, factor=0.5, patience=1)
    for t in range(5):
        advance(opt, params, 1, t)
        scheduler.step(1.0)
    assert opt.param_groups[0]["lr"] == 0.025


@pytest.mark.parametrize("name", SCHEDULERS)
def test_two_groups_with_chains_of_their_own_follow_a_scheduler(name):
    params, opt = mixed(lr=0.1)
    scheduler = SCHEDULERS[name](opt)
    seen = []
    for t in range(10):
        advance(opt, params, 1, t)
        scheduler.step()
        seen.append([g["lr"] for g in opt.param_groups])
    assert len({tuple(v) for v in seen}) > 1
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize("first", ["betas first", "momentum first"])
@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_momentum_is_cycled_under_the_name_that_each_groups_chain_has(name, first):
    """A scheduler looks at the defaults once, and then writes one name into every group."""
    params, other = parameters((3,), (3,)), parameters((3,))
    adam, sgd = weft.AdamW.chain(lr=0.1), weft.SGD.chain(lr=0.1, momentum=0.9)
    chains = [adam, sgd] if first == "betas first" else [sgd, adam]
    groups = [{"params": [p], "cbs": c} for p, c in zip(params, chains, strict=True)]
    opt = weft.Optimizer(groups, adam)
    alone = torch.optim.AdamW(other, lr=0.1)
    schedulers = SCHEDULERS[name](opt), SCHEDULERS[name](alone)
    with_betas, with_momentum = opt.param_groups if chains[0] is adam else opt.param_groups[::-1]
    for t in range(8):
        advance(opt, params, 1, t)
        advance(alone, other, 1, t)
        for scheduler in schedulers:
            scheduler.step()
        expected = alone.param_groups[0]["betas"]
        assert with_betas["betas"] == expected
        assert with_momentum["momentum"] == expected[0]
        assert "momentum" not in with_betas
        assert "betas" not in with_momentum
    assert [h["mom"] for h in opt.hypers] == [expected[0]] * 2


def test_a_group_without_any_momentum_does_not_stop_a_cycle():
    params = parameters((3,), (3,))
    plain = weft.chain(weft.callbacks.descend)
    groups = [{"params": params[:1], "cbs": plain, "lr": 0.1}, {"params": params[1:]}]
    opt = weft.Optimizer(groups, weft.AdamW.chain(lr=0.1))
    scheduler = s.OneCycleLR(opt, 0.1, total_steps=10)
    advance(opt, params, 1)
    scheduler.step()
    advance(opt, params, 1, 1)


def test_a_chain_without_momentum_says_so_in_torchs_words():
    opt = weft.Optimizer(parameters(), [weft.callbacks.descend], lr=0.1)
    with pytest.raises(ValueError, match="optimizer must support momentum or beta1"):
        s.OneCycleLR(opt, 0.1, total_steps=10)
    s.OneCycleLR(opt, 0.1, total_steps=10, cycle_momentum=False)


@pytest.mark.parametrize("shape", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("name", ["SGD", "AdamW", "RAdam", "RMSprop", "Adam"])
def test_a_tensor_lr_is_filled_in_place_and_read_at_every_step(name, shape):
    ours, theirs = parameters(), parameters()
    lr = torch.full(shape, 0.1, dtype=torch.float64)
    a = getattr(weft, name)(ours, lr=lr)
    b = getattr(torch.optim, name)(theirs, lr=0.1)
    schedulers = s.ExponentialLR(a, 0.8), s.ExponentialLR(b, 0.8)
    for t in range(6):
        advance(a, ours, 1, t)
        advance(b, theirs, 1, t)
        for scheduler in schedulers:
            scheduler.step()
        assert a.param_groups[0]["lr"] is lr
        same(ours, theirs)


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_cycling_with_tensors(name):
    """A cycle replaces the tuple of betas: it may hold a number and a tensor."""
    ours, theirs = parameters(), parameters()
    betas = (torch.tensor(0.9), torch.tensor(0.95))
    a = weft.AdamW(ours, lr=torch.tensor(0.1), betas=betas)
    b = torch.optim.AdamW(theirs, lr=0.1, betas=tuple(float(v) for v in betas))
    schedulers = SCHEDULERS[name](a), SCHEDULERS[name](b)
    for t in range(6):
        advance(a, ours, 1, t)
        advance(b, theirs, 1, t)
        for scheduler in schedulers:
            scheduler.step()
        same(ours, theirs, 1e-6)


def test_lrs_of_groups_are_independent_under_a_lambda_each():
    params = parameters((3,), (3,))
    opt = weft.SGD([{"params": [p]} for p in params], lr=1.0)
    scheduler = s.LambdaLR(opt, [lambda t: 1.0, lambda t: 0.5**t])
    advance(opt, params, 1)
    scheduler.step()
    assert [g["lr"] for g in opt.param_groups] == [1.0, 0.5]


def test_the_order_of_step_and_scheduler_is_noticed():
    params = parameters()
    opt = weft.SGD(params, lr=0.1)
    scheduler = s.StepLR(opt, 1)
    with pytest.warns(UserWarning, match="lr_scheduler.step.* before"):
        scheduler.step()
    opt = weft.SGD(params, lr=0.1)
    scheduler = s.StepLR(opt, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        give_grads(params, 0)
        opt.step()
        scheduler.step()


def test_a_scheduler_and_its_optimizer_resume():
    def train(upto, resume=None):
        params = parameters()
        opt = weft.AdamW(params, lr=0.1)
        scheduler = s.OneCycleLR(opt, 0.1, total_steps=12)
        start = 0
        if resume:
            for p, q in zip(params, resume[0], strict=True):
                p.data.copy_(q)
            opt.load_state_dict(resume[1])
            scheduler.load_state_dict(resume[2])
            start = resume[3]
        for t in range(start, upto):
            advance(opt, params, 1, t)
            scheduler.step()
        return params, opt.state_dict(), scheduler.state_dict(), upto

    whole = train(10)
    halves = train(10, resume=train(5))
    for a, b in zip(whole[0], halves[0], strict=True):
        assert torch.equal(a, b)
