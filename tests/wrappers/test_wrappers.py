"""Wrappers against their papers' equations, their place in state dicts, and their modes."""

import copy

import pytest
import torch

import weft
from parity.references import REFERENCES

ADAM = {"lr": 0.05, "betas": (0.9, 0.99), "weight_decay": 0.1}

AROUND = [
    ("Lookahead", "lookahead", {"k": 3, "alpha": 0.4}, {}),
    (
        "OuterNesterov",
        "snoo",
        {"k": 3, "lr": 0.6, "momentum": 0.8},
        {"lr": "outer_lr", "momentum": "outer_momentum"},
    ),
    ("WeightEMA", "weight_ema", {"decay": 0.8}, {}),
    ("WeightEMA", "weight_ema", {"decay": 0.8, "warmup": True}, {}),
    ("SWA", "swa", {"start": 4, "every": 3}, {}),
    ("LAWA", "lawa", {"window": 3, "every": 2}, {}),
    ("GPA", "gpa", {"mu_x": 0.8, "mu_y": 0.6}, {}),
    ("TRAC", "trac", {"s_0": 1e-2}, {}),
    ("Mechanic", "mechanic", {"s_init": 1e-2}, {}),
]


def start():
    torch.manual_seed(3)
    return [torch.nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in ((4, 3), (5,), ())]


def grads(t):
    gen = torch.Generator().manual_seed(t)
    return [torch.randn(s, generator=gen, dtype=torch.float64) for s in ((4, 3), (5,), ())]


def step(opt, params, t):
    for p, g in zip(params, grads(t), strict=True):
        p.grad = g
    opt.step()


def assert_equal(params, expected):
    for p, e in zip(params, expected, strict=True):
        torch.testing.assert_close(p.detach(), e, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize(
    ("name", "reference", "hypers", "names"), AROUND, ids=lambda v: str(v)[:30]
)
def test_follows_its_paper_and_survives_a_checkpoint(name, reference, hypers, names, engine):
    def make(params):
        return getattr(weft, name)(weft.AdamW(params, **ADAM, engine=engine), **hypers)

    params = start()
    opt = make(params)
    ref_hypers = {names.get(k, k): v for k, v in hypers.items()}
    ref = REFERENCES[reference](params, inner="adamw", inner_hypers=ADAM, **ref_hypers)
    for t in range(20):
        if t == 8:  # a new optimizer goes on from the saved state
            saved = copy.deepcopy(opt.state_dict())
            opt = make(params)
            opt.load_state_dict(saved)
        step(opt, params, t)
        ref.step(grads(t))
        assert_equal(params, ref.params)
        opt.eval()
        assert_equal(params, ref.eval_params())
        opt.train()
        assert_equal(params, ref.params)


@pytest.mark.parametrize(
    ("name", "hypers"), [("SAM", {"rho": 0.3}), ("ASAM", {"rho": 0.4, "eta": 0.02})]
)
@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_sharpness_follows_its_paper(name, hypers, engine):
    params = start()
    target = grads(99)

    def loss_of(ps):
        return sum(((p - g) ** 4).sum() for p, g in zip(ps, target, strict=True))

    def grad_fn(ps):
        ps = [p.detach().clone().requires_grad_() for p in ps]
        loss = loss_of(ps)
        return loss.item(), list(torch.autograd.grad(loss, ps))

    opt = getattr(weft, name)(weft.SGD(params, lr=0.01, momentum=0.9, engine=engine), **hypers)
    ref = REFERENCES[name.lower()](
        params, inner="sgd", inner_hypers={"lr": 0.01, "momentum": 0.9}, **hypers
    )

    def closure():
        opt.zero_grad()
        loss = loss_of(params)
        loss.backward()
        return loss

    for _ in range(15):
        before = loss_of(params).item()
        assert float(opt.step(closure)) == pytest.approx(before)
        ref.step_fn(grad_fn)
        assert_equal(params, ref.params)


def test_sharpness_without_a_closure_says_what_to_do():
    opt = weft.SAM(weft.SGD(start(), lr=0.1))
    with pytest.raises(weft.StepError, match="closure that zeroes"):
        opt.step()


def test_sharpness_comes_back_when_the_second_evaluation_fails():
    params = start()
    before = [p.detach().clone() for p in params]
    opt = weft.SAM(weft.SGD(params, lr=0.1))
    calls = []

    def closure():
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        loss = sum((p**2).sum() for p in params)
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match="out of memory"):
        opt.step(closure)
    assert_equal(params, before)


def test_a_wrapper_is_part_of_a_chain():
    params = start()
    opt = (weft.SGD.chain(momentum=0.9) + weft.WeightEMA(decay=0.5) + weft.Lookahead(k=2))(
        params, lr=0.1
    )
    step(opt, params, 0)
    assert {"weightema_average", "lookahead_slow", "momentum_buffer"} <= set(opt.state[params[0]])
    assert opt.param_groups[0]["lookahead_k"] == 2


def test_wrapping_returns_the_same_torch_optimizer():
    opt = weft.AdamW(start())
    assert weft.Lookahead(opt, k=3) is opt
    assert isinstance(opt, torch.optim.Optimizer)


def test_an_unknown_hyper_of_a_wrapper_is_an_error():
    with pytest.raises(TypeError, match="Lookahead has no"):
        weft.Lookahead(kk=3)


def test_a_step_that_makes_states_needs_no_closure():
    """It is what torch.distributed.checkpoint takes before it loads some: a rate of zero, no closure."""
    p = torch.nn.Parameter(torch.ones(3))
    opt = weft.SAM(weft.AdamW([p], lr=0.0))
    p.grad = torch.zeros(3)
    opt.step()
    assert "exp_avg" in opt.state[p]
    assert torch.equal(p, torch.ones(3))
    with pytest.raises(weft.StepError, match="closure"):
        opt.step()
