"""DESIGN 1.1, across parameters: a value of each, combined over all, then read by its name."""

import math
from dataclasses import replace

import pytest
import torch

import weft
from contract import descend, param, stepped

pytestmark = pytest.mark.usefixtures("engine")

norm = weft.over_params("grad_sq_norm", lambda grad: grad.square().sum())


def clip(grad, grad_sq_norm, max_norm=1.0):
    return {"grad": grad * (max_norm / grad_sq_norm.sqrt()).clamp(max=1)}


def test_global_clipping_as_torch_does_it():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(n)) for n in (3, 5, 2)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    for p, q in zip(ours, theirs, strict=True):
        p.grad = torch.randn_like(p)
        q.grad = p.grad.clone()
    mine = [p.grad.clone() for p in ours]
    weft.Optimizer(ours, [norm, clip, descend], lr=0.1).step()
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    torch.optim.SGD(theirs, lr=0.1).step()
    for p, q, grad in zip(ours, theirs, mine, strict=True):
        torch.testing.assert_close(p, q)
        assert torch.equal(p.grad, grad)


@pytest.mark.parametrize(("op", "expected"), [("sum", 6.0), ("max", 3.0), ("min", 1.0)])
def test_ops(op, expected):
    def use(p, value):
        assert value.ndim == 0
        return {"p": p + value}

    params = [param(0.0, grad=[g]) for g in (1.0, 2.0, 3.0)]
    element = weft.over_params("value", lambda grad: grad.sum(), op=op)
    weft.Optimizer(params, [element, use]).step()
    assert [p.item() for p in params] == [expected] * 3


@pytest.mark.parametrize(
    ("scope", "expected"), [("optimizer", [6.0, 6.0, 6.0]), ("group", [3.0, 3.0, 3.0])]
)
def test_scopes(scope, expected):
    def use(p, value):
        return {"p": p + value}

    params = [param(0.0, grad=[g]) for g in (1.0, 2.0, 3.0)]
    element = weft.over_params("value", lambda grad: grad.sum(), scope=scope)
    weft.Optimizer([params[:2], params[2:]], [element, use]).step()
    assert [p.item() for p in params] == expected


def test_groups_with_chains_of_their_own_take_part_where_they_have_the_name():
    def use(p, value):
        return {"p": p + value}

    value = weft.over_params("value", lambda grad: grad.sum())
    other = weft.over_params("other", lambda grad: grad.sum())
    a, b, c = (param(0.0, grad=[g]) for g in (1.0, 2.0, 4.0))
    groups = [
        {"params": [a], "cbs": [other, value, use]},
        {"params": [b], "cbs": [value, use, descend], "lr": 1.0},
        {"params": [c], "cbs": [descend], "lr": 1.0},
    ]
    weft.Optimizer(groups, [descend]).step()
    assert (a.item(), b.item(), c.item()) == (3, 1, -4)


def test_a_parameter_without_a_grad_takes_no_part():
    def use(p, value):
        return {"p": p + value}

    a, b = param(0.0, grad=[1.0]), param(0.0, grad=[2.0])
    b.grad = None
    value = weft.over_params("value", lambda grad: grad.sum())
    weft.Optimizer([a, b], [value, use]).step()
    assert (a.item(), b.item()) == (1, 0)


def test_one_may_follow_from_another_and_from_state_and_the_parameter():
    def keep(grad, exp_avg=weft.zeros):
        return {"exp_avg": exp_avg + grad}

    total = weft.over_params("total", lambda exp_avg: exp_avg.sum())
    share = weft.over_params("share", lambda w, total: (w.data / total).sum())

    def use(p, total, share):
        return {"p": p * 0 + total + 10 * share}

    a, b = param(3.0, grad=[1.0]), param(6.0, grad=[2.0])
    weft.Optimizer([a, b], [keep, total, share, use]).step()
    assert (a.item(), b.item()) == (33, 33)


def test_the_function_may_have_hypers_and_give_numbers():
    value = weft.over_params("value", lambda grad, scale=2.0: scale * grad.numel())

    def use(p, value):
        return {"p": p + value}

    p = param(0.0, 0.0)
    opt = weft.Optimizer([p], [value, use])
    opt.step()
    assert p.tolist() == [4, 4]
    assert opt.param_groups[0]["scale"] == 2.0


