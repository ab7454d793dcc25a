"""Every optimizer under autograd: its derivatives are those of differences, or it refuses in words."""

import pytest
import torch

import weft
from weft.optimizers import algorithms

QUICK = ("adamw", "lamb", "lion", "muon", "prodigy", "adafactor", "soap", "shampoo", "ranger")
# where the step is not smooth, or not at all: what autograd gives there says nothing
EXCUSED = {
    "adahessian": "its step differentiates the gradient itself, with a closure",
    "sophia": "its step differentiates the gradient itself, with a closure",
    "dog": "the root of a distance that is zero in the first step: NaN",
    "dowg": "the root of a distance that is zero in the first step: NaN",
    "focus": "the sign of a difference that is zero in the first step",
    "spel": "the singular values of an orthogonal matrix are equal: torch's derivative of them is NaN",
    "swan": "a square matrix with centred rows is singular: its polar factor is any of several",
}
F64 = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def doubles():
    """Numbers in state are doubles too, so that differences of 1e-6 can be told."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def train(name, lr, start, differentiable):
    """Where three steps lead from `start`, on grads that follow from where they are."""
    noise = torch.Generator().manual_seed(3)
    ps = [x.clone() if differentiable else torch.nn.Parameter(x.detach().clone()) for x in start]
    opt = algorithms()[name].chain()(ps, lr=lr, differentiable=differentiable, engine="eager")
    torch.manual_seed(1)
    for _ in range(3):
        now = [p.clone() if differentiable else p.detach().clone() for p in ps]
        for p, x in zip(ps, now, strict=True):
            p.grad = 0.3 * torch.randn(p.shape, generator=noise, **F64) + 0.7 * x
        loss = sum(x.square().sum() for x in now)
        opt.step((lambda loss=loss: loss) if opt.needs_closure else None, loss=loss)
    return ps


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in weft.list_optimizers() if name not in EXCUSED
])  # fmt: skip
def test_derivatives_are_those_of_differences(name):
    random = torch.Generator().manual_seed(5)
    draw = lambda: [torch.randn(s, generator=random, **F64) for s in ((3, 4), (3, 3))]
    start, weights, ways = draw(), draw(), draw()
    lr = torch.tensor(0.05, **F64, requires_grad=True)
    leaves = [x.clone().requires_grad_() for x in start]
    try:
        ends = train(name, lr, leaves, True)
    except (weft.StepError, weft.ChainError) as e:
        assert "docs/limits.md" in str(e)  # noqa: PT017
        return
    total = sum((p * w).sum() for p, w in zip(ends, weights, strict=True))
    of_lr, *of_start = torch.autograd.grad(total, [lr, *leaves], materialize_grads=True)

    def value(lr, move):
        moved = [x + move * way for x, way in zip(start, ways, strict=True)]
        ends = train(name, lr, moved, False)
        return sum((p * w).sum().item() for p, w in zip(ends, weights, strict=True))

    assert value(0.05, 0.0) == pytest.approx(total.item(), rel=1e-9)
    e = 1e-6
    by_rate = (value(0.05 + e, 0.0) - value(0.05 - e, 0.0)) / (2 * e)
    by_start = (value(0.05, e) - value(0.05, -e)) / (2 * e)
    assert float(of_lr) == pytest.approx(by_rate, rel=1e-4, abs=1e-4)
    along = sum(float((g * way).sum()) for g, way in zip(of_start, ways, strict=True))
    assert along == pytest.approx(by_start, rel=1e-4, abs=1e-4)


def test_what_no_optimizer_is_called_any_more_is_no_excuse():
    assert EXCUSED.keys() <= set(weft.list_optimizers())
