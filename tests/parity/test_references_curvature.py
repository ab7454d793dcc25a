"""The references for the Hessian's diagonal against pytorch_optimizer's, given the same estimates."""

import pytest
import torch

from parity.references import REFERENCES

SHAPES = [(4, 3), (5,)]
ADA = {"lr": 0.1, "weight_decay": 0.1, "eps": 1e-8, "hessian_power": 0.5}
GAMMA, EPS = 0.1, 1e-12
CASES = {
    "adahessian": (ADA, "AdaHessian", ADA),
    "sophia": (
        {"lr": 0.01, "weight_decay": 0.1, "gamma": GAMMA, "eps": EPS, "update_period": 1},
        "SophiaH",  # clips at p, and divides by h: so that lr is ours over p
        {"lr": 0.01 / GAMMA, "weight_decay": 0.1 * GAMMA, "p": GAMMA, "eps": EPS / GAMMA},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_pytorch_optimizer(name):
    po = pytest.importorskip("pytorch_optimizer", reason="the extra `parity` is not installed")
    hypers, cls, theirs = CASES[name]
    gen = torch.Generator().manual_seed(0)
    start = [torch.randn(s, generator=gen, dtype=torch.float64) for s in SHAPES]
    ref = REFERENCES[name](start, **hypers)
    params = [torch.nn.Parameter(p.clone()) for p in start]
    opt = getattr(po, cls)(params, **theirs)

    def grad_fn(ps):
        loss = sum((p**4).sum() for p in ps) + 0.1 * sum(p.sum() for p in ps) ** 2
        return loss, torch.autograd.grad(loss, ps, create_graph=True)

    for _ in range(15):
        for p, g in zip(params, grad_fn(params)[1], strict=True):
            p.grad = g.detach()
        ref.step_fn(grad_fn)
        opt.step(hessian=[h.clone() for h in ref.hessian])
        for a, p in zip(ref.params, params, strict=True):
            torch.testing.assert_close(a, p.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_the_estimate_of_a_separable_loss_is_exact_for_signs(name):
    ref = REFERENCES[name]([torch.tensor([1.0, -2.0, 3.0])], update_period=1)
    ref.draw = lambda shape: torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)

    def grad_fn(ps):
        loss = (ps[0] ** 3).sum()
        return loss, torch.autograd.grad(loss, ps, create_graph=True)

    ref.step_fn(grad_fn)
    assert ref.hessian[0].tolist() == [6.0, -12.0, 18.0]
