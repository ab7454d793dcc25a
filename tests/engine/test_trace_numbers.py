"""Numbers in callbacks, as Python and NumPy compute them: fused is eager, whatever the hypers do."""

import random

import numpy as np
import pytest
import torch
from corpus import moving

import weft

STEPS = 12


@pytest.fixture(autouse=True)
def no_override(monkeypatch):
    monkeypatch.delenv("WEFT_ENGINE", raising=False)


def run(cb, engine, hypers, dtype):
    """Parameters after each step, every hyper moving, and builds after each step."""
    gen = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.randn((4, 3), generator=gen, dtype=torch.float64).to(dtype))
    opt = weft.Optimizer([p], [cb], engine=engine, **hypers)
    first = {k: v for k, v in opt.param_groups[0].items() if k not in ("params", "param_names")}
    values, builds = [], []
    for k in range(STEPS):
        for name, value in first.items():
            opt.param_groups[0][name] = moving(k, name, value)
        p.grad = torch.randn((4, 3), generator=gen, dtype=torch.float64).to(dtype)
        opt.step()
        values.append(p.detach().clone())
        builds.append(0 if engine == "eager" else opt.explain().builds)
    return values, builds, opt


def fuses(cb, variants=1, dtype=torch.float32, **hypers):
    """See that a callback runs fused as it runs eagerly, in so many variants."""
    hypers = {"lr": 0.1, **hypers}
    random.seed(0)
    eager, _, _ = run(cb, "eager", hypers, dtype)
    random.seed(0)
    fused, builds, opt = run(cb, "auto", hypers, dtype)
    assert opt.explain().fallbacks == []
    assert opt.explain().variants <= variants
    if variants == 1:
        assert len(set(builds[1:])) == 1
    close = 1e-12 if dtype is torch.float64 else 2e-5
    for k, (x, y) in enumerate(zip(fused, eager, strict=True)):
        torch.testing.assert_close(
            x, y, rtol=close, atol=close / 10, msg=lambda m, k=k: f"{k}: {m}"
        )


def falls(cb, reason, **hypers):
    """See that a callback falls back, with eager's results."""
    hypers = {"lr": 0.1, **hypers}
    random.seed(0)
    np.random.seed(0)
    eager, _, _ = run(cb, "eager", hypers, torch.float32)
    random.seed(0)
    np.random.seed(0)
    with pytest.warns(weft.WeftWarning, match=reason):
        fused, _, opt = run(cb, "auto", hypers, torch.float32)
    assert len(opt.explain().fallbacks) == 1
    for x, y in zip(fused, eager, strict=True):
        assert torch.equal(x, y)


# ---------------------------------------------------------------- imports within a callback


def imports_math(p, grad, lr, step):
    import math as m

    p.data.sub_(lr * m.sqrt(step) * grad)


def imports_from_math(p, grad, lr, step):
    from math import cos, sqrt

    p.data.sub_(lr * (2 + cos(lr)) * sqrt(step) * grad)


def imports_numpy(p, grad, lr, step):
    import numpy as np

    p.data.sub_(lr * np.sqrt(step) * grad)


def imports_torch(p, grad, lr):
    import torch
    import torch.nn.functional as F

    p.data.sub_(lr * F.relu(torch.abs(grad)))


def imports_in_a_helper(p, grad, lr, step):
    def scale(x):
        from math import log1p as l

        return l(x)

    p.data.sub_(lr * scale(step) * grad)


@pytest.mark.parametrize(
    "cb", [imports_math, imports_from_math, imports_numpy, imports_torch, imports_in_a_helper]
)
def test_an_import_within_gives_what_a_global_gives(cb):
    fuses(cb)


def test_what_an_import_within_gives_is_guarded(monkeypatch):
    import corpus

    monkeypatch.setattr(corpus, "SCALE", 2.0, raising=False)

    def cb(p, grad, lr):
        from corpus import SCALE

        p.data.sub_(lr * SCALE * grad)

    p = torch.nn.Parameter(torch.zeros(3))
    opt = weft.Optimizer([p], [cb], lr=1.0)
    for scale in (2.0, 2.0, 5.0):
        monkeypatch.setattr(corpus, "SCALE", scale)
        p.grad = torch.ones(3)
        opt.step()
    assert p.tolist() == [-9.0] * 3
    assert opt.explain().fallbacks == []


# ---------------------------------------------------------------- random numbers


def draws_pythons(p, grad, lr):
    import random

    p.data.sub_(lr * random.random() * grad)


def draws_from_python(p, grad, lr):
    from random import uniform

    p.data.sub_(lr * uniform(0.5, 1) * grad)


def draws_numpys(p, grad, lr):
    import numpy as np

    p.data.sub_(lr * np.random.rand() * grad)


def draws_numpys_normal(p, grad, lr):
    p.data.sub_(lr * float(np.random.normal(size=1)[0]) * grad)


def draws_from_a_generator(p, grad, lr, step):
    p.data.sub_(lr * np.random.default_rng(int(step)).random() * grad)


def draws_from_pythons_generator(p, grad, lr):
    import random

    p.data.sub_(lr * random.Random(3).random() * grad)


@pytest.mark.parametrize(
    "cb", [draws_pythons, draws_from_python, draws_numpys, draws_numpys_normal,
           draws_from_a_generator, draws_from_pythons_generator],
)  # fmt: skip
def test_drawn_numbers_are_never_in_a_kernel(cb):
    falls(cb, "something else each time|another one each time")


class Draw:
    """A function whose draws the tracer does not see."""

    __slots__ = ()

    def __call__(self):
        return random.random() + np.random.rand()


draw = Draw()


def test_hidden_draws_are_found_by_the_check_and_given_back():
    falls(lambda p, grad, lr: {"p": p - lr * draw() * grad}, "differs from eager")
