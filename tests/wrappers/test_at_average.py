"""Schedule-free chains: two points, exact swaps, checkpoints from either mode."""

import pytest
import torch

import weft

KINDS = ("ScheduleFreeSGD", "ScheduleFreeAdamW", "ScheduleFreeRAdam")


def make(kind, **hypers):
    torch.manual_seed(0)
    ps = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5))]
    return ps, getattr(weft, kind)(ps, **{"lr": 0.1, **hypers})


def step(ps, opt, t):
    gen = torch.Generator().manual_seed(t)
    for p in ps:
        p.grad = torch.randn(p.shape, generator=gen)
    opt.step()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluating_changes_nothing(kind):
    (a, one), (b, two) = make(kind), make(kind)
    for t in range(10):
        step(a, one, t)
        step(b, two, t)
        two.eval()
        two.eval()
        two.train()
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_points_differ_and_z_goes_on(kind):
    ps, opt = make(kind)
    for t in range(10):
        step(ps, opt, t)
    y = [p.detach().clone() for p in ps]
    opt.eval()
    z = [opt.state[p]["z"] for p in ps]
    b = opt.state[ps[0]]["averaged"]
    for p, at, to in zip(ps, y, z, strict=True):
        assert not torch.equal(p, at)
        torch.testing.assert_close((1 - b) * to + b * p, at)


def test_a_step_in_evaluation_mode_is_an_error():
    ps, opt = make("ScheduleFreeAdamW")
    step(ps, opt, 0)
    opt.eval()
    with pytest.raises(weft.StepError, match=r"opt\.train\(\)"):
        step(ps, opt, 1)
    opt.train()
    step(ps, opt, 1)


def test_evaluating_before_the_first_step_keeps_the_weights():
    ps, opt = make("ScheduleFreeAdamW")
    before = [p.detach().clone() for p in ps]
    opt.eval()
    opt.train()
    assert all(torch.equal(p, q) for p, q in zip(ps, before, strict=True))
    step(ps, opt, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_resumes(kind):
    (a, one), (b, two) = make(kind), make(kind)
    for t in range(5):
        step(a, one, t)
    with torch.no_grad():
        for p, q in zip(b, a, strict=True):
            p.copy_(q)
    two.load_state_dict(one.state_dict())
    for t in range(5, 10):
        step(a, one, t)
        step(b, two, t)
    one.eval()
    two.eval()
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
