"""A tuple of the wrong length is refused before any step: its name, the length, what was given."""

import re

import pytest
import torch

import weft
from weft.optimizers import algorithms

TUPLES = [
    (name, hyper, default)
    for name, cls in algorithms().items()
    for hyper, default in cls._signature().items()
    if isinstance(default, tuple)
    and hyper not in cls.chain_options
    and name != "muon"  # which has torch's words
]


def param():
    return torch.nn.Parameter(torch.ones(4, 3))


@pytest.mark.parametrize("wrong", [-1, 1])
@pytest.mark.parametrize(("name", "hyper", "default"), TUPLES)
def test_the_constructor_of_every_optimizer_refuses_it(name, hyper, default, wrong):
    value = default[:-1] if wrong < 0 else (*default, default[-1])
    with pytest.raises(ValueError, match=f"'{hyper}' takes {len(default)} number") as e:
        algorithms()[name]([param()], **{hyper: value})
    assert f"{value!r}" in str(e.value)
    assert f"given {len(value)}" in str(e.value)


def test_a_group_and_a_state_dict_are_refused_too():
    opt = weft.AdamW([param()])
    said = re.escape("'betas' takes 2 numbers, and was given 1: (0.9,)")
    with pytest.raises(ValueError, match=said):
        opt.add_param_group({"params": [param()], "betas": (0.9,)})
    assert len(opt.param_groups) == 1
    saved = opt.state_dict()
    saved["param_groups"][0]["betas"] = (0.9,)
    with pytest.raises(weft.StateError, match=said):
        opt.load_state_dict(saved)
    assert opt.param_groups[0]["betas"] == (0.9, 0.999)


def test_a_chain_knows_what_its_callbacks_index_and_unpack():
    def unpack(update, nus=(1.0, 2.0)):
        a, b = nus
        return {"update": update * a * b}

    chain = weft.chain(weft.callbacks.ema_sq, unpack, weft.callbacks.descend, lr=0.1)
    with pytest.raises(ValueError, match=r"'betas' takes at least 2 numbers in ema_sq .* \(0.9,\)"):
        chain([param()], betas=(0.9,))
    with pytest.raises(ValueError, match=r"'nus' takes 2 numbers in unpack .* \(1.0, 2.0, 3.0\)"):
        chain([param()], nus=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="'nus' takes 2 numbers"):
        weft.Optimizer([{"params": [param()], "cbs": chain, "nus": (1.0,)}])
    chain([param()], betas=(0.9, 0.99, 0.999))  # another callback may want the third


def test_a_renamed_hyper_keeps_its_length():
    slow = weft.rename(weft.callbacks.ema, betas="slow_betas", exp_avg="slow_avg")
    chain = weft.chain(slow, weft.callbacks.descend, lr=0.1)
    with pytest.raises(ValueError, match="'slow_betas' takes at least 1 number in ema"):
        chain([param()], slow_betas=())
