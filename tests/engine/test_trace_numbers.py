"""Numbers in callbacks, as Python and NumPy compute them: fused is eager, whatever the hypers do."""

import math
import random
import statistics

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


# ---------------------------------------------------------------- NumPy's functions

NUMPY = {
    "mean": lambda lr, betas, step: np.mean(betas),
    "sum": lambda lr, betas, step: np.sum([lr, 0.05]),
    "max": lambda lr, betas, step: np.max([lr, 0.13]) + np.amax(betas),
    "min": lambda lr, betas, step: np.min((lr, 0.13)) + np.amin(betas),
    "average": lambda lr, betas, step: np.average(betas) + np.average(betas, weights=[1, 3]),
    "median": lambda lr, betas, step: np.median([lr, 0.13, step]) + np.median([lr, 0.13]),
    "std": lambda lr, betas, step: np.std(betas) + np.var([lr, 0.4, step]),
    "dot": lambda lr, betas, step: np.dot(betas, [0.5, lr]),
    "prod": lambda lr, betas, step: np.prod(betas),
    "cumsum": lambda lr, betas, step: np.cumsum(betas)[1] + np.cumprod([lr, 2.0])[-1],
    "array": lambda lr, betas, step: float((1 - np.array(betas) ** step)[0]),
    "array of one": lambda lr, betas, step: np.array([lr]).item() + float(np.asarray(lr)),
    "array arithmetic": lambda lr, betas, step: (lr * np.array([1.0, 2.0]) + np.sqrt(betas)).sum(),
    "round": lambda lr, betas, step: np.round(lr, 2) + np.around(step / 3, 1) + np.rint(step * lr),
    "round tens": lambda lr, betas, step: np.round(lr * 1000, -1),
    "fix": lambda lr, betas, step: np.fix(step * lr) + np.trunc(step * 0.3),
    "isclose": lambda lr, betas, step: float(np.where(np.isclose(lr, 0.114, atol=0.01), 0.5, lr)),
    "interp": lambda lr, betas, step: float(np.interp(step, [1, 5, 8], [0.1, 1.0, 0.3])),
    "heaviside": lambda lr, betas, step: np.heaviside(step - 4, 0.5) + lr,
    "divmod": lambda lr, betas, step: np.divmod(step, 3)[1] + np.divmod(lr, 0.03)[0],
    "logic": lambda lr, betas, step: float(np.where(np.logical_and(lr > 0.12, np.logical_not(step > 9)), 1.0, lr)),
    "or": lambda lr, betas, step: float(np.where(np.logical_or(lr > 0.15, step < 3), 1.0, lr)),
    "any": lambda lr, betas, step: float(np.where(np.any([lr > 0.12, step > 20]), 1.0, 2.0)),
    "all": lambda lr, betas, step: float(np.where(np.all([lr > 0.12, step > 7]), 1.0, 2.0)),
    "nan_to_num": lambda lr, betas, step: np.nan_to_num(lr) + np.nan_to_num(lr * np.inf, posinf=2.0),
    "clip": lambda lr, betas, step: np.clip(lr, 0.12, 0.15) + np.clip(step, None, 5),
    "hypot": lambda lr, betas, step: np.hypot(lr, 0.3),
    "power": lambda lr, betas, step: 1 - np.power(betas[1], step),
    "linalg": lambda lr, betas, step: np.linalg.norm([lr, betas[0]]),
    "sign": lambda lr, betas, step: np.sign(lr - 0.12) + 2,
    "minimum": lambda lr, betas, step: np.minimum(lr, 0.13) / np.maximum(step, 4) + np.square(lr),
    "of a shape": lambda lr, betas, step: lr * np.mean((4, 3)) / np.sqrt(np.prod((4, 3))),
    "finfo": lambda lr, betas, step: lr + np.finfo(np.float32).eps + np.finfo(np.float64).eps,
    "pi": lambda lr, betas, step: lr * (1 + np.cos(np.pi * step / 10)),
    "errstate": lambda lr, betas, step: _quiet(lr),
    "float32": lambda lr, betas, step: lr * np.float32(0.3),
    "float64 first": lambda lr, betas, step: np.float64(0.3) * lr,
    "float32 first": lambda lr, betas, step: np.float32(0.3) - lr,
    "float32 of it": lambda lr, betas, step: 1 - np.float32(betas[1]),
    "float32 cancels": lambda lr, betas, step: np.float32(1) - np.float32(betas[1]) ** step,
    "float32 meets float64": lambda lr, betas, step: np.float32(0.3) * np.sqrt(lr) - np.float64(lr),
    "float32 array": lambda lr, betas, step: np.array(betas, dtype=np.float32)[0] * lr,
    "array of no dimension": lambda lr, betas, step: lr * np.array(0.3),
    "int64": lambda lr, betas, step: lr - np.int64(1) * step,
    "int of it": lambda lr, betas, step: np.int64(lr * 100) / 3,
    "compared": lambda lr, betas, step: float(np.where(np.float32(0.15) < lr, 1.0, lr)),
    "captured": lambda lr, betas, step: lr * HALF + DOUBLE * lr,
    "kinds": lambda lr, betas, step: lr if isinstance(np.sqrt(lr), np.floating) and type(np.float32(lr)) is np.float32 else 0.0,
    "item": lambda lr, betas, step: np.float32(lr).item() + np.sqrt(lr).astype(np.float32),
}  # fmt: skip
HALF, DOUBLE = np.float32(0.3), np.float64(0.7)


