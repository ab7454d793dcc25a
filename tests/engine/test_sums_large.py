"""Sums of 100 million elements, as exact as float32 can say; takes less than 3 GB."""

import pytest
import torch

import weft

N = 100_000_000
CLOSE = 2.0**-22  # the result is rounded to float32 once or twice; the sum itself is of doubles


def sums(p, grad, lr, total=None, square=None, trust=None):
    trust = p.norm() / grad.norm()
    return {
        "total": grad.sum(),
        "square": (grad * grad).sum(),
        "trust": trust,
        "p": p - lr * trust * grad,
    }


def exact(x, f):
    return sum(float(f(part.double()).sum()) for part in x.split(1 << 20))


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.1, 0.0])
def test_sums_of_a_hundred_million(offset):
    gen = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.empty(N).uniform_(0.5, 1.5, generator=gen))
    p.grad = torch.empty(N).uniform_(0, 1, generator=gen).add_(offset)
    small = torch.nn.Parameter(torch.ones(100))  # what trust in the kernel is got from
    small.grad = torch.ones(100)
    total, square = exact(p.grad, lambda x: x), exact(p.grad, torch.square)
    norm = exact(p.detach(), torch.square) ** 0.5
    opt = weft.Optimizer([p, small], [sums], lr=1e-3, engine="fused")
    opt.step()
    state = opt.state[p]
    assert float(state["total"]) == pytest.approx(total, rel=CLOSE)
    assert float(state["square"]) == pytest.approx(square, rel=CLOSE)
    assert float(state["trust"]) == pytest.approx(norm / square**0.5, rel=4 * CLOSE)