def test_working_on_the_value_in_place_is_each_parameters_own():
    def use(p, value):
        p.data.add_(value.mul_(2))

    a, b = param(0.0), param(0.0)
    weft.Optimizer([a, b], [weft.over_params("value", lambda grad: grad.sum()), use]).step()
    assert (a.item(), b.item()) == (4, 4)


def test_it_is_summed_without_losing_small_ones():
    n = 300
    params = [param(0.0, grad=[1e8 if i == 0 else 1.0]) for i in range(n)]

    def use(p, value):
        return {"p": value.expand_as(p)}

    weft.Optimizer(params, [weft.over_params("value", lambda grad: grad.sum()), use]).step()
    assert params[0].item() == torch.tensor(1e8 + n - 1).item()


def test_nan_is_kept():
    a, b = param(0.0, grad=[math.nan]), param(0.0, grad=[1.0])
    weft.Optimizer([a, b], [norm, clip, descend], lr=1.0).step()
    assert math.isnan(b.item())


def test_a_default_declares_it_too():
    def mine(p, update, total=weft.over_params("anything", lambda grad: grad.sum())):
        return {"update": update * total}

    def yours(p, update, total):
        return {"p": p - total * update}

    a, b = param(0.0, grad=[1.0]), param(0.0, grad=[2.0])
    weft.Optimizer([a, b], [mine, yours]).step()
    assert (a.item(), b.item()) == (-9, -18)


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([clip, norm, descend], "clip .* reads 'grad_sq_norm' before .* provides it"),
        ([norm, replace(norm, op="max"), clip, descend], "'grad_sq_norm' is combined .* two ways"),
        ([weft.over_params("lr", lambda grad: 0.0), descend], "the chain has another 'lr'"),
        ([weft.over_params("grad", lambda grad: 0.0), descend], "the chain has another 'grad'"),
    ],
)
def test_errors_when_it_is_built(chain, words):
    with pytest.raises(weft.ChainError, match=words):
        weft.Optimizer([param(1.0)], chain, lr=1.0)


def test_errors_of_its_arguments():
    with pytest.raises(weft.ChainError, match="op must be 'sum', 'max' or 'min', not 'mean'"):
        weft.over_params("x", lambda grad: 0.0, op="mean")
    with pytest.raises(weft.ChainError, match="scope must be 'optimizer' or 'group', not 'all'"):
        weft.over_params("x", lambda grad: 0.0, scope="all")


@pytest.mark.parametrize("value", [None, torch.ones(2), "x"], ids=["None", "vector", "str"])
def test_what_is_not_one_number_is_an_error_that_names_it(value):
    p = param(1.0, 2.0)
    bad = weft.over_params("bad", lambda grad: value)
    use = lambda update, bad: {"update": update * bad}
    with pytest.raises(weft.StepError, match=r"one number a parameter"):
        stepped(p, bad, use, descend)
    assert p.tolist() == [1, 2]


def test_chains_that_combine_in_opposite_orders_are_an_error():
    x = weft.over_params("x", lambda grad: grad.sum())
    y = weft.over_params("y", lambda grad: grad.sum())
    a, b = param(1.0), param(1.0)
    groups = [{"params": [a], "cbs": [x, y, descend]}, {"params": [b], "cbs": [y, x, descend]}]
    opt = weft.Optimizer(groups, [descend], lr=1.0)
    with pytest.raises(weft.StepError, match="opposite orders"):
        opt.step()
    assert (a.item(), b.item()) == (1, 1)


def test_an_error_after_a_round_puts_every_users_grad_back():
    def double(grad):
        return {"grad": 2 * grad}

    def bad(p, grad_sq_norm):
        if p.shape[0] == 2:
            raise RuntimeError("bad")

    params = [param(1.0), param(1.0, 2.0), param(1.0, 2.0, 3.0)]
    grads = [p.grad for p in params]
    opt = weft.Optimizer(params, [double, norm, bad, descend], lr=1.0)
    with pytest.raises(weft.StepError, match="1 of 3 parameters had already stepped") as e:
        opt.step()
    assert all(p.grad is g for p, g in zip(params, grads, strict=True))
    assert [g.unique().tolist() for g in grads] == [[1]] * 3
    del e
