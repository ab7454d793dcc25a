"""What cannot run fused runs eagerly: right results, and one warning with name, line and reason."""

import collections
import functools
import itertools
import logging
import math
import random
import warnings
import weakref

import pytest
import torch

import weft
from weft.callbacks import descend
from weft.errors import NoNumber

SHAPES = ((4, 3), (5,), ())


@pytest.fixture(autouse=True)
def no_override(monkeypatch):
    monkeypatch.delenv("WEFT_ENGINE", raising=False)


def make(cbs, engine="auto", dtype=torch.float32, **hypers):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s).to(dtype)) for s in SHAPES]
    return weft.Optimizer(params, cbs, engine=engine, **{"lr": 0.1, **hypers})


def train(opt, steps=3, **kwargs):
    """Steps on grads that are the same for all; gives the warnings."""
    g = torch.Generator().manual_seed(1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(steps):
            for p in opt.param_groups[0]["params"]:
                p.grad = torch.randn(p.shape, generator=g).to(p.dtype)
            opt.step(**kwargs)
    return [str(w.message) for w in said if issubclass(w.category, weft.WeftWarning)]


def values(opt):
    return [p.detach().clone() for p in opt.param_groups[0]["params"]]


def falls(cbs, name, reason):
    """See that a chain falls back with one warning, and steps as the eager loop does."""
    a, b = make(cbs, "eager"), make(cbs)
    assert train(a) == []
    (said,) = train(b)
    assert said.startswith(f"{name} (")
    assert __file__ in said
    assert reason in said
    for x, y in zip(values(a), values(b), strict=True):
        assert torch.equal(x, y)
    ((named, file, line, why),) = b.explain().fallbacks
    assert (named, file) == (name, __file__)
    assert f"{file}:{line}" in said
    assert reason in why
    assert b.explain().builds == 0


# ---------------------------------------------------------------- effects that no kernel keeps

log: list[int] = []
put = log.append
queue: collections.deque[int] = collections.deque()
counter: collections.Counter[str] = collections.Counter()
sums: collections.defaultdict[str, int] = collections.defaultdict(int)
numbers = itertools.count()
config = {"of": {"steps": 0}}
logger = logging.getLogger("tests")
rng = random.Random(0)
total = 0


class Kept:
    """Attributes of a class, and of its objects."""

    n = 0
    seen: list[int] = []  # noqa: RUF012

    def __init__(self):
        self.calls = 0
        self.held = [0]

    def __call__(self, p, lr):
        self.calls += 1
        p.data.sub_(lr * p.grad)

    def add(self):
        log.append(1)
        return 1.0


def remembers(x, memo=[]):
    memo.append(1)
    return x


def sub(p, lr):
    p.data.sub_(lr * p.grad)


def by_list(p, lr):
    log.append(1)
    sub(p, lr)


def by_method(p, lr):
    put(1)
    sub(p, lr)


def by_deque(p, lr):
    queue.append(1)
    sub(p, lr)


def by_counter(p, lr):
    counter["n"] += 1
    sub(p, lr)


def by_sums(p, lr):
    sums["n"] += 1
    sub(p, lr)


def by_iterator(p, lr):
    next(numbers)
    sub(p, lr)


def by_dict(p, lr):
    config["of"]["steps"] += 1
    sub(p, lr)


def by_global(p, lr):
    global total
    total += 1
    sub(p, lr)


def by_class(p, lr):
    Kept.n += 1
    sub(p, lr)


def by_list_of_class(p, lr):
    Kept.seen.append(1)
    sub(p, lr)


def by_new_object(p, lr):
    sub(p, lr * Kept().add())


def by_own_attribute(p, lr):
    by_own_attribute.n += 1
    sub(p, lr)


by_own_attribute.n = 0


def by_default(p, lr):
    sub(p, remembers(lr))


def by_cell():
    n = 0

    def counts(p, lr):
        nonlocal n
        n += 1
        sub(p, lr)

    counts.seen = lambda: n
    return counts


@pytest.mark.parametrize(
    ("cb", "reason", "count"),
    [
        (by_list, "changes log", lambda: len(log)),
        (by_method, "may change a list", lambda: len(log)),
        (by_deque, "a deque", lambda: len(queue)),
        (by_counter, "a Counter", lambda: counter["n"]),
        (by_sums, "a defaultdict", lambda: sums["n"]),
        (by_iterator, "a count", lambda: next(numbers)),
        (by_dict, "changes config['of']", lambda: config["of"]["steps"]),
        (by_global, "assigns to a global", lambda: total),
        (by_class, "changes the class Kept", lambda: Kept.n),
        (by_list_of_class, "changes Kept.seen", lambda: len(Kept.seen)),
        (by_new_object, "changes log", lambda: len(log)),
        (by_own_attribute, "an attribute of by_own_attribute", lambda: by_own_attribute.n),
        (by_default, "a default of remembers", lambda: len(remembers.__defaults__[0])),
    ],
)
def test_no_effect_is_lost_nor_happens_twice(cb, reason, count):
    before = count()
    opt = make([cb])
    (said,) = train(opt)
    assert said.startswith(f"{cb.__name__} (")
    assert reason in said
    uses = 1 if cb is by_iterator else 0  # looking takes one
    assert count() - before - uses == 3 * len(SHAPES)
    assert opt.explain().builds == 0


def test_no_effect_on_a_cell_or_an_object_is_lost():
    cb = by_cell()
    (said,) = train(make([cb]))
    assert "assigns to n" in said
    assert cb.seen() == 3 * len(SHAPES)
    kept = Kept()
    (said,) = train(make([kept]))
    assert "changes an attribute of Kept" in said
    assert kept.calls == 3 * len(SHAPES)


def test_what_prints_draws_or_logs_runs_eagerly(capsys, caplog):
    def prints(p, lr):
        print("step")
        sub(p, lr)

    def logs(p, lr):
        logger.warning("step")
        sub(p, lr)

    def draws(p, lr):
        sub(p, lr * rng.random())

    (said,) = train(make([prints]))
    assert "it prints" in said
    assert capsys.readouterr().out == "step\n" * 9
    (said,) = train(make([logs]))
    assert "logger" in said
    assert len(caplog.records) == 9
    rng.seed(0)
    a = make([draws], "eager")
    train(a)
    rng.seed(0)
    b = make([draws])
    (said,) = train(b)
    assert "rng" in said
    assert all(map(torch.equal, values(a), values(b)))


# ---------------------------------------------------------------- what only looks like one


def norm():
    """A global of the name of a tensor's method."""


norm = functools.lru_cache(norm)


@functools.lru_cache
def twice(k):
    return 2 * k


class Scale:
    def __init__(self, by):
        self.by = by

    def root(self, x):
        return math.sqrt(x) * Scale(self.by).by


def test_names_of_attributes_caches_and_classes_are_fine():
    def cb(p, grad, lr):
        size = p.norm() + twice(lr) + Scale(math.sqrt(lr)).root(lr)
        return {"p": p - lr * grad / (1 + size)}

    a, b = make([cb], "eager"), make([cb], "fused")
    train(a)
    assert train(b) == []
    for x, y in zip(values(a), values(b), strict=True):
        torch.testing.assert_close(x, y)


def test_what_is_in_a_captured_container_is_looked_at_again():
    scales = {"of": {"lr": [1.0]}}

    def cb(p, grad, lr):
        return {"p": p - lr * scales["of"]["lr"][0] * grad}

    a, b = make([cb], "eager"), make([cb], "fused")
    for scale in (1.0, 2.0, 1.0):
        scales["of"]["lr"][0] = scale
        train(a, 1)
        train(b, 1)
        for x, y in zip(values(a), values(b), strict=True):
            torch.testing.assert_close(x, y)


# ---------------------------------------------------------------- the other reasons


def test_what_cannot_be_traced():
    def loops(update):
        while update.abs().max() > 1e-1:
            update = update / 2
        return {"update": update}

    falls([loops, descend], "loops", "branches on tensors")


@pytest.mark.parametrize("hide", ["WEFT_CC", "PATH"])
def test_no_compiler(monkeypatch, tmp_path, hide):
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("WEFT_CC", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv(hide, str(tmp_path / "nothing"))

    def unlike_all_others(update):
        return {"update": update * 1.2345 + update.abs() * 0.0321}

    falls([unlike_all_others, descend], "unlike_all_others", "compiler")


def test_an_unknown_device():
    p = torch.nn.Parameter(torch.ones(3, device="meta"))
    p.grad = torch.ones_like(p)
    opt = weft.Optimizer([p], [descend], lr=0.1)
    with pytest.warns(weft.WeftWarning, match=r"descend \(.*:\d+\) .*on meta.*no kernels"):
        opt.step()
    opt.step()
    with pytest.raises(weft.StepError, match="on meta"):
        weft.Optimizer([p], [descend], lr=0.1, engine="fused").step()


def test_a_value_behind_the_tracers_back(monkeypatch, tmp_path):
    """Whatever becomes a constant by mistake is found by the comparison with the eager loop."""
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path))

    def escape(x):
        return x.tracer.values[x.node.index] if hasattr(x, "tracer") else x

    escape.__module__ = "torch.taken.for.torch"  # so the tracer lets it be

    def at_rate(update, lr):
        return {"update": update * escape(lr)}

    def at_step(update, step):
        return {"update": update / escape(step)}

    def at_loss(update, loss):
        return {"update": update * escape(loss)}

    def of_state(update, momentum=0.9, buf=weft.zeros):
        buf = buf * escape(momentum) + update
        return {"buf": buf, "update": buf}

    for cb in (at_rate, at_step, at_loss, of_state):
        opt = make([cb, descend])
        (said,) = train(opt, loss=2.5)
        assert said.startswith(f"{cb.__name__} (")
        assert "differs from eager" in said