def _quiet(x):
    with np.errstate(divide="ignore"):
        return np.log(x)


@pytest.mark.parametrize("name", NUMPY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_numpy_of_symbolic_numbers(name, dtype):
    f = NUMPY[name]

    def cb(p, grad, lr, step, betas=(0.9, 0.99)):
        p.data.sub_(f(lr, betas, step) * grad)

    fuses(cb, dtype=dtype)


def test_a_table_of_numpys_is_specialised():
    def cb(p, grad, lr, step):
        p.data.sub_(lr * np.linspace(0.1, 1, 5)[min(step, 4)] * grad)

    fuses(cb, variants=4)


def test_tensors_of_numpy_numbers_have_their_dtype():
    def cb(p, grad, lr, a=None, b=None):
        a, b = torch.tensor(np.float32(0.5)) * lr, torch.tensor(np.sqrt(lr))
        assert a.dtype is torch.float32
        assert b.dtype is torch.float64
        return {"p": p - a * b.float() * grad}

    fuses(cb)


@pytest.mark.parametrize(
    ("f", "reason"),
    [
        (lambda lr, step: lr * np.float16(0.3), "NumPy's .* in float16"),
        (lambda lr, step: np.int64(2) ** step * lr, "of integers, which wraps"),
        (lambda lr, step: np.convolve([lr, 1.0], [1.0])[0] if np.set_printoptions() else lr, "it calls NumPy's set_print"),
        (lambda lr, step: float(np.sinc(lr)), "sinc|outcomes"),
    ],
)  # fmt: skip
def test_what_numpy_computes_otherwise_falls_back(f, reason):
    def cb(p, grad, lr, step):
        p.data.sub_(float(f(lr, step)) * grad)

    falls(cb, reason)


# ---------------------------------------------------------------- Python's scalars

PYTHON = {
    "round": lambda lr, betas, step: round(lr, 2) + round(step * lr) + round(step / 3, 1),
    "round tens": lambda lr, betas, step: round(step * 7, -1) / 10,
    "modf": lambda lr, betas, step: math.modf(step * lr)[0] + math.modf(-step * 0.7)[1],
    "frexp": lambda lr, betas, step: math.frexp(lr)[0] + math.frexp(step)[1],
    "ldexp": lambda lr, betas, step: math.ldexp(lr, -step),
    "factorial": lambda lr, betas, step: lr / math.factorial(step),
    "isqrt": lambda lr, betas, step: lr * math.isqrt(step * 10),
    "gcd": lambda lr, betas, step: lr * math.gcd(step, 6) / math.lcm(step, 4),
    "comb": lambda lr, betas, step: lr / math.comb(step + 3, 2) + lr / math.perm(step + 2, 2),
    "dist": lambda lr, betas, step: math.dist(betas, (0.0, lr)),
    "hypot": lambda lr, betas, step: math.hypot(lr, *betas),
    "fsum": lambda lr, betas, step: math.fsum([lr, *betas]) + math.prod(betas),
    "copysign": lambda lr, betas, step: math.copysign(lr, 5.5 - step) + math.fmod(step, 3),
    "remainder": lambda lr, betas, step: math.remainder(step, 3.5) + math.log(lr, 2),
    "pow": lambda lr, betas, step: math.pow(betas[0], step) + pow(betas[1], step),
    "isfinite": lambda lr, betas, step: lr if math.isfinite(lr) and not math.isnan(lr) else 1.0,
    "isinf": lambda lr, betas, step: 1.0 if math.isinf(lr) else lr,
    "trunc": lambda lr, betas, step: math.trunc(step * lr * 3) + math.floor(lr * 30),
    "bits": lambda lr, betas, step: lr * ((step & 3) + (step | 8) + (step ^ 5) + (5 & step)),
    "shifts": lambda lr, betas, step: lr / (1 << step) + lr * (step >> 1) + lr * (64 >> step),
    "invert": lambda lr, betas, step: lr * ~step,
    "bit_length": lambda lr, betas, step: lr / step.bit_length(),
    "divmod": lambda lr, betas, step: divmod(step, 4)[1] * lr + divmod(lr, 0.03)[1],
    "mean": lambda lr, betas, step: statistics.mean(betas) + statistics.fmean([lr, 1.0]),
    "stdev": lambda lr, betas, step: statistics.stdev([lr, 1.0, step]) + statistics.pvariance(betas),
    "sum of": lambda lr, betas, step: sum(betas) / len(betas) + max(*betas, lr),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_pythons_numbers(name):
    f = PYTHON[name]

    def cb(p, grad, lr, step, betas=(0.9, 0.99)):
        p.data.sub_(f(lr, betas, step) * grad)

    fuses(cb, dtype=torch.float64)


def test_isclose_is_a_branch():
    def cb(p, grad, lr):
        p.data.sub_((0.5 if math.isclose(lr, 0.121, rel_tol=1e-2) else lr) * grad)

    fuses(cb, variants=2)


def test_a_bit_of_the_step_is_a_branch():
    def cb(p, grad, lr, step):
        p.data.sub_((lr if step & 1 else lr / 2) * grad)

    fuses(cb, variants=2)


def test_floats_have_no_bits():
    def cb(p, grad, lr):
        try:
            p.data.sub_((lr & 1) * grad)
        except TypeError:
            p.data.sub_(lr * grad)

    fuses(cb)


def test_a_key_is_specialised():
    def cb(p, grad, lr, step):
        p.data.sub_(lr * {0: 0.1, 1: 0.5, 2: 0.7}[step % 3] * grad)

    fuses(cb, variants=3)


def test_too_many_keys_fall_back():
    def cb(p, grad, lr, step):
        p.data.sub_(lr * {1: 0.1, 2: 0.5}.get(step, 1.0) * grad)

    falls(cb, "more than 8 outcomes")


def test_a_tuple_of_tuples_stays_symbolic():
    def cb(p, grad, lr, c=((0.9, 0.99), 0.5)):
        (a, b), d = c
        p.data.sub_(lr * a * b * d * grad)

    fuses(cb)


@pytest.mark.parametrize(
    "f",
    [lambda x: round(x, 2), lambda x: math.gamma(x), lambda x: math.frexp(x)[0], lambda x: int(x) << 2],
    ids=["round", "gamma", "frexp", "shift"],
)  # fmt: skip
def test_what_is_no_op_on_tensors_falls_back_on_numbers_read_out_of_them(f):
    def cb(p, grad, lr):
        p.data.sub_(lr * f(grad.norm().item()) * grad)

    falls(cb, "read out of a tensor")


def test_numbers_read_out_of_tensors_have_bits_and_numpys_types():
    def cb(p, grad, lr):
        n = int(grad.abs().sum().item() * 10)
        s = np.float32(grad.norm().item()) * np.float32(lr)
        p.data.sub_(lr * ((n & 6) + (3 ^ n) + np.sqrt(float(s))) * grad)

    fuses(cb)


def test_numpys_numbers_as_hypers_stay_symbolic():
    def cb(p, grad, lr, betas):
        p.data.sub_((lr * 0.3 + (1 - betas[0])) * grad)

    gen = torch.Generator().manual_seed(0)
    a, b = (torch.nn.Parameter(torch.ones(4, 3, dtype=torch.float64)) for _ in range(2))
    opts = [
        weft.Optimizer([x], [cb], lr=0.1, betas=(0.9, 0.99), engine=e)
        for x, e in ((a, "eager"), (b, "auto"))
    ]
    for k in range(STEPS):
        a.grad = b.grad = torch.randn((4, 3), generator=gen, dtype=torch.float64)
        for opt in opts:
            opt.param_groups[0]["lr"] = np.float32(0.1 + 0.01 * k)
            opt.param_groups[0]["betas"] = (np.float32(0.9 + 0.001 * k), 0.99)
            opt.step()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert opts[1].explain().fallbacks == []
    assert opts[1].explain().builds <= 2


def test_narrow_numbers_of_numpys_are_not_kept_as_pythons():
    def cb(p, grad, lr, m=weft.state(0.0)):
        m = m * np.float32(0.9) + np.float32(lr)
        p.data.sub_(m * grad)
        return {"m": m}

    falls(cb, "keeps NumPy's float32 as state")


def test_wide_numbers_of_numpys_are_kept_as_pythons():
    def cb(p, grad, lr, m=weft.state(0.0)):
        m = m * 0.9 + np.sqrt(lr)
        p.data.sub_(m * grad)
        return {"m": m}

    fuses(cb, dtype=torch.float64)
