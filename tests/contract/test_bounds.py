"""Every hyper is held to its range and kind: when an optimizer is built, in a group, when set, when loaded."""

import math

import pytest
import torch

import weft
from weft import wrappers
from weft.optimizers import algorithms
from weft.wrapper import Wrapper

# hypers of any sign, in torch or in the paper
SIGNED = {
    "beta2_decay": "an exponent, negative in the paper",
    "dampening": "torch takes any",
    "derivative": "a gain",
    "integral": "a gain",
    "f_min": "a loss",
    "lambd": "torch takes any",
    "ns_coefficients": "of a polynomial",
    "t0": "torch takes any",
    "weight_lr_power": "an exponent",
}
# averages' decays and shares: at most 1
AT_MOST_ONE = {
    "betas", "rho", "nus", "gammas", "nu", "beta2", "beta3", "shampoo_beta", "graft_beta2", "alpha_init",
    "grok_alpha", "theta", "ema_rate", "partial", "fraction", "update_probability",
}  # fmt: skip
ELSEWHERE = {("adamuon", "beta2"), ("asgd", "rho")}  # a renamed alpha, which torch lets be more

NUMBERS = [
    (name, hyper, default)
    for name, cls in algorithms().items()
    for hyper, default in cls._signature().items()
    if isinstance(default, int | float | tuple) and not isinstance(default, bool)
    if not (isinstance(default, tuple) and hyper in cls.chain_options)
]


def param(shape=(4, 3)):
    return torch.nn.Parameter(torch.ones(shape))


def shape_of(name):
    for shape in ((4, 3), (6,)):
        try:
            algorithms()[name]([param(shape)])
            return shape
        except ValueError:
            pass
    return None


SHAPES = {name: shape_of(name) for name in algorithms()}


def wrongs(hyper, default):
    def all_of(value):
        return (value,) * len(default) if isinstance(default, tuple) else value

    yield all_of(math.nan)
    if hyper not in SIGNED:
        yield all_of(-1.0)
    if hyper in AT_MOST_ONE:
        yield all_of(2.0)
    yield None
    yield "0.1"
    yield 0.1 if isinstance(default, tuple) else (0.1, 0.2)
    if not isinstance(default, tuple):
        yield True


@pytest.mark.parametrize(("name", "hyper", "default"), NUMBERS)
def test_the_constructor_of_every_optimizer_refuses_nonsense(name, hyper, default):
    cls = algorithms()[name]
    for wrong in wrongs(hyper, default):
        if wrong == 2.0 and (name, hyper) in ELSEWHERE:
            continue
        with pytest.raises((ValueError, TypeError)):
            cls([param(SHAPES[name])], **{hyper: wrong})


CASES = [
    (weft.AdamW, "lr", -1.0, "Invalid learning rate: -1.0"),
    (weft.AdamW, "eps", math.nan, "Invalid epsilon value: nan"),
    (weft.QHAdam, "nus", (2.0, 1.0), "Invalid nus value"),
    (weft.StableSPAM, "gammas", (0.7, math.nan), "Invalid gammas value"),
    (weft.PID, "derivative", math.nan, "Invalid derivative value: nan"),
    (weft.AdamW, "weight_decay", "0.1", "'weight_decay' must be a number"),
    (weft.AdaMuon, "norm_eps", -1.0, "Invalid norm_eps value: -1.0"),
]


@pytest.mark.parametrize(("cls", "name", "value", "why"), CASES)
def test_every_way_in_refuses_it_and_leaves_all_as_it_was(cls, name, value, why):
    opt = cls([param()])
    before = opt.param_groups[0].get(name)
    with pytest.raises((ValueError, TypeError), match=why):
        opt.add_param_group({"params": [param()], name: value})
    assert len(opt.param_groups) == 1
    with pytest.raises((ValueError, TypeError), match=why):
        opt.set_hyper(name, value)
    saved = opt.state_dict()
    saved["param_groups"][0][name] = value
    with pytest.raises(weft.StateError, match=name if name != "lr" else "Invalid learning rate"):
        opt.load_state_dict(saved)
    assert opt.param_groups[0].get(name) == before
    with pytest.raises((ValueError, TypeError), match=why):
        cls.chain(**{name: value})([param()])


def test_ones_own_hypers_may_be_of_any_sign_but_no_nan():
    def shift(update, offset=-1.0):
        return {"update": update + offset}

    chain = weft.chain(shift, weft.callbacks.descend, lr=0.1)
    chain([param()], offset=-2.0)
    with pytest.raises(ValueError, match="Invalid offset value: nan"):
        chain([param()], offset=math.nan)


WRAPPED = [
    (cls, hyper)
    for cls in vars(wrappers).values()
    if isinstance(cls, type) and issubclass(cls, Wrapper)
    for hyper, default in cls.hypers.items()
    if isinstance(default, int | float) and not isinstance(default, bool)
]


@pytest.mark.parametrize(("cls", "hyper"), WRAPPED)
def test_wrappers_refuse_what_is_no_number(cls, hyper):
    for wrong in (math.nan, None, "1", True):
        with pytest.raises((ValueError, TypeError)):
            cls(**{hyper: wrong})
