"""The tracer's guards, and what it refuses: never a wrong graph."""

import math
import os
import random
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch

import weft
from weft.callbacks import descend
from weft.contract.bind import bind
from weft.engine.host.python_scalars import host_function
from weft.engine.trace import (
    Example,
    TensorSpec,
    Untraceable,
    trace,
)

FLOAT = TensorSpec((3, 2), torch.float32)


def traced(*elements, state=None, step=3, loss=None, dtype=torch.float32, **hypers):
    binding = bind([*elements], list(hypers))
    held = {n: TensorSpec((3, 2), dtype) for n, s in binding.states.items() if not s.is_number}
    held |= {n: s.init for n, s in binding.states.items() if s.is_number} | (state or {})
    values = {**binding.hypers, **{n: s.init for n, s in binding.shared.items()}, **hypers}
    example = Example((3, 2), dtype, held, values, frozenset(hypers), step, loss)
    return trace(binding, example)


def hosts(t, **values):
    """What the host function says: None where a guard fails."""
    f = host_function(t, list(t.host_nodes()))
    pick = lambda n: values[n.attr("name") or n.op]
    value = lambda n: pick(n)[n.attr("index")[0]] if n.attr("index") else pick(n)
    return f(*map(value, f.leaves))


# ---------------------------------------------------------------- symbolic numbers and guards


def test_numbers_stay_symbolic():
    def cb(grad, lr, betas, step):
        return {"grad": grad * (math.sqrt(lr) * betas[1] ** step)}

    t = traced(cb, descend, lr=0.1, betas=(0.9, 0.99))
    assert not t.decisions
    assert not t.pins
    assert hosts(t, lr=0.25, betas=(0.5, 0.5), step=2) == (0.25, 0.5 * 0.25)


def test_a_branch_on_a_number_is_a_guard():
    def cb(grad, step, wd=0.0):
        return {"grad": grad * (2 if step > 2 else 3)} if wd == 0 else None

    t = traced(cb, descend, lr=0.1)
    assert [o for _, o in t.decisions] == [True, True]
    assert hosts(t, step=5, wd=0.0, lr=0.1) == (0.1,)
    assert hosts(t, step=2, wd=0.0, lr=0.1) is None
    assert hosts(t, step=5, wd=0.1, lr=0.1) is None


def test_an_index_is_pinned():
    table = [1.0, 2.0, 3.0]
    t = traced(lambda grad, step: {"grad": grad * table[step % 3]}, descend, lr=0.1, step=4)
    assert [v for _, v in t.pins] == [1]
    assert hosts(t, step=7, lr=0.1) is not None
    assert hosts(t, step=5, lr=0.1) is None


def test_what_is_captured_is_guarded():
    config = types.SimpleNamespace(scale=2.0)
    scale = 3.0
    table = {"x": 1.0}

    def cb(grad):
        return {"grad": grad * scale * config.scale * table["x"] * GLOBAL}

    t = traced(cb, descend, lr=0.1)
    assert t.captures_hold()
    for change, undo in (
        (lambda: setattr(config, "scale", 5.0), lambda: setattr(config, "scale", 2.0)),
        (lambda: table.update(x=2.0), lambda: table.update(x=1.0)),
        (lambda: globals().update(GLOBAL=2.0), lambda: globals().update(GLOBAL=1.5)),
    ):
        change()
        assert not t.captures_hold()
        undo()
        assert t.captures_hold()
    scale = 4.0
    assert not t.captures_hold()


GLOBAL = 1.5


def test_a_captured_tensor_is_read_at_every_step():
    weight = torch.tensor(2.0)
    t = traced(lambda grad: {"grad": grad * weight}, descend, lr=0.1)
    assert any(n.op == "external" for n in t.graph.live())


def test_attributes_of_objects_and_their_classes_are_guarded():
    class Scaled:
        factor = 2.0

        def __init__(self):
            self.power = 1.0

        def __call__(self, grad):
            return {"grad": grad * self.factor**self.power}

    cb = Scaled()
    t = traced(cb, descend, lr=0.1)
    assert t.captures_hold()
    cb.power = 2.0
    assert not t.captures_hold()
    cb.power = 1.0
    Scaled.factor = 3.0
    assert not t.captures_hold()


