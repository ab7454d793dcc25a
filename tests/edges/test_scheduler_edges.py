"""torch's schedulers cycle the momentum that an optimizer reads: there is one name for it in a group."""

import inspect

import pytest
import torch

import weft
from weft.optimizers import algorithms

# its average carries the rate, and the gradient beside it does not: at first it is too small to be seen
OPTIONS = {"dadaptlion": {"d0": 1e4}}


def problem(cls, **options):
    g = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.randn(6, 4, generator=g, dtype=torch.float64))
    named = inspect.signature(cls.__init__).parameters
    lr = {"lr": 1e-2} if "lr" in named else {}
    opt = cls([p], **lr, **options, engine="eager")

    def closure():
        opt.zero_grad()
        noise = torch.randn(p.shape, generator=g, dtype=torch.float64)
        loss = ((p - noise) ** 2).sum()
        loss.backward(create_graph=opt.needs_closure)
        return loss

    return p, opt, closure


def trained(cls, cycle, **options):
    p, opt, closure = problem(cls, **options)
    scheduler = torch.optim.lr_scheduler.CyclicLR(
        opt, 1e-3, 1e-2, step_size_up=5, cycle_momentum=cycle, base_momentum=0.3, max_momentum=0.6
    )
    for _ in range(30):
        opt.step(closure)
        scheduler.step()
    return p.detach()


@pytest.mark.parametrize("name", algorithms())
def test_what_a_scheduler_cycles_is_read(name):
    cls = algorithms()[name]
    _, opt, _ = problem(cls)
    names = {"momentum", "betas"} & opt.param_groups[0].keys()
    assert names == {"momentum", "betas"} & opt.defaults.keys()
    assert len(names) < 2
    if names:
        options = OPTIONS.get(name, {})
        assert not torch.equal(trained(cls, True, **options), trained(cls, False, **options))
    else:
        with pytest.raises(ValueError, match="momentum"):
            trained(cls, True)


def schedule_free(**hypers):
    cb = weft.callbacks
    return weft.chain(cb.warmup_rate, cb.iterate_weight, cb.schedule_free, lr=0.1, **hypers)


def positive_negative(**hypers):
    return weft.chain(weft.callbacks.positive_negative, weft.callbacks.descend, lr=0.1, **hypers)


@pytest.mark.parametrize("make", [schedule_free, positive_negative])
def test_a_block_that_takes_either_shows_the_one_that_is_given(make):
    for given in ({"momentum": 0.7}, {"betas": (0.7, 0.9)}, {}):
        p = torch.nn.Parameter(torch.ones(2))
        opt = make(**given)([p])
        shown = {"momentum", "betas"} & opt.param_groups[0].keys()
        assert shown == (set(given) or {"betas"})
        torch.optim.lr_scheduler.OneCycleLR(
            opt, 0.1, total_steps=9, base_momentum=0.2, max_momentum=0.3
        )
        value = opt.param_groups[0]["momentum"] if given.keys() == {"momentum"} else None
        assert (opt.param_groups[0]["betas"][0] if value is None else value) == 0.3


@pytest.mark.parametrize("cls", [weft.ScheduleFreeSGD, weft.PNM])
def test_a_state_dict_that_has_both_leaves_one(cls):
    _, opt, closure = problem(cls)
    opt.step(closure)
    old = opt.state_dict()
    old["param_groups"][0]["betas"] = (0.9, 0.999)
    opt.load_state_dict(old)
    assert "betas" not in opt.param_groups[0]
