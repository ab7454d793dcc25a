"""weft's optimizers follow torch.optim on recorded gradients, with every hyper on a schedule."""

import copy
import inspect
import math

import pytest
import torch

import weft

SHAPES = [(5, 3), (7,), (), (2, 3, 2, 2)]

CASES = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "maximize": True},
    ],
    "Adam": [
        {},
        {"weight_decay": 0.1},
        {"amsgrad": True, "weight_decay": 0.1},
        {"maximize": True, "decoupled_weight_decay": True, "weight_decay": 0.1},
    ],
    "AdamW": [{}, {"amsgrad": True}, {"maximize": True, "weight_decay": 0.3}],
    "RAdam": [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
        {"betas": (0.9, 0.95)},
    ],
    "RMSprop": [
        {},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"centered": True},
        {"centered": True, "momentum": 0.5, "maximize": True},
    ],
    "Adadelta": [{}, {"rho": 0.8, "weight_decay": 0.1}, {"maximize": True}],
    "Adagrad": [
        {},
        {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.3},
        {"maximize": True},
    ],
    "Adamax": [{}, {"weight_decay": 0.1}, {"maximize": True}],
    "NAdam": [
        {},
        {"weight_decay": 0.1, "momentum_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ],
    "Rprop": [{}, {"etas": (0.4, 1.3), "step_sizes": (1e-3, 0.5)}, {"maximize": True}],
    "ASGD": [{}, {"weight_decay": 0.1, "lambd": 0.01, "t0": 10}, {"maximize": True}],
    "Adafactor": [
        {},
        {"weight_decay": 0.1, "maximize": True},
        {"lr": 0.5, "d": 1.3, "beta2_decay": -0.5, "eps": (1e-3, 1e-2)},
    ],
}
FLAT = [pytest.param(n, k, id=f"{n}-{i}") for n, ks in CASES.items() for i, k in enumerate(ks)]


def make(name, hypers, dtype, engine):
    """The same parameters twice, in two groups: weft's optimizer over one, torch's over the other."""
    torch.manual_seed(0)
    start = [torch.randn(s, dtype=torch.float64).to(dtype) for s in SHAPES]
    ours = [torch.nn.Parameter(t.clone()) for t in start]
    theirs = [torch.nn.Parameter(t.clone()) for t in start]

    def groups(ps):
        return [{"params": ps[:2]}, {"params": ps[2:], "lr": 0.01}]

    mine = getattr(weft, name)(groups(ours), **hypers, engine=engine)
    return ours, mine, theirs, getattr(torch.optim, name)(groups(theirs), **hypers, foreach=False)


def reschedule(opt, t):
    """Change every hyper that optimizers share, differently for each group."""
    for i, g in enumerate(opt.param_groups):
        g["lr"] = 0.05 * (1 + math.cos(0.1 * t + i)) + 1e-4
        if g.get("momentum"):
            g["momentum"] = 0.9 - 0.1 * math.sin(0.2 * t)
        if "betas" in g:
            g["betas"] = (0.9 - 0.1 * math.sin(0.2 * t), g["betas"][1])
        if g.get("weight_decay"):
            g["weight_decay"] = 0.1 + 0.05 * math.sin(0.3 * t)


def grads(t, dtype):
    gen = torch.Generator().manual_seed(1000 + t)
    return [torch.randn(s, generator=gen, dtype=torch.float64).to(dtype) for s in SHAPES]


def give(params, t, dtype):
    """Grads of step t; now and then one parameter has none."""
    for i, (p, g) in enumerate(zip(params, grads(t, dtype), strict=True)):
        p.grad = None if (t + i) % 11 == 5 else g


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize(("name", "hypers"), FLAT)
def test_follows_torch_for_100_steps_in_float64(name, hypers, engine):
    ours, mine, theirs, torchs = make(name, hypers, torch.float64, engine)
    for t in range(100):
        reschedule(mine, t)
        reschedule(torchs, t)
        give(ours, t, torch.float64)
        give(theirs, t, torch.float64)
        mine.step()
        torchs.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize(("name", "hypers"), FLAT)
def test_a_float32_step_is_within_1e_6_of_torchs(name, hypers, engine):
    """One step from the same state; over many steps float32 drifts, whoever computes it."""
    ours, mine, theirs, torchs = make(name, hypers, torch.float32, engine)
    for t in range(20):
        mine.load_state_dict(torchs.state_dict())
        for a, b in zip(ours, theirs, strict=True):
            a.data.copy_(b.data)
        for opt, ps in ((mine, ours), (torchs, theirs)):
            reschedule(opt, t)
            give(ps, t, torch.float32)
            opt.step()
        for a, b in zip(ours, theirs, strict=True):
            size = max(1.0, float(b.abs().max()))
            assert float((a - b).abs().max()) <= 1e-6 * size


@pytest.mark.parametrize("way", ["theirs to ours", "ours to theirs"])
@pytest.mark.parametrize(("name", "hypers"), FLAT)
def test_checkpoints_go_both_ways(name, hypers, way):
    ours, mine, theirs, torchs = make(name, hypers, torch.float64, "auto")
    for t in range(7):
        give(ours, t, torch.float64)
        give(theirs, t, torch.float64)
        mine.step()
        torchs.step()
    names = [sorted(s) for s in torchs.state_dict()["state"].values()]
    assert [sorted(s) for s in mine.state_dict()["state"].values()] == names
    if way == "theirs to ours":
        mine.load_state_dict(torchs.state_dict())
    else:
        torchs.load_state_dict(copy.deepcopy(mine.state_dict()))  # torch keeps what it is given
    for t in range(7, 20):
        give(ours, t, torch.float64)
        give(theirs, t, torch.float64)
        mine.step()
        torchs.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


OUT_OF_RANGE = [
    {"lr": -1.0},
    {"lr": torch.ones(2)},
    {"eps": -1.0},
    {"weight_decay": -1.0},
    {"momentum": -1.0},
    {"betas": (1.0, 0.9)},
    {"betas": (0.9, 1.0)},
    {"rho": 1.5},
    {"lr_decay": -1.0},
    {"initial_accumulator_value": -1.0},
    {"momentum_decay": -1.0},
    {"etas": (1.5, 1.2)},
]


@pytest.mark.parametrize("name", CASES)
def test_takes_what_torch_takes_and_refuses_it_in_its_words(name):
    ours, theirs = getattr(weft, name), getattr(torch.optim, name)
    wanted = inspect.signature(theirs).parameters
    taken = {n: p for n, p in inspect.signature(ours).parameters.items() if n in wanted}
    assert [(n, p.kind, p.default) for n, p in taken.items()] == [
        (n, p.kind, p.default) for n, p in wanted.items()
    ]
    for hypers in OUT_OF_RANGE:
        applies = set(hypers) <= set(wanted)
        if applies and not (name == "Adafactor" and "eps" in hypers):  # its eps is a pair
            said = []
            for cls in (ours, theirs):
                with pytest.raises(ValueError) as e:
                    cls([torch.nn.Parameter(torch.ones(2))], **hypers)
                said.append(str(e.value))
            assert said[0] == said[1]
