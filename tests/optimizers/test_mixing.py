"""Mixing is the product: any modifier on any optimizer builds, runs fused, and trains."""

import functools
import re

import pytest
import torch

import weft

# modifier -> whether it is about the trajectory of the weights (averages are not: they are evaluated)
MODIFIERS = [
    "cautious",
    "centralize",
    "clip_global_norm(max_norm=0.5)",
    "clip_norm(max_norm=0.5)",
    "clip_value(clip_value=0.3)",
    "clip_unit(clipping=0.1)",
    "clip_update_rms(d=0.5)",
    "grokfast",
    "trust_ratio",
    "cautious_weight_decay(weight_decay=0.05)",
    "lookahead(k=3)",
    "outernesterov(k=3, lr=0.9, momentum=0.3)",
    "sam(rho=0.2)",
]
OPTIMIZERS = {
    "sgd": {"lr": 0.05},
    "sgd(momentum=0.9)": {"lr": 0.01},
    "adam": {"lr": 0.03},
    "adamw": {"lr": 0.03},
    "radam": {"lr": 0.1},
    "nadam": {"lr": 0.03},
    "rmsprop": {"lr": 0.01},
    "adagrad": {"lr": 0.1},
    "lion": {"lr": 0.02},
    "lamb": {"lr": 0.06},
    "adabelief": {"lr": 0.03},
    "ademamix": {"lr": 0.02},
    "adopt": {"lr": 0.03},
}


def train(spec, hypers, engine, steps=200):
    """The weights after noisy least squares in 50 dimensions, the losses before and after, the optimizer."""
    gen = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 10, generator=gen)
    targets = inputs @ torch.randn(10, 5, generator=gen) + 0.1 * torch.randn(400, 5, generator=gen)
    w = torch.nn.Parameter(torch.randn(10, 5, generator=gen))
    opt = weft.create(spec, [w], **hypers, engine=engine)

    def loss_of(rows):
        return (inputs[rows] @ w - targets[rows]).square().mean()

    before = loss_of(slice(None)).item()
    for t in range(steps):
        rows = torch.randint(400, (32,), generator=gen.manual_seed(t))

        def closure(rows=rows):
            opt.zero_grad()
            loss = loss_of(rows)
            loss.backward()
            return loss

        opt.step(closure)
    return w.detach().clone(), before, loss_of(slice(None)).item(), opt


@functools.cache
def plain(name):
    return train(name, OPTIMIZERS[name], "auto")


@pytest.mark.parametrize("modifier", MODIFIERS, ids=lambda m: m.partition("(")[0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_modifier_on_an_optimizer(name, modifier):
    alone, _, _, unmodified = plain(name)
    weights, before, after, opt = train(f"{name}+{modifier}", OPTIMIZERS[name], "auto")
    assert after <= before / 2
    assert not torch.equal(weights, alone)
    if not unmodified.explain().fallbacks:
        assert opt.explain().fallbacks == []


def test_several_modifiers_go_where_they_belong():
    opt = weft.create(
        "adamw+cautious+centralize+lookahead(k=5)", [torch.nn.Parameter(torch.ones(2, 2))]
    )
    names = [c.name for c in opt._bound[0].binding.calls]
    assert names.index("centralize") < names.index("ema") < names.index("cautious")
    assert names.index("cautious") < names.index("descend")
    assert opt.param_groups[0]["lookahead_k"] == 5


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("adamw+ema", "state 'exp_avg' is declared by"),
        ("adamw+cautios", "did you mean 'cautious'"),
        ("adafactr", "did you mean 'adafactor'"),
        ("adamw+lookahead(5)", "keyword arguments"),
        ("ftrl+cautious", "no callback after it reads it"),
    ],
)
def test_what_cannot_be_combined_says_why(spec, why):
    with pytest.raises(weft.ChainError, match=re.escape(why)):
        weft.create(spec, [torch.nn.Parameter(torch.ones(2, 2))])


def test_options_that_select_callbacks_reach_the_chain():
    opt = weft.create(
        "adamw+cautious", [torch.nn.Parameter(torch.ones(2, 2))], amsgrad=True, lr=0.1
    )
    assert "max_sq" in [c.name for c in opt._bound[0].binding.calls]
    assert opt.param_groups[0]["lr"] == 0.1
