"""Hypers that are tensors: one element of any shape and dtype is a number, and is held to what a number is."""

from contextlib import nullcontext

import pytest
import torch

import weft
from weft.callbacks import descend, ema
from weft.optimizers import algorithms

NAMES = sorted(algorithms())
ENGINES = ("eager", "fused")

KINDS = {
    "float64, (1, 1, 1)": lambda v: torch.tensor(v, dtype=torch.float64).reshape(1, 1, 1),
    "float64, (), requires grad": lambda v: torch.tensor(
        v, dtype=torch.float64, requires_grad=True
    ),
    "(1,)": lambda v: torch.tensor([v], dtype=torch.float64 if type(v) is float else torch.int32),
}

pytestmark = pytest.mark.filterwarnings("ignore:Using backward:UserWarning")


def as_tensors(cls, kind):
    """Every number of a constructor's defaults as a tensor."""
    one = lambda v: kind(v) if type(v) is float or (type(v) is int and kind is KINDS["(1,)"]) else v
    both = cls._signature().items()
    given = {k: tuple(map(one, v)) if isinstance(v, tuple) else one(v) for k, v in both}
    return {k: v for k, v in given.items() if v is not cls._signature()[k]}


def stepped(cls, engine, options, shape=(4, 3), steps=3):
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(shape))
    target = torch.randn(shape)
    opt = cls([p], engine=engine, **options)

    def closure():
        opt.zero_grad()
        loss = (p - target).square().sum() / 2
        loss.backward(create_graph=opt.needs_closure)
        return loss

    for _ in range(steps):
        opt.step(closure)
    return p.detach(), {k: v for k, v in opt.state[p].items() if isinstance(v, torch.Tensor)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_hyper_of_every_optimizer(name, kind):
    cls = algorithms()[name]
    options = as_tensors(cls, KINDS[kind])
    (p, state), (q, held) = (stepped(cls, "eager", o) for o in ({}, options))
    torch.testing.assert_close(p, q, rtol=5e-3, atol=2e-4)  # MSVAG: differences of powers of beta
    for key, value in state.items():
        assert (value.shape, value.dtype) == (held[key].shape, held[key].dtype)
        torch.testing.assert_close(value, held[key], rtol=5e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["adamw", "sgd", "ademamix", "adagrad", "lamb"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 3)])
def test_kernels_too(name, shape):
    cls = algorithms()[name]
    for kind in KINDS.values():
        a, b = (stepped(cls, e, as_tensors(cls, kind), shape)[0] for e in ENGINES)
        assert a.shape == b.shape == shape
        assert a.dtype == b.dtype == torch.float32
        torch.testing.assert_close(a, b)


FALL_BACK = {  # with hypers that are tensors, and a branch on one
    "gravity": "draws random numbers and branches on a tensor",
    "schedulefreesgd": "returns 'x' on some of the ways",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_kernels_of_every_optimizer(name):
    cls = algorithms()[name]
    options = as_tensors(cls, KINDS["float64, (1, 1, 1)"])
    why = FALL_BACK.get(name)
    with pytest.warns(weft.WeftWarning, match=why) if why else nullcontext():
        a, b = (stepped(cls, "auto", o)[0] for o in ({}, options))
    near = {"rtol": 5e-3, "atol": 2e-4} if name == "msvag" else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(a, b, **near)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rate_that_is_filled_in_place(engine):
    """As torch's schedulers do."""
    moved = []
    for rate in (0.1, torch.tensor([0.1], dtype=torch.float64)):
        p = torch.nn.Parameter(torch.ones(3))
        opt = weft.AdamW([p], lr=rate, engine=engine)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)
        for _ in range(5):
            p.grad = torch.ones(3)
            opt.step()
            scheduler.step()
        moved.append(p.detach())
    torch.testing.assert_close(*moved)


