"""A parameter whose state says `do_wd = False` is spared by every decay, in both engines."""

import inspect

import pytest
import torch

import weft
from parity.cases import CASES
from weft.optimizers import algorithms

LR = {case.name.lower(): case.hypers["lr"] for case in reversed(CASES)}
DECAYING = [n for n, cls in algorithms().items() if "weight_decay" in cls._signature()]
SHAPES = ((6, 4), (5, 3), (7,))
STEPS = 7  # RAdam's first move nothing


def fitting(name):
    """The first shapes that the optimizer takes: two parameters."""
    out = []
    for shape in SHAPES:
        try:
            weft.create(name, [torch.nn.Parameter(torch.ones(shape))])
            out.append(shape)
        except (weft.ChainError, ValueError):
            pass
    return (out * 2)[:2]


def trained(name, engine, decay, do_wd):
    """Two parameters, each in a group of its own, after some steps; the second one's decay and flag."""
    gen = torch.Generator().manual_seed(3)
    torch.manual_seed(0)  # what some chains draw from
    a, b = (torch.nn.Parameter(torch.randn(s, generator=gen)) for s in fitting(name))
    groups = [{"params": [a], "weight_decay": 0.1}, {"params": [b], "weight_decay": decay}]
    opt = weft.create(name, groups, lr=LR[name], engine=engine)
    if do_wd is not None:
        opt.state[b]["do_wd"] = do_wd
    for t in range(STEPS):
        grads = [torch.randn(p.shape, generator=gen) for p in (a, b)]

        def closure(grads=grads):
            loss = sum((g * (p + 0.1 * p**3)).sum() for p, g in zip((a, b), grads, strict=True))
            for p, g in zip(
                (a, b), torch.autograd.grad(loss, (a, b), create_graph=True), strict=True
            ):
                p.grad = g
            return loss

        a.grad, b.grad = grads
        opt.step(closure) if opt.needs_closure else opt.step(loss=2 / (1 + 0.1 * t))
    return a.detach(), b.detach()


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("name", DECAYING)
def test_do_wd_spares_one_parameter(name, engine):
    spared = trained(name, engine, 0.1, False)
    without = trained(name, engine, 0.0, None)
    for x, y in zip(spared, without, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)
    assert not torch.equal(trained(name, engine, 0.1, None)[1], without[1])


def test_whatever_reads_weight_decay_reads_do_wd():
    for name in weft.callbacks.__all__:
        cb = getattr(weft.callbacks, name)
        if callable(cb):
            reads = inspect.signature(cb).parameters
            assert "weight_decay" not in reads or "do_wd" in reads, name


@pytest.mark.parametrize("name", ["adamw", "lars", "adamp", "momo", "soap"])
def test_do_wd_true_decays(name):
    for x, y in zip(
        trained(name, "auto", 0.1, True), trained(name, "auto", 0.1, None), strict=True
    ):
        assert torch.equal(x, y)


@pytest.mark.parametrize("name", ["adamw", "sgd", "adamp"])
def test_do_wd_written_between_steps_is_seen_by_the_next(name):
    ends = []
    for engine in ("eager", "fused"):
        gen = torch.Generator().manual_seed(1)
        ps = [torch.nn.Parameter(torch.randn(6, 4, generator=gen)) for _ in range(3)]
        opt = weft.create(name, ps, lr=0.1, weight_decay=0.5, engine=engine)
        for flags in ({}, {0: False}, {0: False}, {0: True, 2: False}, {2: False}):
            for i, flag in flags.items():
                opt.state[ps[i]]["do_wd"] = flag
            if 0 not in flags:
                opt.state[ps[0]].pop("do_wd", None)
            for p in ps:
                p.grad = torch.randn(p.shape, generator=gen)
            opt.step()
        ends.append([p.detach() for p in ps])
    for x, y in zip(*ends, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)
