"""Gradients through steps: `differentiable=True`, as torch.optim has it, and for every other chain."""

import copy

import pytest
import torch
from torch.autograd import gradcheck

import weft

# for every optimizer of torch.optim that has the option: its hypers, all of them tensors with a grad
HYPERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "dampening": 0.2},
    "Adam": {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1, "eps": 1e-3},
    "AdamW": {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1, "eps": 1e-3},
    "RAdam": {"lr": 0.1, "betas": (0.9, 0.6), "weight_decay": 0.1},
    "NAdam": {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1, "momentum_decay": 0.01},
    "Adamax": {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1},
    "RMSprop": {"lr": 0.1, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1, "eps": 1e-3},
    "Adagrad": {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-3},
    "Adadelta": {"lr": 0.1, "rho": 0.9, "weight_decay": 0.1, "eps": 1e-3},
    "ASGD": {"lr": 0.1, "lambd": 0.01, "alpha": 0.7, "weight_decay": 0.1},
    "Rprop": {"lr": 0.1},
}
CASES = [(name, {}) for name in HYPERS]
CASES += [
    ("SGD", {"nesterov": True, "dampening": 0.0}),
    ("SGD", {"maximize": True, "momentum": 0.0}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"weight_decay": 0.0}),
    ("NAdam", {"decoupled_weight_decay": True}),
    ("RAdam", {"decoupled_weight_decay": True}),
    ("RMSprop", {"centered": True}),
]


def leaves(hypers):
    """The hypers as tensors that want a grad, in order; those of a tuple one by one."""
    flat = [v for value in hypers.values() for v in (value if type(value) is tuple else (value,))]
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in flat]


def put_back(hypers, flat):
    """Such tensors as hypers again."""
    flat = iter(flat)
    return {
        k: tuple(next(flat) for _ in v) if type(v) is tuple else next(flat)
        for k, v in hypers.items()
    }


def trained(make, start, target, steps=3):
    """A clone of `start` after steps on a loss whose gradient follows from where it is."""
    p = start.clone()
    opt = make([p])
    for t in range(steps):
        p.grad = (p.clone() - target) ** 3 * (t + 1)
        opt.step()
    return p, opt


def problem(n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    start, target = (torch.rand(n, generator=generator, dtype=torch.float64) for _ in range(2))
    return start.requires_grad_(), (target + 1).requires_grad_()


@pytest.mark.parametrize(
    ("name", "options"), CASES, ids=lambda x: x if type(x) is str else "-".join(x)
)
def test_gradients_through_steps_are_right(name, options):
    switches = {k: v for k, v in options.items() if type(v) is bool}
    hypers = {**HYPERS[name], **{k: v for k, v in options.items() if type(v) is not bool}}
    if "nesterov" in options:
        del hypers["dampening"]
    checked = {k: v for k, v in hypers.items() if v != 0}  # finite differences leave its range

    def run(start, target, *flat):
        given = {**hypers, **put_back(checked, flat)}
        make = lambda p: getattr(weft, name)(p, differentiable=True, **given, **switches)
        p, opt = trained(make, start, target)
        kept = opt.state[p].values()
        return (p, *(v for v in kept if isinstance(v, torch.Tensor) and v.requires_grad))

    assert gradcheck(run, (*problem(), *leaves(checked)))


@pytest.mark.parametrize("name", HYPERS)
def test_a_step_under_autograd_is_the_step(name):
    start, target = problem(5)
    p, opt = trained(lambda p: getattr(weft, name)(p, differentiable=True, lr=0.1), start, target)
    q, other = trained(
        lambda p: getattr(torch.optim, name)(p, differentiable=True, lr=0.1), start, target
    )
    torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-8)  # torch counts in float32
    assert opt.param_groups[0]["differentiable"]
    assert opt.state[p].keys() == other.state[q].keys()


@pytest.mark.parametrize(("name", "hyper"), [("SGD", "momentum"), ("Adam", "weight_decay")])
def test_a_hyper_of_zero_still_has_a_derivative(name, hyper):
    start, target = problem()

    def run(value):
        options = {"lr": 0.1, hyper: value}
        return trained(
            lambda p: getattr(weft, name)(p, differentiable=True, **options), start, target
        )[0]

    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(run(zero).sum(), zero)
    approximate = (run(1e-6).sum() - run(0.0).sum()) / 1e-6
    torch.testing.assert_close(exact, approximate.detach(), rtol=1e-4, atol=1e-7)
    assert exact != 0


