"""What a group shares follows from the group's own steps, whichever of its parameters take part."""

import copy
import io
import math
import pickle

import pytest
import torch

import weft
from contract import descend

pytestmark = pytest.mark.usefixtures("engine")

STEPS = 12
PATTERNS = {  # which of (first, second, third) have a grad in step t
    "all": lambda t: (1, 1, 1),
    "the first thawed late": lambda t: (t > 6, 1, 1),
    "the first frozen early": lambda t: (t < 4, 1, 1),
    "the first now and then": lambda t: (t % 3 == 0, 1, 1),
    "one after the other": lambda t: (t <= 4, 4 < t <= 8, t > 8),
    "none now and then": lambda t: (0, 0, 0) if t % 4 == 2 else (1, t % 2, 1),
}


def parameters():
    g = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=g, dtype=torch.float64))
        for shape in [(3, 2), (4,), ()]
    ]


def give_grads(params, has, t):
    for i, (p, on) in enumerate(zip(params, has, strict=True)):
        p.grad = torch.sin(p.detach() * (i + 2) + t) + 0.3 if on else None


# ---------------------------------------------------------------- a user's own chain


def warm(lr, step, rate=weft.shared(0.0)):
    return {"rate": lr * min(1.0, step / 10)}


def warm_from_everything(lr, rate=weft.shared(0.0), **kwargs):
    return {"rate": lr * min(1.0, kwargs["step"] / 10)}


def warm_in_the_descent(p, update, lr, step, rate=weft.shared(0.0)):
    rate = lr * min(1.0, step / 10)
    return {"p": p - rate * update, "rate": rate}


def by_branch(lr, step, rate=weft.shared(0.0)):
    if step < 5:
        return {"rate": 0.1 * lr}
    return {"rate": lr / step}


def by_sum(lr, step, rate=weft.shared(0.0), total=weft.shared(0.0)):
    return {"total": total + 1 / step, "rate": lr * (total + 1 / step)}


def at_rate(p, update, rate):
    return {"p": p - rate * update}


def own_count(step, seen=weft.state(0)):
    return {"seen": step}


