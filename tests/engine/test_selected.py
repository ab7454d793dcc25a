"""`x[mask]` in callbacks: worked on and written back, or summed; the rest falls back."""

import pytest
import torch

import weft
from weft.callbacks import descend

SHAPES = ((4, 3), (5,))


def run(cb, engine):
    g = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s, generator=g)) for s in SHAPES]
    opt = weft.Optimizer(params, [cb, descend], engine=engine, lr=0.1)
    for k in range(6):
        opt.set_hypers(lr=0.1 + 0.02 * k)
        for p in params:
            p.grad = torch.randn(p.shape, generator=g)
        opt.step()
    return opt, [p.detach() for p in params]


def scaled(grad, lr):
    grad[grad.abs() > 0.5] *= 1 - lr
    return {"grad": grad}


def descended(p, grad, lr):
    m = grad * p.data > 0
    p.data[m] -= lr * grad[m]


def divided(update, v=weft.zeros):
    v.add_(update**2)
    m = v > 0.3
    update[m] = update[m] / (v[m].sqrt() + 1e-8) - (2 - abs(-update[m])).clamp(min=0.1)
    return {"update": update}


def summed(update):
    m = update > 0
    return {"update": update * (update[m] ** 2).sum() + update[~m].mean()}


def of_none(update):
    return {"update": update + update[update > 1e9].sum()}


def by_a_tensor(update):
    m = update > 0
    update[m] = update.norm() * update[m]
    return {"update": update}


@pytest.mark.parametrize("cb", [scaled, descended, divided, summed, of_none, by_a_tensor])
def test_selected_elements(cb):
    _, x = run(cb, "eager")
    opt, y = run(cb, "fused")
    assert opt.explain().builds == 1
    torch.testing.assert_close(y, x)


def largest(update):
    return {"update": update / update[update > -9].max()}


def counted(update):
    return {"update": update / (1 + len(update[update > 0]))}


def of_two_masks(update):
    a, b = update > -9, update > -8
    update[a] = update[b] * 2
    return {"update": update}


def changed_mask(update):
    m = update > -9
    held = update[m]
    m.logical_and_(update > -8)
    update[m] = held * 2
    return {"update": update}


def by_a_vector(update):
    m = update > -9
    update[m] = update[m] * torch.ones(int(update.numel()))
    return {"update": update}


def kept(update, held=None):
    return {"update": update, "held": update[update > -9]}


@pytest.mark.parametrize("cb", [largest, counted, of_two_masks, changed_mask, by_a_vector, kept])
def test_what_depends_on_how_many_there_are_runs_eagerly(cb):
    _, x = run(cb, "eager")
    with pytest.warns(weft.WeftWarning, match="runs eagerly"):
        _, y = run(cb, "auto")
    assert all(map(torch.equal, x, y))
