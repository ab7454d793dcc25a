"""What a method for matrices does with other ranks: the same for a class and for its chain."""

import pytest
import torch

import weft
from weft.callback import read
from weft.optimizers import algorithms

SHAPES = ((), (3,), (4, 3), (2, 3, 4), (3, 4, 1, 1), (2, 2, 2, 1, 2), (1, 2, 1, 2, 1, 2))
FOR_MATRICES = [
    name for name, cls in algorithms().items()
    if any(read(cb).ndim for cb in cls.chain() if callable(cb) and not isinstance(cb, weft.Wrapper))
]  # fmt: skip


def outcome(make, shape):
    """None, or the error of building."""
    p = torch.nn.Parameter(torch.ones(shape))
    try:
        make([p], engine="eager")
    except Exception as e:
        return type(e)


@pytest.mark.parametrize("name", FOR_MATRICES)
def test_class_and_chain_take_the_same_ranks(name):
    cls = algorithms()[name]
    for shape in SHAPES:
        found = outcome(cls, shape)
        assert found == outcome(cls.chain(), shape), shape
        refused = not 2 <= len(shape) <= 5 or (name == "muon" and len(shape) == 3)
        assert found is (weft.ChainError if refused else None), shape


def test_a_kernel_is_the_matrix_of_its_output_channels():
    torch.manual_seed(0)
    w, g = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    params = [torch.nn.Parameter(w.clone()), torch.nn.Parameter(w.reshape(4, 12).clone())]
    opt = weft.Muon(params)
    for p in params:
        p.grad = g.reshape(p.shape).clone()
    opt.step()
    torch.testing.assert_close(params[0].reshape(4, 12), params[1])