RATES = {
    warm: lambda t: min(1.0, t / 10),
    warm_from_everything: lambda t: min(1.0, t / 10),
    warm_in_the_descent: lambda t: min(1.0, t / 10),
    by_branch: lambda t: 0.1 if t < 5 else 1 / t,
    by_sum: lambda t: sum(1 / k for k in range(1, t + 1)),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("cb", RATES, ids=lambda cb: cb.__name__)
def test_a_shared_value_counts_the_steps_of_its_group(cb, pattern):
    params, has = parameters(), PATTERNS[pattern]
    expected = [p.detach().clone() for p in params]
    last = [] if cb is warm_in_the_descent else [at_rate]
    opt = weft.Optimizer(params, [own_count, cb, *last], lr=0.1)
    taken, own = 0, [0, 0, 0]
    for t in range(1, STEPS + 1):
        give_grads(params, has(t), t)
        taken += any(has(t))
        for i, p in enumerate(params):
            if p.grad is not None:
                own[i] += 1
                expected[i] -= 0.1 * RATES[cb](taken) * p.grad
        opt.step()
    for p, e, n in zip(params, expected, own, strict=True):
        torch.testing.assert_close(p.detach(), e, rtol=1e-12, atol=1e-12)
        if n:  # what is a parameter's own still counts its own steps
            assert opt.state[p]["step"] == opt.state[p]["seen"] == n


def test_each_group_has_its_own_count():
    a, b = parameters()[:2]
    opt = weft.Optimizer([{"params": [a]}], [warm, at_rate], lr=1.0)
    for t in range(8):
        if t == 5:
            opt.add_param_group({"params": [b]})
        give_grads([a, b], (1, 1), t)
        opt.step()
    assert [g["group_step"] for g in opt.param_groups] == [8, 3]
    assert [g["rate"] for g in opt.param_groups] == [0.8, pytest.approx(0.3)]


def through_a_file(opt, make):
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    fresh = make([p.detach().clone().requires_grad_() for p in opt.param_groups[0]["params"]])
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


SURVIVALS = {
    "a state dict through a file": through_a_file,
    "deepcopy": lambda opt, make: copy.deepcopy(opt),
    "pickle": lambda opt, make: pickle.loads(pickle.dumps(opt)),
}


@pytest.mark.parametrize("how", SURVIVALS)
def test_the_count_survives(how):
    def make(params):
        return weft.Optimizer(params, [warm, at_rate], lr=1.0)

    opt, has = make(parameters()), PATTERNS["the first thawed late"]
    for t in range(1, 6):
        give_grads(opt.param_groups[0]["params"], has(t), t)
        opt.step()
    other = SURVIVALS[how](opt, make)
    for t in range(6, 12):
        for o in (opt, other):
            give_grads(o.param_groups[0]["params"], has(t), t)
            o.step()
    for p, q in zip(opt.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        assert torch.equal(p, q)
    assert other.param_groups[0]["group_step"] == 11


def test_a_state_dict_without_the_count_goes_on_from_the_parameters_counts():
    def make(params):
        return weft.Optimizer(params, [warm, at_rate], lr=1.0)

    opt = make(parameters())
    for t in range(5):
        give_grads(opt.param_groups[0]["params"], (t > 2, 1, 1), t)
        opt.step()
    old = opt.state_dict()
    del old["param_groups"][0]["group_step"]
    for used in (0, 3):  # what the optimizer had counted before is another run's
        fresh = make(parameters())
        for t in range(used):
            give_grads(fresh.param_groups[0]["params"], (1, 1, 1), t)
            fresh.step()
        fresh.load_state_dict(old)
        assert fresh.param_groups[0]["group_step"] == 5


def test_forgetting_the_state_forgets_the_count():
    params = parameters()
    opt = weft.Optimizer(params, [warm, at_rate], lr=1.0)
    give_grads(params, (1, 1, 1), 1)
    opt.step()
    opt.clear_state()
    opt.step()
    assert opt.param_groups[0]["group_step"] == 1


def test_parameters_at_different_steps_still_run_fused(engine):
    if engine == "eager":
        pytest.skip("there is nothing to fuse")
    params = parameters()
    opt = weft.Optimizer(params, [own_count, warm, at_rate], lr=1.0, engine="fused")
    for t in range(6):
        give_grads(params, (t > 3, 1, t % 2), t)
        opt.step()
    assert not opt.explain().fallbacks


def test_a_chain_that_counts_for_itself_needs_no_other_count():
    def count(step=0):
        return {"step": step + 1}

    def rate_of(lr, rate=weft.shared(0.0)):
        return {"rate": lr}

    opt = weft.Optimizer(parameters(), [count, rate_of, at_rate], lr=1.0)
    assert "group_step" not in opt.param_groups[0]
    opt = weft.Optimizer(parameters(), [own_count, descend], lr=1.0)
    assert "group_step" not in opt.param_groups[0]


# ---------------------------------------------------------------- schedule-free


class Reference:
    """Defazio et al., 2024: one count, largest rate and sum of weights for all; z, x, v for each."""

    def __init__(self, kind, params, lr, warmup_steps=0):
        self.kind, self.lr, self.warmup, self.k = kind, lr, warmup_steps, 0
        self.largest = self.total = 0.0
        self.y = [p.detach().clone() for p in params]
        self.z = [p.detach().clone() for p in params]
        self.x = [p.detach().clone() for p in params]
        self.v = [torch.zeros_like(p) for p in params]
        self.t = [0] * len(params)

    def step(self, grads, beta):
        if all(g is None for g in grads):
            return
        self.k += 1
        rate = self.rate()
        self.largest = max(self.largest, rate)
        w = self.largest**2
        self.total += w
        c = w / self.total if self.total else 0.0
        for i, g in enumerate(grads):
            if g is None:
                continue
            self.t[i] += 1
            self.z[i] = self.z[i] - rate * self.direction(i, g)
            self.x[i] = (1 - c) * self.x[i] + c * self.z[i]
            self.y[i] = (1 - beta) * self.z[i] + beta * self.x[i]

    def rho(self, t):
        return 2 / (1 - 0.999) - 1 - 2 * t * 0.999**t / (1 - 0.999**t)

    def rate(self):
        if self.kind is weft.ScheduleFreeRAdam:
            rho, end = self.rho(self.k), 2 / (1 - 0.999) - 1
            if rho <= 4:
                return 0.0
            squared = (rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho)
            return self.lr * math.sqrt(squared)
        return self.lr * min(1.0, self.k / self.warmup) if self.warmup else self.lr

    def direction(self, i, g):
        if self.kind is weft.ScheduleFreeSGD:
            return g
        self.v[i] = 0.999 * self.v[i] + 0.001 * g * g
        if self.kind is weft.ScheduleFreeRAdam and self.rho(self.t[i]) <= 4:
            return torch.zeros_like(g)  # it stands still while its variance is not tractable
        return g / ((self.v[i] / (1 - 0.999 ** self.t[i])).sqrt() + 1e-8)


BETAS = {
    "constant": lambda t: 0.9,
    "cycled": lambda t: 0.9 - 0.02 * t,
    "plain averaging": lambda t: 0.0,
    "plain averaging now and then": lambda t: 0.5 * (t % 5 < 3),
}


@pytest.mark.parametrize("beta_at", BETAS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    "kind", [weft.ScheduleFreeSGD, weft.ScheduleFreeAdamW, weft.ScheduleFreeRAdam]
)
def test_schedule_free_with_parameters_that_come_and_go(kind, pattern, beta_at):
    warmup = {} if kind is weft.ScheduleFreeRAdam else {"warmup_steps": 8}
    params, has = parameters(), PATTERNS[pattern]
    opt = kind(params, lr=0.1, **warmup)
    reference = Reference(kind, params, 0.1, **warmup)
    for t in range(1, 2 * STEPS):
        beta = BETAS[beta_at](t)
        opt.set_hyper("mom", beta)
        give_grads(params, has(t), t)
        still = [p.detach().clone() for p in params if p.grad is None]
        reference.step([p.grad for p in params], beta)
        opt.step()
        for before, p in zip(still, (p for p in params if p.grad is None), strict=True):
            assert torch.equal(p, before)
    for p, y in zip(params, reference.y, strict=True):
        torch.testing.assert_close(p.detach(), y, rtol=1e-9, atol=1e-9)
    opt.eval()
    for p, x in zip(params, reference.x, strict=True):
        torch.testing.assert_close(p.detach(), x, rtol=1e-9, atol=1e-9)
