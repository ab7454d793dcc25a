"""What a user has set on a parameter, and which parameter it is: the eager loop's to know."""

import pytest
import torch

import weft

FIRST, LAST = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))


def caught(p):
    try:
        return p.frozen
    except AttributeError:
        return False


ASKS = {
    "getattr": lambda p: getattr(p, "frozen", False),
    "hasattr": lambda p: hasattr(p, "frozen"),
    "__dict__": lambda p: p.__dict__.get("frozen", False),
    "vars": lambda p: vars(p).get("frozen", False),
    "an exception": caught,
    "identity": lambda p: p is LAST,
}


@pytest.mark.parametrize("how", ASKS)
def test_attributes_of_a_parameter_are_asked_for_eagerly(how):
    asks = ASKS[how]

    def unless_frozen(p, grad, lr):
        return {"p": p - lr * (0.0 if asks(p) else 1.0) * grad}

    for p in (FIRST, LAST):
        p.data.zero_()
        p.grad = torch.ones(2)
    LAST.frozen = True
    opt = weft.Optimizer([FIRST, LAST], [unless_frozen], lr=1.0)
    with pytest.warns(weft.WeftWarning, match="attribute|captured"):
        opt.step()
    opt.step()
    assert torch.equal(FIRST, torch.full((2,), -2.0))
    assert torch.equal(LAST, torch.zeros(2))
