"""Every optimizer by both engines: the same weights, one state dict between them, no fallback."""

import copy

import pytest
import torch

import weft
from parity.cases import CASES
from weft.optimizers import algorithms

SHAPES = ((7,), (6, 4), (3, 2, 2, 2))
STEPS = 8
# what 16 bits are too few for says so, and is the same in both engines all the same
pytestmark = pytest.mark.filterwarnings("ignore:.*in 16 bits:weft.WeftWarning")

CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 2e-2}
DTYPES = tuple(CLOSE)

# optimizers that cannot run fused, with the reason: none
EAGER: dict[str, str] = {}

# what has to be said for the engines to be comparable
HYPERS = {
    # with a smaller one, rounding in float32 decides among the eigenvalues of a factor that are near zero
    "distributedshampoo": {"eps": 1e-4},
    "shampoo": {"eps": 1e-4},
}

LR = {case.name.lower(): case.hypers["lr"] for case in reversed(CASES)}


def shapes(name):
    """Those of SHAPES that the optimizer takes."""
    return [s for s in SHAPES if takes(name, s)]


def takes(name, shape):
    try:
        weft.create(name, [torch.nn.Parameter(torch.ones(shape))])
    except (weft.ChainError, ValueError):
        return False
    return True


def decays(name):
    """With and without decay, where the optimizer has one."""
    return (0.1, 0.0) if "weight_decay" in algorithms()[name]._signature() else (None,)


def make(name, params, engine, decay):
    """The optimizer with its schedule."""
    more = {} if decay is None else {"weight_decay": decay}
    opt = weft.create(name, params, lr=LR[name], engine=engine, **more, **HYPERS.get(name, {}))
    cycle = any(k in opt.defaults for k in ("momentum", "betas"))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        opt, max_lr=LR[name], total_steps=STEPS + 1, cycle_momentum=cycle
    )
    return opt, schedule


def train(name, engine, dtype, decay):
    """Eight steps with another optimizer from the fifth on: the parameters, and that optimizer."""
    gen = torch.Generator().manual_seed(3)
    torch.manual_seed(0)  # what some chains draw from

    def noise(shape):
        return torch.randn(shape, generator=gen, dtype=torch.float64)

    params = [torch.nn.Parameter(noise(s).to(dtype)) for s in shapes(name)]
    opt, schedule = make(name, params, engine, decay)
    for t in range(STEPS):
        if t == STEPS // 2:
            saved = copy.deepcopy((opt.state_dict(), schedule.state_dict()))
            opt, schedule = make(name, params, engine, decay)
            opt.load_state_dict(saved[0])
            schedule.load_state_dict(saved[1])
        grads = [(noise(p.shape) + 0.5).to(dtype) for p in params]

        def closure(grads=grads):
            loss = sum((g * (p + 0.1 * p**3)).sum() for p, g in zip(params, grads, strict=True))
            for p, g in zip(
                params, torch.autograd.grad(loss, params, create_graph=True), strict=True
            ):
                p.grad = g
            return loss

        for p, g in zip(params, grads, strict=True):
            p.grad = g
        opt.step(closure) if opt.needs_closure else opt.step(loss=2 / (1 + 0.1 * t))
        schedule.step()
    return params, opt


def agree(name, dtype, decay):
    expected, eager = train(name, "eager", dtype, decay)
    params, opt = train(name, "fused" if name not in EAGER else "auto", dtype, decay)
    explained = opt.explain()
    if name not in EAGER:
        assert explained.fallbacks == []
        assert explained.kernels
    for i, (p, e) in enumerate(zip(params, expected, strict=True)):
        error = float(
            (p - e).detach().abs().max().double() / e.detach().abs().max().clamp(min=1e-3)
        )
        assert error <= CLOSE[dtype], f"{tuple(p.shape)} is off by {error:.3g}"
        ours, theirs = opt.state[p], eager.state[e]
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert getattr(value, "dtype", None) == getattr(theirs[key], "dtype", None), (i, key)


EVERY = [
    pytest.param(name, dtype, decay, id=f"{name}-{str(dtype)[6:]}-{decay}")
    for name in algorithms()
    for dtype in DTYPES
    for decay in decays(name)
]
# one dtype for each, with decay where there is one
SOME = [
    pytest.param(name, DTYPES[i % 3], decays(name)[0], id=f"{name}-{str(DTYPES[i % 3])[6:]}")
    for i, name in enumerate(algorithms())
]


@pytest.mark.parametrize(("name", "dtype", "decay"), SOME)
def test_the_engines_agree(name, dtype, decay):
    agree(name, dtype, decay)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "decay"), EVERY)
def test_the_engines_agree_in_every_dtype_with_and_without_decay(name, dtype, decay):
    agree(name, dtype, decay)


def test_what_cannot_run_fused_says_why():
    assert set(EAGER) <= set(algorithms())
    for name in EAGER:
        with pytest.raises(weft.StepError, match="cannot run fused"):
            train(name, "fused", torch.float32, decays(name)[0])


@pytest.mark.parametrize("name", ["adamw", "lamb", "soap", "prodigy"])
@pytest.mark.parametrize("ours", ["eager", "fused"])
def test_a_checkpoint_goes_on_under_the_other_engine(name, ours):
    theirs = "fused" if ours == "eager" else "eager"
    _, opt = train(name, ours, torch.float64, 0.1)
    params = [p.detach().clone().requires_grad_() for g in opt.param_groups for p in g["params"]]
    other, _ = make(name, params, theirs, 0.1)
    other.load_state_dict(opt.state_dict())
    for p, q in zip([p for g in opt.param_groups for p in g["params"]], params, strict=True):
        p.grad = torch.ones_like(p)
        q.grad = torch.ones_like(q)
    opt.step()
    other.step()
    for p, q in zip([p for g in opt.param_groups for p in g["params"]], params, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
