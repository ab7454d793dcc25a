"""Division by a number that a whole pass shares: two multiplications, held to the division."""

import pytest
import torch

import weft


def over(p, update, by):
    return {"update": update / by}


def quotients(x, by):
    """x / by, by a kernel."""
    p = torch.nn.Parameter(-torch.zeros_like(x))  # -0 - -y is y, zeros too
    p.grad = -x
    opt = weft.Optimizer([p], cbs=[over, weft.callbacks.descend], lr=1.0, by=1.0, engine="fused")
    opt.param_groups[0]["by"] = by  # where it is given, NaN is refused
    opt.step()
    assert "WEFT_OVER" in opt.kernel_source()
    return p.detach()


def bits(x):
    return x.view(torch.int32).long()


@pytest.mark.parametrize("by", [0.1, 3.0, 1 - 0.999**7, -7.3e-5, 1.0, 2.0**-20, 49.0, 1e20])
def test_quotients(by):
    """The exact one, or for one in a million its neighbour."""
    torch.manual_seed(0)
    x = torch.randn(1_000_000) * torch.exp(8 * torch.randn(1_000_000))
    exact = x / torch.tensor(by)
    x, exact = (t[exact.abs() > 1e-30] for t in (x, exact))  # smaller ones are below
    off = (bits(quotients(x, by)) - bits(exact)).abs()
    assert off.max() <= 1
    assert off.sum() <= 5


NUMBERS = [
    0.0,
    -0.0,
    float("inf"),
    -float("inf"),
    float("nan"),
    1.0,
    -1e-45,
    1e-40,
    3e-38,
    3e38,
    -1.5,
]


@pytest.mark.parametrize("by", [*NUMBERS, 3.0, 1e-20, 1e31, 1e-31])
def test_what_is_no_usual_number(by):
    """Infinities, NaN and signed zeros come out as of a division, by numbers of any size."""
    x = torch.tensor(NUMBERS * 5)
    exact = x / torch.tensor(by, dtype=torch.float64).float()
    got = quotients(x, by)
    assert torch.equal(got.isnan(), exact.isnan())
    odd = exact.isnan()
    off = (bits(got) - bits(exact)).abs()[~odd]
    assert (off <= 1).all()
    zero = (exact == 0) & ~odd
    assert torch.equal(got[zero].signbit(), exact[zero].signbit())


def test_in_a_pass_with_reductions():
    """The same in a loop that sums, as LAMB's is."""
    torch.manual_seed(0)
    ends = []
    start = torch.randn(33, 65)
    grads = torch.randn(4, 33, 65)
    for engine in ("eager", "fused"):
        p = torch.nn.Parameter(start.clone())
        opt = weft.LAMB([p], lr=0.01, engine=engine)
        for grad in grads:
            p.grad = grad
            opt.step()
        ends.append(p.detach())
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)