@pytest.mark.parametrize("grad", [torch.float64])
def test_a_grad_of_a_wider_dtype(grad):
    p = torch.nn.Parameter(torch.ones(3))
    p.grad_dtype = grad
    p.grad = torch.ones(3, dtype=grad)
    opt = weft.Optimizer([p], [descend], lr=0.1)
    with pytest.warns(weft.WeftWarning, match="float64"):
        opt.step()
    assert p.tolist() == pytest.approx([0.9] * 3)


def test_the_environment_decides(monkeypatch):
    def cb(p, lr):
        log.append(1)
        sub(p, lr)

    monkeypatch.setenv("WEFT_ENGINE", "eager")
    assert train(make([cb], "fused")) == []
    monkeypatch.setenv("WEFT_ENGINE", "fused")
    with pytest.raises(weft.StepError, match=r"cb \(.*cannot run fused: it changes log"):
        train(make([cb], "eager"))


def test_what_fails_eagerly_too_may_run_fused_once_it_is_mended():
    def scaled(update, loss):
        return {"update": update * loss}

    opt = make([scaled, descend])
    with pytest.raises(weft.StepError, match="loss"):
        train(opt, 1)
    assert train(opt, 1, loss=2.0) == []
    assert opt.explain().builds == 1
    assert opt.explain().fallbacks == []


