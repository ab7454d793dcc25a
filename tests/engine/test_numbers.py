"""The numbers of a step that repeats the last come from C: they are Python's, to the last bit."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from weft.engine.host.scalar_code import OPS
from weft.engine.runtime.replay import Replay

NAMES = ("lr", "a", "b[0]", "b[1]", "k", "step")
leaves = st.sampled_from((*NAMES, *NAMES, "2", "0.5", "-1.5", "0", "3", "1e-8"))


def grown(inner):
    two = st.sampled_from(("+", "-", "*", "/", "**", "<", "<=", ">", ">=", "==", "!=", "and", "or"))
    one = st.sampled_from(
        ("-", "abs", "not ", "float", "bool", "math.sqrt", "math.exp", "math.log", "math.sin",
         "math.cos", "math.tanh", "math.floor", "math.ceil")
    )  # fmt: skip
    return st.one_of(
        st.builds("({} {} {})".format, inner, two, inner),
        st.builds("({}({}))".format, one, inner),
        st.builds("{}({}, {})".format, st.sampled_from(("min", "max")), inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
    )


expressions = st.recursive(leaves, grown, max_leaves=8)
numbers = st.one_of(
    st.floats(-4, 4), st.sampled_from((0.0, -0.0, 1.0, 1e-300, 1e300, math.inf, math.nan))
)
rows = st.tuples(numbers, numbers, numbers, numbers, st.integers(-3, 3))


def program(expression):
    """A callback that writes the number's negative to the parameter, in double."""
    scope = {"math": math}
    exec(
        "def cb(p, grad, step, lr, a=0.0, b=(0.0, 0.0), k=0):\n"
        f"    return {{'p': p * 0.0 - ({expression}) * grad}}\n",
        scope,
    )
    return scope["cb"]


def run(cb, steps, engine):
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    p.grad = torch.ones(2, dtype=torch.float64)
    opt = weft.Optimizer([p], [cb], lr=0.5, a=0.25, b=(0.5, 0.75), k=1, engine=engine)
    out = []
    for lr, a, b0, b1, k in steps:
        opt.param_groups[0].update(lr=lr, a=a, b=(b0, b1), k=k)
        p.data.zero_()
        try:
            opt.step()
            out.append(p.detach().clone())
        except Exception as e:  # of the arithmetic: both refuse the step
            out.append(type(e).__name__)
    return out


quiet = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


def check(expression, steps):
    cb = program(expression)
    ends = [run(cb, [s for s in steps for _ in range(2)], engine) for engine in ("eager", "auto")]
    for a, b in zip(*ends, strict=True):
        if isinstance(a, str) and not isinstance(b, str):
            assert (b.abs() > 2**62).all(), expression  # torch takes no such integer
        elif isinstance(a, str):
            assert a == b, expression
        else:
            assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)), expression


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40, derandomize=True, **quiet)
@given(expressions, st.lists(rows, min_size=2, max_size=4))
def test_random_arithmetic(expression, steps):
    check(expression, steps)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=1000, **quiet)
@given(expressions, st.lists(rows, min_size=2, max_size=6))
def test_much_random_arithmetic(expression, steps):
    check(expression, steps)


EACH = {
    "+": "lr + a", "-": "lr - a", "*": "lr * a", "/": "lr / a", "**": "lr ** a", "neg": "-lr",
    "abs": "abs(lr)", "min": "min(lr, a)", "max": "max(lr, a)", "lt": "(lr < a) * lr",
    "le": "(lr <= a) * lr", "gt": "(lr > a) * lr", "ge": "(lr >= a) * lr", "eq": "(lr == a) * lr",
    "ne": "(lr != a) * lr", "not": "(not lr < a) * lr", "and": "(lr < a and lr) * lr",
    "or": "(lr < a or lr) * lr", "float": "float(k) * lr", "bool": "bool(k) * lr",
    "sqrt": "math.sqrt(lr)", "exp": "math.exp(lr)", "log": "math.log(lr)", "sin": "math.sin(lr)",
    "cos": "math.cos(lr)", "tanh": "math.tanh(lr)", "floor": "math.floor(lr) * a",
    "ceil": "math.ceil(lr) * a", "select": "(1 - lr if abs(1 - lr) < 0.5 else 1.0)",
    "guard": "(lr if lr < a else a)", "pin": "[lr, a, lr * a][k]",
}  # fmt: skip


def test_each_instruction_has_a_case():
    assert set(EACH) == set(OPS)


@pytest.mark.parametrize("op", EACH)
def test_each_instruction(op, monkeypatch):
    """Repeated without asking Python: but for a guard, which another outcome does not pass."""
    taken = []
    real = Replay.run
    monkeypatch.setattr(Replay, "run", lambda *args: taken.append(real(*args)) or taken[-1])
    steps = [(0.3 + 0.1 * i, 0.7 - 0.05 * i, 0.1, 0.2, 1) for i in range(6)]
    check(EACH[op], steps)
    assert sum(taken) >= 8, taken


@pytest.mark.parametrize("name", ["AdamW", "SGD", "NAdam", "RAdam", "Adan", "LAMB", "Lion"])
def test_optimizers_repeat(name, monkeypatch):
    taken = []
    real = Replay.run
    monkeypatch.setattr(Replay, "run", lambda *args: taken.append(real(*args)) or taken[-1])
    ps = [torch.nn.Parameter(torch.ones(s)) for s in ((3, 2), (4,))]
    for p in ps:
        p.grad = torch.ones_like(p)
    opt = getattr(weft, name)(ps, lr=0.01, engine="fused")
    for i in range(20):
        opt.param_groups[0]["lr"] = 0.01 / (1 + i)
        if i % 3 == 0:
            for p in ps:
                p.grad = p.grad + 0.1
        opt.step()
    assert sum(taken) >= 15, taken
