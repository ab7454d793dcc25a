"""Norms of what a step does: from both engines, against the definition in float64."""

import copy
import math

import pytest
import torch

import weft

SHAPES = [(40, 30), (30,), (), (0,), (3, 20000), (5,)]


def engines():
    return pytest.mark.parametrize("engine", ["eager", "fused"])


def setup(engine, dtype=torch.float32, cls=weft.AdamW, names=False, **hypers):
    """Two groups, the last parameter without a grad; they collect."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s).to(dtype)) for s in SHAPES]
    own = list(zip("abcdef", params, strict=True)) if names else params
    groups = [{"params": own[:3]}, {"params": own[3:], "lr": 0.01}]
    opt = cls(groups, lr=0.1, engine=engine, **hypers)
    give_grads(params)
    return opt, params


def give_grads(params):
    for p in params[:-1]:
        p.grad = torch.randn(p.shape).to(p.dtype)


def length(x):
    return float(torch.linalg.vector_norm(x.detach().double()))


def by_definition(step, params):
    before = [p.detach().clone() for p in params]
    grads = [length(p.grad) for p in params[:-1]]
    step()
    rows = [
        {"param_norm": length(p), "grad_norm": g, "update_norm": length(p.double() - b.double())}
        for p, b, g in zip(params, before, grads, strict=False)
    ]
    total = {k: math.hypot(*(r[k] for r in rows)) for k in rows[0]}
    return {**dict(enumerate(rows)), "global": total}


def assert_same(stats, expected):
    assert stats.keys() == expected.keys()
    for key, row in expected.items():
        assert stats[key] == pytest.approx(row, rel=1e-12), key


@engines()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_they_are_what_the_step_did(engine, dtype):
    opt, params = setup(engine, dtype)
    opt.collect_stats()
    for _ in range(3):
        expected = by_definition(opt.step, params)
        assert_same(opt.stats(), expected)
        give_grads(params)


@engines()
def test_chains_that_reduce(engine):
    opt, params = setup(engine, cls=weft.LAMB)
    opt.collect_stats()
    expected = by_definition(opt.step, params)
    assert_same(opt.stats(), expected)


@engines()
def test_the_grad_is_the_users_as_the_step_found_it(engine):
    def l2_reg(p, lr, wd=0.5, **kwargs):
        p.grad.data.add_(p.data, alpha=wd)

    def sgd_step(p, lr, **kwargs):
        p.data.add_(p.grad.data, alpha=-lr)

    p = torch.nn.Parameter(torch.full((4,), 2.0))
    p.grad = torch.ones(4)
    opt = weft.Optimizer([p], [l2_reg, sgd_step], lr=0.1, engine=engine)
    opt.collect_stats()
    opt.step()
    assert opt.stats()[0]["grad_norm"] == pytest.approx(2.0)
    assert opt.stats()[0]["update_norm"] == pytest.approx(0.4, rel=1e-6)


@engines()
def test_values_over_all_parameters(engine):
    norm = weft.over_params("norm_sq", lambda grad: grad.square().sum(), op="sum")

    def clip(update, norm_sq):
        return {"update": update / norm_sq**0.5}

    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))]
    for p in params:
        p.grad = torch.full_like(p, 7.0)
    opt = weft.Optimizer(params, [norm, clip, weft.callbacks.descend], lr=0.5, engine=engine)
    opt.collect_stats()
    opt.step()
    assert opt.stats()["global"]["update_norm"] == pytest.approx(0.5, rel=1e-6)


@engines()
def test_collecting_changes_no_bit(engine):
    (a, ours), (b, theirs) = setup(engine), setup(engine)
    a.collect_stats()
    for _ in range(3):
        for p, q in zip(ours, theirs, strict=True):
            q.grad = None if p.grad is None else p.grad.clone()
        a.step()
        b.step()
        give_grads(ours)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
    assert a.state_dict().keys() == b.state_dict().keys()


@engines()
def test_names_and_what_is_given_at_once(engine):
    opt, params = setup(engine, names=True)
    opt.step()
    assert not opt.collects_stats
    first = opt.stats()
    assert list(first) == ["a", "b", "c", "d", "e", "global"]
    assert first["a"]["param_norm"] == pytest.approx(length(params[0]))
    assert first["a"]["grad_norm"] == pytest.approx(length(params[0].grad))
    assert math.isnan(first["a"]["update_norm"])
    assert math.isnan(first["global"]["update_norm"])
    assert opt.collects_stats
    opt.step()
    assert opt.stats()["a"]["update_norm"] > 0


@engines()
def test_the_switch(engine, monkeypatch):
    opt, params = setup(engine)
    opt.collect_stats()
    opt.step()
    assert not copy.deepcopy(opt).collects_stats
    opt.collect_stats(False)
    monkeypatch.setattr(
        "weft.engine.eager.norms.norm", lambda *a: pytest.fail("a norm was computed")
    )
    opt.step()
    assert not opt.collects_stats
    opt.collect_stats()
    for p in params:
        p.grad = None
    opt.step()
    assert opt.stats() == {"global": dict.fromkeys(("param_norm", "grad_norm", "update_norm"), 0.0)}


def test_the_variant_is_built_only_when_asked_for():
    opt, _ = setup("fused")
    opt.step()
    builds, bytes_moved = opt.explain().builds, opt.explain().bytes_per_parameter
    opt.collect_stats()
    opt.step()
    assert opt.explain().builds == builds + 1
    assert opt.explain().bytes_per_parameter == bytes_moved  # in the pass that is made anyway
    opt.collect_stats(False)
    opt.step()
    assert opt.explain().builds == builds + 1


def test_complex_parameters():
    p = torch.nn.Parameter(torch.tensor([3 + 4j, 0]))
    p.grad = torch.ones(2, dtype=torch.complex64)
    opt = weft.SGD([p], lr=0.5, engine="eager")
    opt.collect_stats()
    opt.step()
    assert opt.stats()[0]["update_norm"] == pytest.approx(0.5 * 2**0.5)
    assert opt.stats()[0]["grad_norm"] == pytest.approx(2**0.5)


@engines()
def test_a_step_that_is_skipped_leaves_them(engine):
    opt, params = setup(engine, on_nonfinite="skip")
    opt.collect_stats()
    opt.step()
    seen = opt.stats()
    params[0].grad[0, 0] = torch.nan
    opt.step()
    assert opt.stats() == seen
    opt.on_nonfinite = "keep"
    opt.step()
    assert math.isnan(opt.stats()[0]["grad_norm"])