def test_state_that_is_given_keeps_its_graph():
    p, grad, buffer = (torch.rand(4, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def run(p, grad, buffer):
        p, buffer = p.clone(), buffer.clone()
        p.grad = grad
        opt = weft.SGD([p], lr=0.9, momentum=0.5, differentiable=True)
        opt.state[p]["momentum_buffer"] = buffer
        opt.step()
        return p, opt.state[p]["momentum_buffer"]

    assert gradcheck(run, (p, grad, buffer))


def test_a_backward_pass_that_writes_grads_of_a_clone():
    lr = torch.tensor(0.1, requires_grad=True)
    p = torch.ones(3).requires_grad_().clone()
    opt = weft.Adam([p], lr=lr, differentiable=True)
    for _ in range(2):
        loss = (p.sum() - 2).square()
        loss.backward(inputs=(p,), create_graph=True)
        opt.step()
        opt.zero_grad()
    loss.backward(inputs=(lr,))
    assert lr.grad is not None
    assert lr.grad != 0


def test_who_detaches_between_steps_goes_on():
    start, target = problem()
    p, opt = trained(
        lambda p: weft.Adam(p, lr=0.1, differentiable=True, amsgrad=True), start, target
    )
    p.detach_()
    for name, value in opt.state[p].items():
        opt.state[p][name] = value.detach()
    p.grad = target.clone()
    opt.step()
    assert torch.autograd.grad(p.sum(), [start, target], allow_unused=True)[0] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_every_dtype_steps_as_it_does_without(dtype):
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    grads = [torch.randn_like(start) for _ in range(3)]
    results = []
    for differentiable in (True, False):
        p = start.clone() if differentiable else torch.nn.Parameter(start.clone())
        opt = weft.AdamW([p], lr=0.1, differentiable=differentiable, engine="eager")
        rate = torch.tensor(0.1, requires_grad=differentiable)
        opt.param_groups[0]["lr"] = rate
        for g in grads:
            p.grad = g.clone()
            opt.step()
        results.append(p.detach())
        if differentiable:
            assert torch.autograd.grad(p.abs().sum(), rate)[0].isfinite()
    torch.testing.assert_close(*results)


def test_a_group_may_have_its_own():
    lr = torch.tensor(0.1, requires_grad=True)
    p, q = torch.ones(2).requires_grad_().clone(), torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [p], "differentiable": True}, {"params": [q]}]
    opt = weft.Optimizer(groups, weft.SGD.chain(momentum=0.9), lr=lr)
    for _ in range(2):
        p.grad, q.grad = torch.ones(2), torch.ones(2)
        opt.step()
    assert p.requires_grad
    assert q.is_leaf
    assert torch.equal(p.detach(), q.detach())


@pytest.mark.parametrize("make", [
    lambda p, **kw: weft.Optimizer(p, weft.Lion.chain(), **kw),
    lambda p, **kw: weft.Lion.chain()(p, **kw),
    lambda p, **kw: weft.create("lion", p, **kw),
    lambda p, **kw: weft.create("lion+clip_global_norm(max_norm=0.1)", p, **kw),
])  # fmt: skip
def test_every_chain_takes_it(make):
    lr = torch.tensor(0.1, requires_grad=True)
    p = torch.ones(3).clone()
    opt = make([p], lr=lr, differentiable=True)
    p.grad = torch.ones(3)
    opt.step()
    assert torch.autograd.grad(p.sum(), lr)[0] < 0
    assert opt.stats() or True


# ---------------------------------------------------------------- what is refused, in words


def refused(opt, p, match):
    p.grad = torch.ones_like(p)
    before = p.detach().clone()
    with pytest.raises(weft.StepError, match=match):
        opt.step()
    assert torch.equal(p.detach(), before)


def test_a_leaf_is_refused_before_anything_is_written():
    p, q = torch.ones(2).clone(), torch.ones(2, requires_grad=True)
    opt = weft.SGD([p, q], lr=0.1, differentiable=True)
    p.grad = torch.ones(2)
    refused(opt, q, "leaf")
    assert torch.equal(p, torch.ones(2))


def test_a_leaf_alone_is_refused_without_the_option():
    with pytest.raises(ValueError, match="non-leaf"):
        weft.SGD([torch.ones(2, requires_grad=True).clone()], lr=0.1)


def by_item(p, update, lr):
    return {"p": p - lr.item() * update}


def by_float(p, update, lr):
    return {"p": p - float(lr) * update}


def by_data(p, lr, **kwargs):
    p.data.add_(p.grad.data, alpha=-0.1)


def by_no_grad(p, update, lr):
    with torch.no_grad():
        change = lr * update
    return {"p": p - change}


def by_detach(p, update, lr):
    return {"p": p - lr * update.detach()}


@pytest.mark.parametrize("cb", [by_item, by_float, by_data, by_no_grad, by_detach])
def test_a_callback_that_leaves_autograd_is_refused(cb):
    p = torch.ones(2, requires_grad=True).clone()
    grad = torch.ones(2, requires_grad=True)
    opt = weft.Optimizer([p], [cb], lr=torch.tensor(0.1, requires_grad=True), differentiable=True)
    p.grad = grad
    with pytest.raises(weft.StepError, match=rf"{cb.__name__} .*docs/limits.md"):
        opt.step()
    assert torch.equal(p.detach(), torch.ones(2))


@pytest.mark.parametrize("make", [
    lambda p: weft.create("adamw+lookahead", p, differentiable=True),
    lambda p: weft.create("ranger", p, differentiable=True),
    lambda p: weft.Lookahead(weft.SGD(p, lr=0.1, differentiable=True)),
    lambda p: weft.Optimizer(
        [{"params": p, "differentiable": True}], weft.SGD.chain() + weft.WeightEMA(), lr=0.1
    ),
])  # fmt: skip
def test_what_works_around_the_step_is_refused_at_once(make):
    with pytest.raises(weft.ChainError, match=r"outside of autograd.*docs/limits.md"):
        make([torch.ones(2)])


def test_an_optimizer_whose_wrapper_was_refused_goes_on():
    p = torch.ones(2).clone()
    opt = weft.SGD([p], lr=0.1, differentiable=True)
    with pytest.raises(weft.ChainError):
        weft.Lookahead(opt)
    p.grad = torch.ones(2)
    opt.step()
    assert torch.allclose(p, torch.full((2,), 0.9))
    assert copy.deepcopy(opt).param_groups[0]["differentiable"]