@pytest.mark.parametrize("engine", ENGINES)
def test_momentum_that_is_filled_from_zero_selects_its_callbacks(engine):
    p = torch.nn.Parameter(torch.ones(3))
    opt = weft.SGD([p], lr=0.1, momentum=torch.zeros(1), engine=engine)
    for momentum in (0.0, 0.5, 0.5):
        opt.param_groups[0]["momentum"].fill_(momentum)
        p.grad = torch.ones(3)
        opt.step()
    torch.testing.assert_close(p.detach(), torch.full((3,), 1 - 0.1 - 0.1 - 0.15))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_callback_that_is_for_numbers_gets_one(engine):
    def halve(update, ratio=0.5, parts=(2, 1.0)):
        return {
            "update": update.lerp(update * parts[1], ratio).clamp(min=-1.0, max=ratio) / parts[0]
        }

    hypers = {"ratio": torch.tensor([0.5], dtype=torch.float64), "parts": (torch.tensor(2), 1.0)}
    p = torch.nn.Parameter(torch.ones(3))
    opt = weft.chain(halve, descend, lr=1.0)([p], engine=engine, **hypers)
    p.grad = torch.ones(3)
    opt.step()
    assert torch.equal(p.detach(), torch.full((3,), 0.75))


def test_a_verdict_knows_the_kinds_of_hypers():
    """A kernel that was trusted with one kind of number is not thereby trusted with another."""

    def telling(update, k=1.0):
        return {"update": update * k}

    seen = set()
    for k in (1.0, 1, torch.tensor(1.0)):
        p = torch.nn.Parameter(torch.ones(3))
        opt = weft.Optimizer([p], [telling, descend], lr=0.1, engine="fused")
        opt.param_groups[0]["k"] = k
        p.grad = torch.ones(3)
        opt.step()
        notes = [n.kernel.notes for n, *_ in opt._engine.fused.plans()]
        seen |= {verdict for note in notes for verdicts in note.values() for verdict in verdicts}
    assert len(seen) >= 3


# ---------------------------------------------------------------- what is refused

OUT_OF_RANGE = [
    ("Adam", "betas", (1.5, 0.999)),
    ("Adam", "betas", (0.9, float("nan"))),
    ("AdamW", "lr", float("nan")),
    ("AdamW", "eps", -1.0),
    ("SGD", "momentum", -0.1),
    ("SGD", "weight_decay", float("nan")),
    ("RMSprop", "alpha", -1.0),
    ("Adadelta", "rho", 1.5),
    ("Rprop", "etas", (1.5, 1.2)),
    ("Lion", "betas", (0.9, 1.5)),
]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
@pytest.mark.parametrize(("name", "hyper", "value"), OUT_OF_RANGE)
def test_out_of_range_is_refused_as_a_number_is(name, hyper, value, shape):
    one = lambda v: torch.tensor(v).reshape(shape)
    tensors = tuple(map(one, value)) if isinstance(value, tuple) else one(value)
    for given in (value, tensors):
        with pytest.raises(ValueError, match="Invalid"):
            getattr(weft, name)([torch.nn.Parameter(torch.ones(2))], **{hyper: given})


@pytest.mark.parametrize("name", NAMES)
def test_several_elements_for_one_number_are_refused_by_name(name):
    cls = algorithms()[name]
    for hyper, default in cls._signature().items():
        several = torch.full((2,), 0.5)
        if isinstance(default, tuple) and type(default[0]) is float:
            given = (several, *default[1:])
        elif type(default) is float:
            given = several
        else:
            continue
        with pytest.raises((ValueError, TypeError), match=f"'?{hyper}|1-element"):
            cls([torch.nn.Parameter(torch.ones(2, 2))], **{hyper: given})


def test_several_elements_are_refused_in_a_group_too():
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = weft.AdamW([p])
    for hyper in ("eps", "weight_decay", "maximize"):
        with pytest.raises(ValueError, match=rf"{hyper}.* is one number.*\(3,\)"):
            opt.add_param_group({"params": [q], hyper: torch.ones(3)})
    assert len(opt.param_groups) == 1


def test_several_elements_are_taken_where_they_can_be_meant():
    """By a callback whose hyper has no number for a default."""

    def masked(update, mask):
        return {"update": update * mask}

    p = torch.nn.Parameter(torch.ones(2))
    opt = weft.Optimizer(
        [p], [ema, masked, descend], lr=1.0, mask=torch.tensor([1.0, 0.0]), betas=(0.0,)
    )
    p.grad = torch.ones(2)
    with pytest.warns(weft.WeftWarning, match="tensor"):
        opt.step()
    assert p.tolist() == [0.0, 1.0]