def test_numbers_answer_for_their_kind():
    def cb(grad, step, lr, k=2):
        assert isinstance(step, int)
        assert isinstance(k, int)
        assert not isinstance(lr, int)
        assert isinstance(lr, float)
        assert type(step) is int
        assert isinstance(lr, (int, float))
        assert type(grad) is torch.Tensor
        return {"grad": grad * k}

    traced(cb, descend, lr=0.1)


def test_dtypes_are_those_that_are_computed_in():
    def cb(p, grad, avg=weft.zeros):
        assert p.dtype == grad.dtype == avg.dtype == torch.float32
        return {"avg": avg + grad}

    t = traced(cb, descend, lr=0.1, dtype=torch.bfloat16)
    assert t.stores == {"avg": TensorSpec((3, 2), torch.bfloat16)}
    assert all(o.node.dtype is torch.float32 for o in t.graph.outputs)


def test_a_number_in_state_is_a_number():
    t = traced(lambda n=weft.state(0): {"n": n + 1}, descend, lr=0.1)
    assert t.stores == {"n": int}
    assert next(o for o in t.graph.outputs if o.name == "n").node.is_host


def test_shared_values_are_decided_once():
    def cb(grad, d=weft.shared(1.0)):
        return {"d": d * 2, "grad": grad * d}

    def after(grad, d):
        return {"grad": grad * d}

    t = traced(cb, after, descend, lr=0.1)
    kinds = [o.kind for o in t.graph.outputs]
    assert kinds.count("shared") == 1
    assert not t.same_step

    def by_tensor(grad, d=weft.shared(1.0)):
        return {"d": grad.norm()}

    with pytest.raises(Untraceable, match="over_params"):
        traced(by_tensor, after, descend, lr=0.1)


def test_values_over_parameters_are_nodes():
    norm = weft.over_params("n", lambda grad: grad.square().sum())
    t = traced(norm, lambda grad, n: {"grad": grad / n.sqrt()}, descend, lr=0.1)
    assert ("over", "n") in [(o.kind, o.name) for o in t.graph.outputs]
    assert t.wrote["p", "p"] == ["descend"]


def test_names_of_who_wrote_what():
    def decay(p, lr):
        p.data.mul_(1 - lr)

    t = traced(decay, descend, lr=0.1)
    assert t.wrote == {("p", "p"): ["decay", "descend"]}


def test_examples_with_other_values_have_one_key():
    one = Example((2,), torch.float32, {"n": 1.0}, {"lr": 0.1, "betas": (0.9, 0.99), "flag": True})
    two = Example((2,), torch.float32, {"n": 2.0}, {"lr": 0.2, "betas": (0.8, 0.9), "flag": True})
    other = Example(
        (2,), torch.float32, {"n": 2.0}, {"lr": 0.2, "betas": (0.8, 0.9), "flag": False}
    )
    assert one.key() == two.key() != other.key()
    assert hash(one.key()) == hash(two.key())


# ---------------------------------------------------------------- what is refused

EXTERNAL = torch.zeros(3, 2)
SEEN: list = []
COUNT = 0
ARRAY = np.ones(3)


def counts_global(grad):
    global COUNT
    COUNT += 1
    return {"grad": grad * COUNT}


class Counter:
    def __init__(self):
        self.n = 0

    def __call__(self, grad):
        self.n += 1
        return {"grad": grad * self.n}


def counter():
    n = 0

    def cb(grad):
        nonlocal n
        n += 1
        return {"grad": grad * n}

    return cb


def loops(grad):
    while grad.norm() > 1:
        grad = grad * 0.5
    return {"grad": grad}


def sets_attribute(p, grad):
    p.seen = True
    return {"grad": grad}


def asserts(grad):
    assert grad.isfinite().all()


def dead_noise(p, grad):
    torch.randn_like(p)
    return {"grad": grad * 2}