def test_a_check_leaves_the_users_generators_alone():
    mine = torch.Generator().manual_seed(3)

    def noisy(update):
        return {"update": update + torch.randn(update.shape)}

    def own(update):
        return {"update": update + torch.rand(update.shape, generator=mine) * 0}

    for cb in (noisy, own):
        a, b = make([cb, descend], "eager"), make([cb, descend])
        ends = []
        for opt in (a, b):
            mine.manual_seed(3)
            torch.manual_seed(7)
            g = [torch.full(p.shape, 0.5) for p in opt.param_groups[0]["params"]]
            for p, x in zip(opt.param_groups[0]["params"], g, strict=True):
                p.grad = x
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                opt.step()
            ends.append((torch.get_rng_state(), mine.get_state()))
        assert torch.equal(ends[0][0], ends[1][0])
        assert torch.equal(ends[0][1], ends[1][1])
        for x, y in zip(values(a), values(b), strict=True):
            torch.testing.assert_close(x, y)


# ---------------------------------------------------------------- numbers that cannot be computed


def test_arithmetic_that_fails_eagerly_too_is_the_eager_loops_to_tell():
    def scale(update, lr, wide=1.0):
        return {"update": update * (1 / wide)}

    opt = make([scale, descend])
    assert train(opt, 1) == []
    before = values(opt)
    opt.set_hyper("wide", 0.0)
    with pytest.raises(weft.errors.StepError, match=r"scale .* raised ZeroDivisionError"):
        train(opt, 1)
    for x, y in zip(before, values(opt), strict=True):
        assert torch.equal(x, y)
    opt.set_hyper("wide", 2.0)
    assert train(opt, 1) == []
    assert not opt.explain().fallbacks


