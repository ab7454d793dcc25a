"""What makes a class what it is: an option that it fixes never comes from a file, a group or a copy."""

import copy
import inspect
import pickle
from typing import ClassVar

import pytest
import torch

import weft
from weft.optimizers import algorithms
from weft.optimizers.base import Algorithm

SUBCLASSES = [c for c in algorithms().values() if c.__bases__ != (Algorithm,)]


class Decoupled(weft.RAdam):
    """A user's, whose constructor does not take the option that it fixes."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, lr=lr, decoupled_weight_decay=True)


class AMSGradW(weft.AdamW):
    """A user's, that fixes one more."""

    fixed: ClassVar = {**weft.AdamW.fixed, "amsgrad": True}

    def __init__(self, params, lr=1e-3):
        super().__init__(params, lr=lr)


def parameter():
    p = torch.nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    p.grad = torch.ones_like(p)
    return p


def callbacks(opt):
    return [[call.name for call in bound.binding.calls] for bound in opt._current()]


def files(cls):
    """State dicts of a class: by its defaults, and with each of its switches the other way."""
    yield cls([parameter()]).state_dict()
    shown = cls([parameter()]).param_groups[0]
    for name in cls.chain_options:
        if type(shown[name]) is bool:
            try:
                opt = cls([parameter()], **{name: not shown[name]})
            except (TypeError, ValueError):  # not for this class to choose, or not alone
                continue
            yield opt.state_dict()


@pytest.mark.parametrize("cls", [*SUBCLASSES, Decoupled, AMSGradW], ids=lambda c: c.__name__)
def test_a_subclass_that_loads_its_bases_state_stays_what_it_is(cls):
    own, taken = callbacks(cls([parameter()])), inspect.signature(cls).parameters
    for saved in files(cls.__bases__[0]):
        given = {k: v for k, v in saved["param_groups"][0].items() if k in taken}
        opt = cls([parameter()])
        try:
            opt.load_state_dict(saved, strict=False)
        except weft.StateError:
            assert cls is weft.SOAPAdEMAMix  # it has a beta more
            given = {}
        chosen = {k: given[k] for k in cls.chain_options if k in given}
        here = callbacks(cls([parameter()], **chosen)) if chosen else own
        assert callbacks(opt) == here
        opt.step()
        assert callbacks(opt) == callbacks(copy.deepcopy(opt)) == here


def test_adamw_decays_beside_the_gradient_whatever_it_has_loaded():
    for file in (torch.optim.Adam, weft.Adam):
        p = parameter()
        given = file([p])
        given.step()
        opt = weft.AdamW([p])
        opt.load_state_dict(given.state_dict())
        for o in (opt, copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
            assert o.param_groups[0]["decoupled_weight_decay"] is True
            assert "l2" not in callbacks(o)[0]


def test_a_copy_and_a_pickle_put_back_what_was_set_by_hand():
    opt = weft.AdamW([parameter()])
    opt.param_groups[0]["decoupled_weight_decay"] = False
    for o in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert o.param_groups[0]["decoupled_weight_decay"] is True
        assert "l2" not in callbacks(o)[0]
    with pytest.raises(weft.ChainError, match=r"AdamW is decoupled_weight_decay=True.*use Adam"):
        opt.step()


def test_a_group_cannot_say_otherwise():
    group = {"params": [parameter()], "decoupled_weight_decay": False}
    with pytest.raises(weft.ChainError, match=r"AdamW is decoupled_weight_decay=True.*use Adam"):
        weft.AdamW([group])
    opt = weft.AdamW([{**group, "cbs": weft.Adam.chain()}])  # its chain is its own
    assert "l2" in callbacks(opt)[0]


def test_what_a_subclass_takes_still_comes_from_the_file():
    opt = weft.AdamW([parameter()])
    opt.load_state_dict(weft.Adam([parameter()], amsgrad=True, lr=0.5).state_dict())
    assert opt.param_groups[0]["amsgrad"] is True
    assert opt.param_groups[0]["lr"] == 0.5


def test_what_a_group_has_of_its_own_survives_a_file():
    groups = lambda: [{"params": [parameter()], "maximize": True}, {"params": [parameter()]}]
    opt = Decoupled(groups())
    opt.step()
    new = Decoupled(groups())
    new.load_state_dict(opt.state_dict())
    assert callbacks(new) == callbacks(opt)
    assert callbacks(opt)[0] != callbacks(opt)[1]


def test_a_shared_value_of_the_base_is_no_state_of_the_subclass():
    """DoG keeps one distance in its groups, L-DoG one for each parameter."""
    saved = weft.DoG([parameter()]).state_dict()
    opt = weft.LDoG([parameter()])
    with pytest.raises(weft.StateError, match="'distance', which is each parameter's state here"):
        opt.load_state_dict(saved)
    opt.load_state_dict(saved, strict=False)
    assert "distance" not in opt.param_groups[0]
    copy.deepcopy(opt).step()


def test_a_users_constructor_need_not_take_all_that_its_base_takes():
    opt = Decoupled([parameter()], lr=0.5)
    assert opt.param_groups[0]["eps"] == Decoupled.chain().defaults["eps"] == 1e-8
    with pytest.raises(TypeError, match="eps"):
        Decoupled([parameter()], eps=1.0)
