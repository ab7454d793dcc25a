"""What a callback may ask of the parameter, and do with its data, its grad and its state: as eagerly."""

import math

import pytest
import torch

import weft
from weft.callbacks import descend

SHAPES = ((4, 3), (5,))


def run(cbs, engine, dtype=torch.float32, steps=5, **hypers):
    """Steps with other numbers each; gives the optimizer and all that they leave."""
    g = torch.Generator().manual_seed(0)
    noise = lambda s: torch.randn(s, generator=g, dtype=torch.float64).to(dtype)
    params = [torch.nn.Parameter(noise(s)) for s in SHAPES]
    opt = weft.Optimizer(params, cbs, engine=engine, lr=0.1, **hypers)
    left = []
    for k in range(steps):
        opt.set_hypers(lr=0.1 + 0.02 * k, **{n: v * (1 + 0.05 * k) for n, v in hypers.items()})
        for p in params:
            p.grad = noise(p.shape)
        mine = [p.grad for p in params]
        opt.step()
        assert all(p.grad is x for p, x in zip(params, mine, strict=True))
        left += [p.detach().clone() for p in params] + [x.clone() for x in mine]
    left += [v.clone() for p in params for v in opt.state[p].values() if torch.is_tensor(v)]
    return opt, left


def same(*cbs, dtype=torch.float32, tolerance=None, builds=1, **hypers):
    """See that a chain runs fused, built once, and leaves what the eager loop leaves."""
    _, x = run(cbs, "eager", dtype, **hypers)
    opt, y = run(cbs, "fused", dtype, **hypers)
    assert opt.explain().builds == builds
    torch.testing.assert_close(y, x, rtol=tolerance, atol=tolerance)


def refused(*cbs, reason):
    """See that a chain falls back for this reason, and steps as the eager loop does."""
    _, x = run(cbs, "eager")
    with pytest.warns(weft.WeftWarning, match=reason):
        _, y = run(cbs, "auto")
    assert all(map(torch.equal, x, y))


# ---------------------------------------------------------------- what a parameter says of itself


def of_class(p, grad, lr):
    if isinstance(p, torch.nn.Parameter):
        p.data.sub_(lr * grad)


def of_name(p, grad, lr):
    p.data.sub_(lr * grad * len(type(p).__name__))


def of_a_leaf(p, grad, lr):
    if p.is_leaf and p.grad_fn is None and p.requires_grad and not p.data.requires_grad:
        p.data.sub_(lr * grad)


