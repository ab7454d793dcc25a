"""What may happen between two steps: after any of it a fused step is what the eager one is."""

import signal
import sys
import warnings

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import weft
from weft.engine.ir.traced import Capture
from weft.engine.runtime import fused
from weft.engine.runtime.cohort import Cohort
from weft.engine.runtime.schedule import Schedule

SHAPES = [(4, 4), (5,), (3, 2), (), (0,), (2, 3, 2)]


def parameters(shapes=SHAPES):
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]


def give_grads(params, seed=2):
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)


def twins(make, between, steps=3):
    """What two optimizers end with that differ in their engine, after the same has happened to both."""
    ends = []
    for engine in ("eager", "auto"):
        params = parameters()
        opt = make(params, engine)
        give_grads(params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(steps):
                opt.step()
            said = between(opt, params)
            for _ in range(2):
                opt.step()
        held = [v for p in params for v in opt.state[p].values() if isinstance(v, torch.Tensor)]
        ends.append(([*(p.detach() for p in params), *held], said))
    return ends


def agree(make, between):
    (a, said), (b, said_too) = twins(make, between)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(y, x, rtol=1e-6, atol=1e-7, equal_nan=True)
    assert said == said_too


def sgd(params, engine, **hypers):
    return weft.SGD(params, lr=0.1, engine=engine, **{"momentum": 0.9, **hypers})


def adamw(params, engine):
    return weft.AdamW(params, lr=0.1, engine=engine)


def refused(opt):
    try:
        opt.step()
    except Exception as e:
        return type(e).__name__
    return "stepped"


# ---------------------------------------------------------------- a look that finds something else too


def test_a_rate_that_is_set_before_a_step_without_grads():
    def between(opt, params):
        opt.param_groups[0]["lr"] = 0.001
        opt.zero_grad()
        opt.step()
        give_grads(params)

    agree(sgd, between)


def test_a_rate_that_is_set_before_a_step_that_is_refused():
    def between(opt, params):
        opt.param_groups[0]["lr"] = 0.001
        kept, params[0].grad = params[0].grad, torch.ones(4, 4).to_sparse()
        said = refused(opt)
        params[0].grad = kept
        return said

    agree(sgd, between)


def test_a_number_that_no_row_can_hold():
    def between(opt, params):
        opt.param_groups[0]["lr"] = 10**400
        said = [refused(opt) for _ in range(3)]
        opt.param_groups[0]["lr"] = 2
        return said

    agree(lambda params, engine: weft.SGD(params, lr=1, engine=engine), between)


def test_a_negated_grad():
    agree(sgd, lambda opt, params: setattr(params[0], "grad", torch._neg_view(torch.ones(4, 4))))


def test_a_negated_view_of_the_same_memory():
    agree(adamw, lambda opt, params: setattr(params[0], "grad", torch._neg_view(params[0].grad)))


class Other(torch.Tensor):
    """A tensor that may be anything."""


MOVES = {
    "another tensor": lambda p: torch.full_like(p, 0.5),
    "the parameter itself": lambda p: p.data,
    "a subclass": lambda p: torch.full_like(p, 0.5).as_subclass(Other),
    "one that C++ has made": lambda p: torch.autograd.grad((p * 0.5).sum(), p)[0],
    "expanded": lambda p: torch.full((1,), 0.5).expand(4, 4),
}


@pytest.mark.parametrize("how", MOVES)
@pytest.mark.parametrize("make", [sgd, adamw])
def test_a_grad_that_moves(make, how):
    def between(opt, params):
        for _ in range(3):
            params[0].grad = MOVES[how](params[0])
            opt.step()

    agree(make, between)


def test_a_grad_that_moves_onto_a_state():
    agree(adamw, lambda opt, params: setattr(params[0], "grad", opt.state[params[0]]["exp_avg"]))


def test_an_option_that_is_a_tensor_and_changes_in_place():
    def between(opt, params):
        momentum = opt.param_groups[0]["momentum"]
        for value in (0.0, 0.5):
            momentum.fill_(value)
            opt.step()

    agree(lambda params, engine: sgd(params, engine, momentum=torch.tensor(0.9)), between)


@pytest.mark.parametrize("kind", [tuple, torch.nn.ParameterList])
def test_parameters_in_another_container(kind):
    def between(opt, params):
        opt.param_groups[0]["params"] = kind(params)

    agree(adamw, between)


def test_a_parameter_that_is_transposed_in_place():
    agree(adamw, lambda opt, params: setattr(params[0], "data", params[0].data.t()))


def test_a_state_that_is_transposed_in_place():
    def between(opt, params):
        held = opt.state[params[0]]["exp_avg"]
        held.data = held.data.t()

    agree(adamw, between)


def test_a_count_whose_memory_is_another():
    def between(opt, params):
        opt.state[params[0]]["step"].data = torch.tensor(50.0)

    agree(adamw, between)


def test_a_grad_that_is_too_short_is_refused_and_not_read_beyond():
    def between(opt, params):
        kept, params[1].grad.data = params[1].grad.data, torch.ones(3)
        said = refused(opt)
        params[1].grad.data = kept
        return said

    (_, eager), (_, auto) = twins(adamw, between)
    assert eager == auto == "StepError"


MARKS = {"place": ("grad", "statistics"), "bounds": ({"lr": ">= 0"}, {"lr": "> 0", "k": "> 0"})}


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_that_is_read(mark):
    first, then = MARKS[mark]

    def cb(p, grad, lr):
        many = lambda: len(cb.place) if mark == "place" else len(cb.bounds)
        return {"p": p - lr * many() * grad}

    def make(params, engine):
        setattr(cb, mark, first)
        return weft.Optimizer(params, [cb], lr=0.1, engine=engine)

    agree(make, lambda opt, params: setattr(cb, mark, then))


FACTOR = 0.5


def test_only_what_may_change_is_looked_at_in_every_step(monkeypatch):
    """Neither marks that nobody reads nor what weft's own modules name."""

    @weft.mark(place="update", role="nesterov")
    def halve(update):
        return {"update": FACTOR * update}

    p = torch.nn.Parameter(torch.ones(3))
    opt = weft.Optimizer([p], weft.AdamW.chain() + halve, engine="fused")
    seen, holds = set(), Capture.holds
    monkeypatch.setattr(Capture, "holds", lambda self: seen.add(self.name) or holds(self))
    for _ in range(3):
        p.grad = torch.ones(3)
        opt.step()
    assert seen == {"FACTOR"}


# ---------------------------------------------------------------- interrupts


def opcodes(opt, at):
    """Step, and raise KeyboardInterrupt before opcode `at`; how many there were."""
    seen = 0

    def trace(frame, event, arg):
        nonlocal seen
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        opt.step()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
        torch.set_grad_enabled(True)  # Python itself interrupts only after calls: not in a finally
    return seen


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_an_interrupt_anywhere_leaves_a_step_that_is_done_or_one_that_is_not(name):
    """With numbers that are new in this step, and are to hold in the next."""

    def run(at):
        params = parameters([(3,), (2, 2)])
        give_grads(params)
        opt = getattr(weft, name)(params, lr=0.1, engine="fused")
        for _ in range(2):
            opt.step()
        opt.param_groups[0]["lr"] = 0.01
        count = opcodes(opt, at)
        middle = [p.detach().clone() for p in params]
        opt.step()
        return count, middle, [p.detach().clone() for p in params]

    total, done, after = run(0)
    before = run(1)[1]
    for at in range(1, total, 3):
        _, middle, end = run(at)
        stepped = all(map(torch.equal, middle, done))
        assert stepped or all(map(torch.equal, middle, before)), at
        assert all(map(torch.equal, end, after if stepped else done)), at


@pytest.fixture
def interruptible():
    """Python's own handler, also where tests run in the background, without one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("where", "number"),
    [
        ((Cohort, "take_numbers"), torch.tensor),
        ((Schedule, "launch"), float),
    ],  # long way, short way
)
def test_an_interrupt_before_the_first_write(monkeypatch, where, number):
    params = parameters([(3,)])
    give_grads(params)
    opt = weft.SGD(params, lr=number(0.1), engine="fused")
    for _ in range(2):
        opt.step()
    opt.param_groups[0]["lr"] = number(0.5)
    real = getattr(*where)

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        real(*args)

    before = params[0].detach().clone()
    with monkeypatch.context() as patch:
        patch.setattr(*where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            opt.step()
    assert torch.equal(params[0], before)
    opt.step()
    torch.testing.assert_close(params[0].detach(), before - 0.5 * params[0].grad)


def test_an_interrupt_leaves_autograd_as_it_was(interruptible, monkeypatch):
    """It comes as soon as the call that switches autograd off has returned."""
    params = parameters([(3,)])
    give_grads(params)
    opt = weft.SGD(params, lr=0.1)
    real = torch._C._set_grad_enabled

    def switch(mode):
        real(mode)
        if not mode:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(torch._C, "_set_grad_enabled", switch)
    with pytest.raises(KeyboardInterrupt):
        opt.step()
    assert torch.is_grad_enabled()


# ---------------------------------------------------------------- anything, in any order


def set_hyper(name, *values):
    return [lambda opt, ps, v=v: opt.param_groups[-1].update({name: v}) for v in values]


def forget(opt, ps):
    opt.state.pop(ps[2], None)


def surgery(opt, ps):
    for held in opt.state[ps[0]].values():
        if isinstance(held, torch.Tensor) and held.ndim:
            held.data = held.data * 0.5


def reload(opt, ps):
    opt.load_state_dict(opt.state_dict())


def regroup(opt, ps):
    opt.param_groups[0] = dict(opt.param_groups[0])


def several(opt, ps):
    give_grads(ps, 5)
    ps[1].grad = None


ACTIONS = [
    *set_hyper("lr", 0.05, 0.02, 2, 0),  # LAMB takes one number to zero at 1, but for its rounding
    *set_hyper("weight_decay", 0, 0.0, 0.1),
    *set_hyper("momentum", 0, 0.0, 0.5, 0.9),
    *set_hyper("maximize", True, False),
    lambda opt, ps: opt.set_hypers(lr=torch.tensor(0.03)),
    lambda opt, ps: opt.zero_grad(),
    lambda opt, ps: give_grads(ps, 3),
    lambda opt, ps: give_grads(ps, 4),
    lambda opt, ps: setattr(ps[0], "grad", None),
    lambda opt, ps: setattr(ps[0], "data", ps[0].data.clone()),
    lambda opt, ps: setattr(ps[2], "grad", torch.ones(2, 3).t()),
    lambda opt, ps: ps[0].data.mul_(0.9),
    lambda opt, ps: opt.state[ps[1]].update(extra=1),
    lambda opt, ps: setattr(opt, "on_nonfinite", "skip"),
    lambda opt, ps: opt.collect_stats(),
    several, forget, surgery, reload, regroup,
]  # fmt: skip
MAKERS = {
    "SGD": lambda groups, engine: weft.SGD(groups, lr=0.1, momentum=0.9, engine=engine),
    "AdamW": lambda groups, engine: weft.AdamW(groups, lr=0.1, engine=engine),
    "Lion": lambda groups, engine: weft.Lion(groups, lr=0.01, engine=engine),
    "LAMB": lambda groups, engine: weft.LAMB(groups, lr=0.01, engine=engine),
}
actions = st.lists(
    st.tuples(st.integers(0, len(ACTIONS) - 1), st.integers(0, 2)), min_size=1, max_size=12
)


def check(name, plan):
    """Both engines come to the same, but for the rounding of the largest numbers on the way.

    LAMB with a rate of 2 takes numbers to ten, and back across zero.
    """
    ends = []
    for engine in ("eager", "auto"):
        params = parameters()
        groups = [{"params": params[:3]}, {"params": params[3:], "lr": 0.02}]
        opt = MAKERS[name](groups, engine)
        give_grads(params)
        opt.step()
        largest = [p.detach().abs() for p in params]
        for which, steps in plan:
            ACTIONS[which](opt, params)
            for _ in range(steps):
                opt.step()
                largest = [a.fmax(p.detach().abs()) for a, p in zip(largest, params, strict=True)]
        ends.append([p.detach() for p in params])
    for a, b, most in zip(*ends, largest, strict=True):
        same = (a == b) | (a.isnan() & b.isnan()) | ((a - b).abs() <= 1e-6 + 1e-5 * most)
        assert same.all(), (a, b)


quiet = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, derandomize=True, **quiet)
@given(name=st.sampled_from(sorted(MAKERS)), plan=actions)
def test_random_actions_between_steps(name, plan):
    check(name, plan)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@example(name="LAMB", plan=[(2, 0), (6, 1), (2, 2)])
@settings(max_examples=1500, **quiet)
@given(name=st.sampled_from(sorted(MAKERS)), plan=actions)
def test_many_random_actions_between_steps(name, plan):
    check(name, plan)


def test_patterns_of_grads_that_come_back_are_laid_out_once(monkeypatch):
    """Counts keep their places, so that one pattern does not undo what is known of another."""
    made = []
    real = fused.ActiveSet.__init__
    monkeypatch.setattr(
        fused.ActiveSet, "__init__", lambda self, *args: (made.append(1), real(self, *args))[1]
    )
    ends = []
    for engine in ("eager", "fused"):
        params = parameters()
        give_grads(params)
        grads = [p.grad for p in params]
        opt = adamw(params, engine)
        for k in range(12):
            if k == 3:  # each pattern has come once
                made.clear()
            for i, (p, g) in enumerate(zip(params, grads, strict=True)):
                p.grad = None if k % 3 == i else g
            opt.step()
        ends.append(params)
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-7)
    assert not made