def branch_and_noise(p, grad):
    if grad.sum() > 0:
        return {"grad": grad + torch.randn_like(p)}
    return None


REFUSED = {
    "a global counter": counts_global,
    "an object that counts": Counter(),
    "a closure that counts": counter(),
    "a captured list that grows": lambda grad: SEEN.append(1),
    "a loop on a tensor": loops,
    "an attribute of p": sets_attribute,
    "an assertion on a tensor": asserts,
    "random of Python": lambda grad: {"grad": grad * random.random()},
    "random of numpy": lambda grad: {"grad": grad * np.random.rand()},
    "the time": lambda grad: {"grad": grad * time.time()},
    "the environment": lambda grad: {"grad": grad * float(os.environ.get("SCALE_OF_TESTS", "1"))},
    "printing": lambda grad: print(grad),
    "text of a number": lambda grad, lr: {"grad": grad * float(f"{lr}")},
    "numpy of a tensor": lambda grad: {"grad": grad * grad.numpy().sum()},
    "a list of a tensor": lambda grad: {"grad": grad * sum(grad.flatten().tolist())},
    "a boolean index": lambda grad: {"grad": grad * grad[grad > 0].max()},
    "writing a captured tensor": lambda grad: EXTERNAL.add_(grad),
    "out= of a captured tensor": lambda grad: torch.mul(grad, 2, out=EXTERNAL),
    "a captured numpy array": lambda grad: {"grad": grad * ARRAY.sum()},
    "noise that is not used": dead_noise,
    "noise after a branch": branch_and_noise,
    "the memory of a tensor": lambda p, grad: {"grad": grad * (p.data_ptr() % 3)},
    "strides of an unknown layout": lambda grad: {"grad": grad * grad.t().stride()[0]},
    "a number of a tensor as a key": lambda grad: {"grad": grad * {0.1: 2}[grad.max().item()]},
    "a tensor as a key": lambda p, grad: {"grad": grad * {p: 2}[p]},
    "assigning the grad": lambda p, grad: setattr(p, "grad", grad * 2),
    "NaN of an unknown function": lambda grad, lr: {"grad": grad * float.__mul__(lr, 2.0)},
    "an error": lambda grad: {"grad": grad @ grad},
    "writing what is expanded": lambda grad: {"grad": grad * grad.sum().expand(2).mul_(2)},
    "a view of reshape": lambda grad: grad.t().reshape(-1).mul_(2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    cb = REFUSED[name]
    with pytest.raises(Untraceable) as e:
        traced(cb, descend, lr=0.1)
    assert e.value.reason
    assert e.value.callback in (getattr(cb, "__name__", ""), type(cb).__name__)
    assert e.value.file.endswith("test_trace.py") == (e.value.callback != "descend")


def test_nothing_outside_has_changed_by_refusing():
    assert COUNT == 0
    assert SEEN == []
    assert REFUSED["an object that counts"].n == 0
    assert torch.equal(EXTERNAL, torch.zeros(3, 2))


def test_complex_parameters_are_left_to_eager():
    with pytest.raises(Untraceable, match="complex64"):
        traced(lambda grad: None, descend, lr=0.1, dtype=torch.complex64)


def test_noise_leaves_the_users_generator_alone():
    before = torch.get_rng_state()
    t = traced(lambda p, grad: {"grad": grad + torch.randn_like(p)}, descend, lr=0.1)
    assert t.random
    assert torch.equal(before, torch.get_rng_state())


def test_tracing_imports_neither_sympy_nor_dynamo():
    code = """
import sys, torch
before = set(sys.modules)
import weft
from weft.contract.bind import bind
from weft.engine.trace import Example, trace
cb = lambda p, grad, lr: {"p": p - lr * grad.lerp(p, .5).clamp(min=0) / grad.norm()}
trace(bind([cb], ["lr"]), Example((3, 2), torch.float32, {}, {"lr": .1}))
heavy = ("sympy", "torch._dynamo", "torch._inductor", "torch.fx")
print([m for m in heavy if m in sys.modules and m not in before])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