@pytest.mark.parametrize("cb", [of_class, of_name, of_a_leaf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_parameter_is_asked_what_it_is(cb, dtype):
    same(cb, dtype=dtype, tolerance=None if dtype is torch.float32 else 0)


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_a_parameter_that_is_frozen_between_steps(engine):
    def cb(p, grad, lr):
        if not p.requires_grad:
            return
        p.data.sub_(lr * grad)

    params = [torch.nn.Parameter(torch.ones(s)) for s in SHAPES]
    opt = weft.Optimizer(params, [cb], lr=0.5, engine=engine)
    for p in params:
        p.grad = torch.ones_like(p)
    for frozen in (0, 0, 0, 1, 1, 0, 0):  # some of these take the short way
        params[0].requires_grad_(not frozen)
        opt.step()
    assert float(params[0].detach().mean()) == 1 - 0.5 * 5
    assert float(params[1].detach().mean()) == 1 - 0.5 * 7


def test_a_tensor_that_is_no_parameter():
    def cb(p, grad, lr):
        return {"p": p - lr * grad * (1 if isinstance(p, torch.nn.Parameter) else 2)}

    p = torch.ones(3, requires_grad=True)
    q = torch.nn.Parameter(torch.ones(3))
    p.grad, q.grad = torch.ones(3), torch.ones(3)
    weft.Optimizer([p, q], [cb], lr=0.25, engine="fused").step()
    assert (p.tolist(), q.tolist()) == ([0.5] * 3, [0.75] * 3)


# ---------------------------------------------------------------- what is assigned to grads


def halved(p, **kw):
    p.grad = p.grad * 0.5


def halved_in_place(p, **kw):
    p.grad *= 0.5


def halved_data(p, **kw):
    p.grad.data *= 0.5


def its_own_data(p, **kw):
    p.grad = p.grad.data
    p.grad.mul_(0.5)


def grokfast(p, grad, ema=weft.zeros, alpha=0.98, lamb=2.0):
    ema = ema * alpha + p.grad * (1 - alpha)
    p.grad.data = p.grad.data + lamb * ema
    return {"ema": ema}


def a_state(p, grad, m=weft.zeros):
    m.lerp_(grad, 0.1)
    p.grad = m


def worked_on(grad):
    grad.add_(1.0)


def sgd(p, lr, **kw):
    p.data.sub_(lr * p.grad.data)


@pytest.mark.parametrize(
    "cb", [halved, halved_in_place, halved_data, its_own_data, grokfast, a_state]
)
@pytest.mark.parametrize("last", [sgd, descend])
def test_an_assigned_grad_is_what_later_callbacks_see(cb, last):
    same(cb, last)
    same(cb, worked_on, last)


@pytest.mark.parametrize("cb", [halved, halved_data, grokfast])
def test_an_assigned_grad_of_16_bits(cb):
    same(cb, sgd, dtype=torch.bfloat16, tolerance=2e-2)


# ---------------------------------------------------------------- what is assigned to .data


def state_data(p, grad, lr, m=weft.zeros, beta=0.9):
    m.data = m.data * beta + grad
    p.data.sub_(lr * m)


def parameter_data(p, grad, lr):
    p.data = p.data - lr * grad
    p.data *= 0.99


def temporary_data(p, grad, lr):
    g = grad.clone()
    g.data = g.data * 2
    g.mul_(0.5)
    p.data.sub_(lr * g)


def grad_copy_data(grad):
    grad.data = grad.data * 2


@pytest.mark.parametrize("cb", [state_data, parameter_data, temporary_data])
def test_data_is_assigned(cb):
    same(cb)


def test_data_of_the_grad_that_a_callback_is_given():
    same(grad_copy_data, descend)


def old_alias(p, grad, lr):
    old = p.data
    p.data = p.data - lr * grad
    old.mul_(2)
    p.data.add_(old)


def new_alias(p, grad, lr):
    new = p.data - lr * grad
    p.data = new
    new.mul_(0.5)


def read_through(p, grad, lr):
    new = p.data - lr * grad
    p.data = new
    p.data.mul_(0.5)
    p.data.add_(new)


def takes_the_state(p, grad, m=weft.zeros):
    m.add_(grad)
    p.data = m


def takes_the_grad(p, grad):
    p.data = grad


@pytest.mark.parametrize(
    ("cb", "reason"),
    [
        (old_alias, "what .data was before"),
        (new_alias, "may share memory"),
        (read_through, "may share memory"),
        (takes_the_state, "another tensor's memory"),
        (takes_the_grad, "another tensor's memory"),
    ],
)
def test_memory_that_data_makes_two_tensors_share(cb, reason):
    refused(cb, reason=reason)


def test_a_grad_that_is_assigned_on_one_way_only():
    def cb(p, lr, **kw):
        if p.grad.norm() > 3:
            p.grad = p.grad / p.grad.norm()
        p.data.sub_(lr * p.grad)

    refused(cb, reason=r"assigns to \.grad and branches on a tensor")


# ---------------------------------------------------------------- float32 in a float64 chain


def by_a_tensor(update, step, beta=0.9):
    return {"update": update * (1 - torch.tensor(beta) ** step)}


def by_zeros(p, update):
    return {"update": update + torch.zeros(3, *p.shape).sum(0).to(update.dtype)}


def in_single(update):
    return {"update": (update.to(torch.float32) / 3).to(update.dtype)}


def in_double(update):
    return {"update": update / 3 * math.pi}


@pytest.mark.parametrize("cb", [by_a_tensor, by_zeros, in_single])
def test_float32_within_float64(cb):
    same(cb, descend, dtype=torch.float64, tolerance=1e-5)


def test_float64_is_held_to_its_own_precision():
    same(in_double, descend, dtype=torch.float64, tolerance=1e-13)
