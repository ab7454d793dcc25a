"""What drives learning rate and momentum, under whatever names an optimizer has them."""

import math
from functools import partial

import pytest
import torch

import weft
from learner.helpers import halves
from weft.learner.hypers import Dials
from weft.learner.schedules import one_cycle


def sgd_cb(p, lr, **kwargs):
    p.data.add_(p.grad.data, alpha=-lr)


def one_param():
    return [torch.nn.Parameter(torch.zeros(1))]


@pytest.mark.parametrize(
    ("opt_func", "key"),
    [
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9), "momentum"),
        (partial(torch.optim.RMSprop, lr=0.1, momentum=0.9), "momentum"),
        (torch.optim.Adam, "betas"),
        (partial(weft.SGD, lr=0.1, momentum=0.9), "momentum"),
        (weft.Adam, "betas"),
        (partial(weft.RMSprop, momentum=0.9), "momentum"),
    ],
)
def test_mom_reaches_the_momentum_under_its_name(opt_func, key):
    dials = Dials(opt_func(one_param()))
    dials.set("mom", 0.7)
    value = dials.opt.param_groups[0][key]
    assert (value[0] if key == "betas" else value) == 0.7
    if key == "betas":
        assert value[1] == 0.999
    dials.set("mom", 0)
    dials.set("mom", 0.6)  # off, and on again: it is what it was when it was built that counts
    assert dials.get("mom") == [0.6]


@pytest.mark.parametrize(
    "opt_func",
    [
        partial(torch.optim.SGD, lr=0.1),
        partial(weft.SGD, lr=0.1),
        weft.RMSprop,
        partial(weft.Optimizer, cbs=[sgd_cb], lr=0.1),
    ],
)
def test_what_was_built_without_momentum_stays_without(opt_func):
    dials = Dials(opt_func(one_param()))
    before = [dict(g) for g in dials.opt.param_groups]
    dials.set("mom", 0.9)
    assert dials.get("mom") == [None]
    assert [dict(g) for g in dials.opt.param_groups] == before


def test_weight_decay_and_unknown_names():
    dials = Dials(torch.optim.AdamW(one_param()))
    dials.set("wd", 0.3)
    assert dials.opt.param_groups[0]["weight_decay"] == 0.3
    with pytest.raises(ValueError, match=r"no hyper 'epz' .*did you mean 'eps'"):
        dials.set("epz", 1)


def test_a_tensor_rate_keeps_its_identity():
    rate = torch.tensor(0.1)
    dials = Dials(torch.optim.Adam(one_param(), lr=rate, foreach=False, capturable=False))
    dials.set("lr", 0.25)
    assert dials.opt.param_groups[0]["lr"] is rate
    assert rate.item() == 0.25


class Spy:
    """Records what the optimizer's groups hold when a batch is about to be taken."""

    def __init__(self):
        self.lrs, self.moms = [], []

    def before_batch(self, learn):
        self.lrs.append(learn.dials.get("lr"))
        self.moms.append(learn.dials.get("mom")[-1])


def test_one_cycle_sets_rate_and_momentum_before_each_batch(make):
    learn, spy = make(), Spy()
    learn.fit_one_cycle(2, 0.1, cbs=[spy])
    n = 12
    lr, mom = one_cycle(0.1 / 25, 0.1, 0.1 / 1e5), one_cycle(0.95, 0.85, 0.95)
    assert [lrs[0] for lrs in spy.lrs] == pytest.approx([lr(i / n) for i in range(n)], rel=1e-12)
    assert spy.moms == pytest.approx([mom(i / n) for i in range(n)], rel=1e-12)
    assert learn.recorder.lrs == [lrs[-1] for lrs in spy.lrs]
    assert learn.recorder.moms == spy.moms


def test_the_last_batch_sees_one_less_than_the_whole(make):
    seen = []
    learn = make()
    learn.fit(2, schedules={"lr": lambda pos: seen.append(pos) or 0.01})
    assert seen == pytest.approx([i / 12 for i in range(12)])


def test_momentum_is_what_it_was_when_the_fit_is_over(make):
    learn = make(partial(weft.SGD, momentum=0.8))
    learn.fit_one_cycle(1, 0.1)
    assert learn.dials.get("mom") == [0.8]
    learn.fit_one_cycle(1, 0.1, moms=(0, 0, 0))
    assert set(learn.recorder.moms[6:]) == {0.0}
    learn.fit(1)
    assert learn.recorder.moms[-1] == 0.8


def test_no_momentum_is_recorded_as_nan(make):
    learn = make(partial(weft.Optimizer, cbs=[sgd_cb]))
    learn.fit_one_cycle(1, 0.1, moms=(0, 0, 0))
    assert all(math.isnan(mom) for mom in learn.recorder.moms)


@pytest.mark.parametrize("opt_func", [weft.AdamW, torch.optim.AdamW])
def test_discriminative_rates_keep_their_ratio_through_the_schedule(make, opt_func):
    learn, spy = make(opt_func, splitter=halves), Spy()
    learn.fit_one_cycle(1, slice(1e-3, 1e-1), cbs=[spy])
    assert all(late == pytest.approx(100 * early) for early, late in spy.lrs)
    assert max(late for _, late in spy.lrs) == pytest.approx(0.1, rel=0.1)


def test_flat_cos_and_sgdr(make):
    learn, spy = make(), Spy()
    learn.fit_flat_cos(4, 0.1, cbs=[spy])
    rates = [lrs[0] for lrs in spy.lrs]
    assert rates[:19] == [0.1] * 19  # up to and including 18/24, three quarters
    assert rates[19:] == sorted(rates[19:], reverse=True)
    assert rates[-1] < 0.02

    learn.recorder.clear()
    learn.fit_sgdr(2, 1, 0.1)
    assert len(learn.recorder.lrs) == 18  # one epoch, then two
    assert [learn.recorder.lrs[i] for i in (0, 6)] == pytest.approx([0.1, 0.1])


def test_wd_of_learner_and_of_fit(make):
    learn = make(wd=0.2)
    learn.fit(1)
    assert learn.opt.param_groups[0]["weight_decay"] == 0.2
    learn.fit(1, wd=0.3)
    assert learn.opt.param_groups[0]["weight_decay"] == 0.3
