"""Grads that are not finite, under a wrapper: the whole step is left out, and no wrapper has seen anything."""

import math

import pytest
import torch

import weft
from weft import wrappers

POLICIES = {"skip": None, "raise": weft.NonFiniteError}


def made(name, policy):
    """An optimizer inside a wrapper, and a closure whose loss is times `by.value`."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5))]
    opt = weft.SGD(params, lr=0.1, momentum=0.9, on_nonfinite=policy)
    opt = getattr(wrappers, name)(opt)
    factors = [1.0]

    def closure():
        opt.zero_grad()
        loss = factors[-1] * sum(p.square().sum() for p in params)
        if len(factors) > 1:
            factors.pop()
        loss.backward(create_graph=True)  # Hutchinson differentiates it again
        return loss.detach()

    return opt, params, closure, factors


def picture(opt, params):
    """Parameters, states and groups."""
    kept = [p.detach().clone() for p in params]
    for p in params:
        kept += [v.clone() if torch.is_tensor(v) else v for v in opt.state[p].values()]
    for group in opt.param_groups:
        kept += [v.clone() if torch.is_tensor(v) else v for k, v in group.items() if k != "params"]
    return kept


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, y) if torch.is_tensor(x) else x == y for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", wrappers.__all__)
def test_nothing_has_happened(name, policy):
    opt, params, closure, factors = made(name, policy)
    for _ in range(3):
        opt.step(closure)
    before = picture(opt, params)
    factors.append(math.nan)
    if error := POLICIES[policy]:
        with pytest.raises(error):
            opt.step(closure)
    else:
        assert opt.step(closure).isnan()
        assert opt.skipped_steps == 1
    assert same(picture(opt, params), before)
    opt.step(closure)
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "name", [n for n in wrappers.__all__ if not getattr(wrappers, n).needs_closure]
)
def test_without_a_closure(name, policy):
    opt, params, closure, _ = made(name, policy)
    for _ in range(3):
        closure()
        opt.step()
    before = picture(opt, params)
    for p in params:
        p.grad = torch.full_like(p, math.inf)
    if error := POLICIES[policy]:
        with pytest.raises(error):
            opt.step()
    else:
        opt.step()
    assert same(picture(opt, params), before)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", [n for n in wrappers.__all__ if n.endswith("SAM")])
def test_the_second_evaluation_is_not_finite(name, policy):
    """The weights are back where they were."""
    opt, params, closure, factors = made(name, policy)
    before = [p.detach().clone() for p in params]
    factors += [math.nan, 1.0]
    if error := POLICIES[policy]:
        with pytest.raises(error):
            opt.step(closure)
    else:
        opt.step(closure)
    assert all(map(torch.equal, params, before))
