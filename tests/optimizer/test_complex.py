"""A complex parameter is stepped as the pairs of reals that it is, or refused when the optimizer is built."""

import pytest
import torch

import weft
from weft.contract.dims import looks_at_dims
from weft.optimizers import algorithms

QUICK = (
    "adamw",
    "adagrad",
    "rmsproptf",
    "lamb",
    "lion",
    "muon",
    "adafactor",
    "soap",
    "nero",
    "sam",
)
F64 = {"dtype": torch.float64}


def train(name, shape):
    """A parameter after four steps: complex where no shape is given, else its reals in that shape."""
    random = torch.Generator().manual_seed(0)
    start, *grads = (torch.randn((4, 3, 2), generator=random, **F64) for _ in range(5))
    as_wanted = lambda x: torch.view_as_complex(x) if shape is None else x.reshape(shape)
    p = torch.nn.Parameter(as_wanted(start))
    opt = algorithms()[name]([p], engine="eager")
    torch.manual_seed(1)
    for g in grads:
        p.grad = as_wanted(g).clone()
        opt.step((lambda: torch.ones(())) if opt.needs_closure else None, loss=torch.ones(()))
    return torch.view_as_real(p.detach()) if shape is None else p.detach()


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in weft.list_optimizers() if name != "sophia"  # its closure differentiates the gradient
])  # fmt: skip
def test_a_complex_parameter_is_pairs_of_reals_whatever_their_shape(name):
    """Dimensions of a pair mean nothing: reals in a row step alike, or the method is refused."""
    p = torch.nn.Parameter(torch.ones(4, 3, dtype=torch.complex128))
    try:
        algorithms()[name]([p])
    except ValueError as e:
        assert "does not support complex parameters" in str(e)  # noqa: PT017
        assert "docs/limits.md#complex-parameters" in str(e)  # noqa: PT017
        return
    torch.testing.assert_close(train(name, None).reshape(-1), train(name, (24,)))


@pytest.mark.parametrize("name", ["Adafactor", "Muon", "CAME", "SM3", "Shampoo", "SOAP", "Nero"])
def test_methods_of_dimensions_are_refused_at_once(name):
    p = torch.nn.Parameter(torch.ones(4, 3, dtype=torch.complex64))
    q = torch.nn.Parameter(torch.ones(4, 3))
    with pytest.raises(ValueError, match="complex"):
        getattr(weft, name)([p])
    opt = getattr(weft, name)([q])
    with pytest.raises(ValueError, match="complex"):
        opt.add_param_group({"params": [p]})
    assert len(opt.param_groups) == 1


def by_rows(update):
    return {"update": update / update.norm(dim=1, keepdim=True)}


def by_helper(update):
    return {"update": inner(update)}


def inner(x):
    return x @ x.T @ x


def by_entries(update, scale=2.0):
    return {"update": update * scale / update.norm()}


def test_a_callback_of_the_users_is_looked_at_too():
    p = torch.nn.Parameter(torch.ones(3, 3, dtype=torch.complex64))
    for cb in (by_rows, by_helper):
        with pytest.raises(weft.ChainError, match=cb.__name__):
            weft.Optimizer([p], weft.chain(cb, weft.callbacks.descend), lr=0.1)
    weft.Optimizer([p], weft.chain(by_entries, weft.callbacks.descend), lr=0.1)


def test_what_takes_parameters_of_one_rank_looks_at_dimensions():
    known = [getattr(weft.callbacks, n) for n in weft.callbacks.__all__ if n != "fastai"]
    assert all(looks_at_dims(cb) for cb in known if getattr(cb, "ndim", None))


def test_a_state_of_ones_is_one_in_both_parts():
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    assert torch.equal(torch.view_as_real(weft.ones.make(p)), torch.ones(2, 2))