def test_arithmetic_that_fails_for_kernels_only_warns_once(monkeypatch):
    from weft.engine.runtime.replay import Replay
    from weft.engine.runtime.scalars import ScalarGroup

    def refuse(self, *args):
        raise NoNumber("ZeroDivisionError: by zero")

    a, b = make([descend], "eager"), make([descend])
    train(a), train(b, 1)
    monkeypatch.setattr(ScalarGroup, "_one", refuse)
    monkeypatch.setattr(Replay, "run", lambda *args: False)  # which computes them itself
    (said,) = train(b, 2)
    assert "a number of this step cannot be computed (ZeroDivisionError: by zero)" in said
    assert not b.explain().fallbacks
    with pytest.raises(weft.errors.StepError, match="cannot be computed"):
        train(make([descend], "fused"), 1)


@pytest.mark.parametrize("bad", [None, "0.1", 10**400])
def test_a_hyper_that_is_no_number(bad):
    opt = make([descend])
    train(opt, 1)
    opt.param_groups[0]["lr"] = bad
    with pytest.raises(weft.errors.StepError, match=r"descend .* raised"):
        train(opt, 1)
    opt.param_groups[0]["lr"] = 0.1
    assert train(opt, 1) == []


@pytest.mark.parametrize("error", [TypeError, ValueError, ZeroDivisionError, KeyError])
def test_a_mistake_of_the_engine_does_not_hide_in_an_eager_step(monkeypatch, error):
    from weft.engine.runtime import schedule

    opt = make([descend])
    train(opt, 1)

    def broken(self, *args):
        raise error("a mistake")

    monkeypatch.setattr(schedule.Schedule, "launch", broken)
    with pytest.raises(error, match="a mistake"):
        train(opt, 1)


@pytest.mark.parametrize("where", ["trace", "make_plan", "Program"])
def test_a_mistake_in_building_costs_the_kernel_and_not_the_step(monkeypatch, where):
    from weft.engine.runtime import programs as program

    def broken(*args, **kwargs):
        raise KeyError("a mistake\nof the engine")

    monkeypatch.setattr(program, where, broken)
    a, b = make([descend], "eager"), make([descend])
    train(a)
    (said,) = train(b)
    assert "building its kernel raised KeyError: 'a mistake" in said
    assert "\n" not in said
    for x, y in zip(values(a), values(b), strict=True):
        assert torch.equal(x, y)
    with pytest.raises(weft.StepError, match="building its kernel raised KeyError"):
        train(make([descend], "fused"), 1)


def test_a_kernel_that_fails_on_a_clone(monkeypatch, tmp_path):
    def never_seen_before(update):
        return {"update": update * 0.98765 + update.abs() * 0.0123}

    from weft.engine.runtime import verify

    def broken(*args):
        raise RuntimeError("a mistake")

    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path))  # no verdict is kept there
    monkeypatch.setattr(verify.Schedule, "run", broken)
    (said,) = train(make([never_seen_before, descend]))
    assert "on a clone its kernel raised RuntimeError: a mistake" in said


def test_a_function_transform():
    def by_row(p, grad, lr):
        norms = torch.vmap(lambda x: x.norm())(grad.reshape(-1, 1))
        return {"p": p - lr * grad / (1 + norms.reshape(p.shape))}

    falls([by_row], "by_row", "cannot look into")


def test_what_raises_where_a_tensor_decides():
    def raises(p, grad, lr):
        if torch.isnan(grad).any():
            raise RuntimeError("nan in grad")
        p.data.sub_(lr * grad)

    def by_number(p, grad, lr):
        if math.isnan(grad.norm().item()):
            raise ValueError("nan in grad")
        p.data.sub_(lr * grad)

    for cb, kind, further in ((raises, "RuntimeError", 2), (by_number, "ValueError", 2)):
        line = cb.__code__.co_firstlineno + further
        falls([cb], cb.__name__, f"it raises {kind} in line {line}, where a tensor decides")


def test_what_raises_in_a_call_behind_a_tensor_is_told_as_it_is():
    def shapes(p, grad, lr):
        if grad.norm() > 0:
            grad = grad @ torch.ones(17, 19)
        p.data.sub_(lr * grad)

    with pytest.raises(weft.StepError, match="on the tracer's stand-ins it raised RuntimeError"):
        train(make([shapes], "fused"), 1)


def test_an_eager_step_keeps_nothing_of_parameters_that_are_through():
    made, alive = [], []

    def double(update):
        alive.append(sum(known() is not None for known in made))
        update = 2 * update
        made.append(weakref.ref(update))
        return {"update": update}

    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
    for p in params:
        p.grad = torch.ones(3)
    weft.Optimizer(params, [double, weft.callbacks.descend], lr=0.1, engine="eager").step()
    assert alive == [0, 0, 0]
