"""The fused step end to end: held to the eager loop, with no rebuild because a value changed."""

import copy
import os
import pickle
import threading
import warnings

import pytest
import torch

import weft
from weft.callbacks import descend


def adam(grad, step, betas=(0.9, 0.999), eps=1e-8, exp_avg=weft.zeros, exp_avg_sq=weft.zeros):
    b1, b2 = betas
    m = exp_avg * b1 + (1 - b1) * grad
    v = exp_avg_sq * b2 + (1 - b2) * grad**2
    update = (m / (1 - b1**step)) / ((v / (1 - b2**step)).sqrt() + eps)
    return {"exp_avg": m, "exp_avg_sq": v, "update": update}


def trust(p, update):
    norm, size = p.norm(), update.norm()
    ratio = torch.where((norm > 0) & (size > 0), norm / size, torch.ones_like(norm))
    return {"update": update * ratio}


def momentum(update, momentum=0.9, momentum_buffer=None):
    buf = update if momentum_buffer is None else momentum * momentum_buffer + update
    return {"update": buf, "momentum_buffer": buf}


def warm_up(update, step):
    return {"update": update * 0.1} if step < 3 else {"update": update}


def decay(p, lr, weight_decay=0.01):
    return {"p": p * (1 - lr * weight_decay)} if weight_decay != 0 else None


def counting(update, calls=0):
    return {"calls": calls + 1, "update": update / (1 + calls)}


def clip(grad, grad_sq, max_norm=1.0):
    return {"grad": grad * (max_norm / (grad_sq.sqrt() + 1e-6)).clamp(max=1)}


def rows(grad, row_sq=weft.state(lambda p: p.new_zeros(p.shape[:1]))):
    return {"row_sq": row_sq + grad.square().flatten(1).sum(dim=1)}


grad_norm = weft.over_params("grad_sq", lambda grad: grad.square().sum())
CHAINS = {
    "adam": (adam, descend),
    "adamw": (decay, adam, descend),
    "lamb": (adam, trust, descend),
    "momentum": (momentum, descend),
    "warm_up": (momentum, warm_up, descend),
    "counting": (counting, descend),
    "clipped": (grad_norm, clip, adam, descend),
}
FEW = ((4, 3), (5,))
SHAPES = ((4, 3), (5,), (), (7, 2, 2), (0, 3), (1,), (300, 200))


def params(shapes=SHAPES, dtype=torch.float32):
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s).to(dtype)) for s in shapes]


def pair(cbs, shapes=SHAPES, dtype=torch.float32, **hypers):
    hypers = {"lr": 0.01, **hypers}
    a, b = params(shapes, dtype), params(shapes, dtype)
    return weft.Optimizer(a, cbs, engine="eager", **hypers), weft.Optimizer(
        b, cbs, engine="fused", **hypers
    )


def flat(opt):
    return [p for g in opt.param_groups for p in g["params"]]


def give_grads(*opts, seed=0, which=None):
    for opt in opts:
        torch.manual_seed(seed)
        for i, p in enumerate(flat(opt)):
            g = torch.randn(p.shape).to(p.dtype)
            p.grad = g if which is None or i in which else None


def step(*opts, seed=0, which=None):
    give_grads(*opts, seed=seed, which=which)
    for opt in opts:
        opt.step()


def assert_same(a, b, tolerance=2e-5):
    for p, q in zip(flat(a), flat(b), strict=True):
        torch.testing.assert_close(q, p, rtol=tolerance, atol=tolerance, equal_nan=True)
        assert a.state[p].keys() == b.state[q].keys()
        for k, v in a.state[p].items():
            torch.testing.assert_close(
                b.state[q][k], v, rtol=tolerance, atol=tolerance, equal_nan=True
            )


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_equals_eager_while_every_hyper_changes(name, dtype):
    a, b = pair(CHAINS[name], dtype=dtype)
    for i in range(6):
        for opt in (a, b):
            for g in opt.param_groups:
                g["lr"] = 0.01 / (i + 1)
                if "betas" in g:
                    g["betas"] = (0.9 - 0.01 * i, 0.99 - 0.001 * i)
                if "weight_decay" in g:
                    g["weight_decay"] = 0.01 * (i + 1)
        step(a, b, seed=i)
        if i == 2:
            builds = b.explain().builds
    assert_same(a, b, 1e-2 if dtype in (torch.bfloat16, torch.float16) else 2e-5)
    assert b.explain().builds == builds <= 4
    assert not b.explain().fallbacks


def test_one_kernel_serves_all_shapes_groups_and_step_counts():
    many = [
        {"params": [torch.nn.Parameter(torch.randn(n, 3))], "lr": 0.1 / n} for n in range(1, 30)
    ]
    opt = weft.Optimizer(many, [adam, descend], engine="fused", lr=0.1)
    for i in range(4):
        step(opt, seed=i, which=range(i, 29))
    assert opt.explain().builds == 1


def test_grads_come_and_go_without_a_build():
    a, b = pair([adam, descend])
    for i, which in enumerate([None, (0, 2, 6), None, (1,), (0, 2, 6), ()]):
        step(a, b, seed=i, which=which)
    assert_same(a, b)
    assert b.explain().builds == 1


def test_groups_added_and_frozen():
    a, b = pair([adam, descend])
    for i in range(4):
        step(a, b, seed=i)
        if i == 1:
            for opt in (a, b):
                opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(3, 3))], "lr": 0.5})
        if i == 2:
            for opt in (a, b):
                opt.freeze_to(-1)
                opt.unfreeze()
    assert_same(a, b)
    assert b.explain().builds == 1


def layouts(kind):
    p = {
        "transposed": lambda: torch.randn(5, 7).t(),
        "channels_last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "sliced": lambda: torch.randn(6, 9)[:, ::2],
        "plain": lambda: torch.randn(6, 5),
    }[kind.partition("/")[0]]()
    grads = {
        "": torch.randn_like,
        "contiguous": lambda p: torch.randn(p.shape),
        "transposed": lambda p: torch.randn(p.shape[::-1]).permute(*range(p.ndim)[::-1]),
        "expanded": lambda p: torch.randn(p.shape[-1:]).expand(p.shape),
        "sliced": lambda p: torch.randn(*p.shape[:-1], p.shape[-1] * 2)[..., ::2],
    }[kind.partition("/")[2]]
    return p, grads


@pytest.mark.parametrize("cbs", [(adam, descend), (adam, trust, descend)])
@pytest.mark.parametrize(
    "kind",
    ["transposed", "channels_last", "sliced", "transposed/contiguous", "plain/transposed",
     "plain/expanded", "channels_last/contiguous", "plain/sliced", "sliced/expanded"],
)  # fmt: skip
def test_memory_of_every_layout(cbs, kind):
    torch.manual_seed(0)
    p, grads = layouts(kind)
    q = (
        p.clone(memory_format=torch.preserve_format)
        if kind[:6] != "sliced"
        else torch.randn(6, 9)[:, ::2].copy_(p)
    )
    a = weft.Optimizer([torch.nn.Parameter(p)], cbs, engine="eager", lr=0.1)
    b = weft.Optimizer([torch.nn.Parameter(q)], cbs, engine="fused", lr=0.1)
    for _ in range(3):
        g = grads(p)
        for opt in (a, b):
            flat(opt)[0].grad = g
        before = g.clone()
        a.step()
        b.step()
        assert torch.equal(g, before)
    assert_same(a, b)


def test_overlapping_memory_runs_eagerly_and_says_so():
    base = torch.randn(10)
    shared = [torch.nn.Parameter(base[:6]), torch.nn.Parameter(base[4:])]
    opt = weft.Optimizer(shared, [adam, descend], engine="fused", lr=0.1)
    give_grads(opt)
    with pytest.raises(weft.StepError, match="share memory"):
        opt.step()


def test_a_parameter_that_moves_is_noticed():
    a, b = pair([adam, descend], [(4, 3), (5,)])
    step(a, b)
    for opt in (a, b):
        flat(opt)[0].data = flat(opt)[0].data.clone()
    step(a, b, seed=1)
    for opt in (a, b):
        for own in opt.state.values():
            own["exp_avg"] = own["exp_avg"] * 2
    step(a, b, seed=2)
    for opt in (a, b):
        opt.state[flat(opt)[0]]["step"].fill_(7)
        opt.state[flat(opt)[1]]["step"] = torch.tensor(3.0)
    step(a, b, seed=3)
    assert_same(a, b)


def test_a_parameter_that_is_cast_or_resized_is_noticed():
    for change in (torch.Tensor.double, lambda t: t[:2].clone()):
        a, b = pair([momentum, descend], [(4, 3)])
        step(a, b)
        for opt in (a, b):
            p = flat(opt)[0]
            p.grad = None
            p.data = change(p.data)
            opt.state[p]["momentum_buffer"] = change(opt.state[p]["momentum_buffer"])
        step(a, b, seed=1)
        assert_same(a, b)


def test_copies_pickles_and_state_dicts_go_on_as_the_original_does():
    a, b = pair([adam, descend])
    step(a, b)
    for again in (copy.deepcopy(b), pickle.loads(pickle.dumps(b))):
        step(again, seed=1)
        step(a2 := copy.deepcopy(a), seed=1)
        assert_same(a2, again)
    step(b, seed=5)
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    for p, q in zip(flat(a), flat(b), strict=True):
        q.data.copy_(p.data)
    step(a, b, seed=2)
    assert_same(a, b)


def test_versions_are_bumped_and_grads_are_not_written():
    _, b = pair([adam, descend], [(3, 2)])
    p = flat(b)[0]
    loss = (p * p).sum()
    give_grads(b)
    before = p._version, p.grad._version
    b.step()
    assert p._version > before[0]
    assert p.grad._version == before[1]
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_bits_do_not_depend_on_threads_or_grouping():
    def run(threads, group):
        torch.set_num_threads(threads)
        ps = params([(300, 300), (70000,), (5,)])
        groups = [{"params": [p]} for p in ps] if group else ps
        opt = weft.Optimizer(groups, [adam, trust, descend], engine="fused", lr=0.01)
        for i in range(3):
            step(opt, seed=i)
        return [p.detach().clone() for p in flat(opt)]

    before = torch.get_num_threads()
    try:
        results = [run(1, False), run(2, False), run(4, True), run(1, False)]
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_nan_and_inf_are_kept():
    a, b = pair([adam, descend], [(8,)])
    for opt in (a, b):
        flat(opt)[0].grad = torch.tensor(
            [1.0, float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-42, 1e38]
        )
        opt.step()
    assert_same(a, b)


def test_a_captured_value_that_changes_is_noticed():
    factor = [2.0]

    def scaled(update):
        return {"update": update * factor[0]}

    a, b = pair([scaled, descend], [(3,)])
    for i in range(3):
        factor[0] = 1.0 + i
        step(a, b, seed=i)
    assert_same(a, b)


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_steps():
    _, b = pair([adam, trust, descend], [(400, 400)])
    step(b)
    pid = os.fork()
    if pid == 0:
        try:
            step_without_torch(b)
            os._exit(0)
        except BaseException:
            os._exit(1)
    for _ in range(200):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        threading.Event().wait(0.1)
    else:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        pytest.fail("the child hangs")
    assert status == 0


def step_without_torch(opt):
    """A step whose grads are there already: torch's own threads would hang in the child."""
    opt.step()


def test_several_threads_step_at_once():
    opts = [pair([adam, descend], [(200, 200), (3,)]) for _ in range(4)]

    def work(b):
        for _ in range(20):
            b.step()

    for a, b in opts:
        give_grads(a, b)
        for _ in range(20):
            a.step()
    threads = [threading.Thread(target=work, args=(b,)) for _, b in opts]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for a, b in opts:
        assert_same(a, b)


# ---------------------------------------------------------------- falling back


def loops(update):
    while update.abs().max() > 1:
        update = update / 2
    return {"update": update}


def test_what_cannot_be_traced_runs_eagerly_with_one_warning():
    a, _ = pair([loops, descend], FEW)
    b = weft.Optimizer(params(FEW), [loops, descend], lr=0.01)
    give_grads(a, b)
    a.step()
    with pytest.warns(weft.WeftWarning, match=r"loops .*test_run.py:\d+"):
        b.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(a, b, seed=1)
    assert_same(a, b)
    ((name, file, line, reason),) = b.explain().fallbacks
    assert name == "loops"
    assert file.endswith("test_run.py")
    assert line
    assert reason


def test_fused_raises_instead():
    _, b = pair([loops, descend])
    give_grads(b)
    before = [p.detach().clone() for p in flat(b)]
    with pytest.raises(weft.StepError, match="loops"):
        b.step()
    assert all(torch.equal(p, q) for p, q in zip(flat(b), before, strict=True))


def test_one_group_falls_back_and_the_other_does_not():
    def make(engine):
        a, b = params([(3, 2), (4,)])
        return weft.Optimizer(
            [{"params": [a], "cbs": [loops, descend]}, {"params": [b], "cbs": [adam, descend]}], [descend],
            engine=engine, lr=0.1,
        )  # fmt: skip

    a, b = make("eager"), make("auto")
    with pytest.warns(weft.WeftWarning, match="loops"):
        step(a, b)
    step(a, b, seed=1)
    assert_same(a, b)
    assert b.explain().builds == 1


def test_groups_that_share_a_value_fall_back_together():
    def make(engine):
        a, b = params([(3, 2), (4,)])
        return weft.Optimizer(
            [{"params": [a], "cbs": [grad_norm, clip, loops, descend]}, {"params": [b], "cbs": [grad_norm, clip, descend]}],
            [descend], engine=engine, lr=0.1,
        )  # fmt: skip

    a, b = make("eager"), make("auto")
    with pytest.warns(weft.WeftWarning, match="loops"):
        step(a, b)
    step(a, b, seed=1)
    assert_same(a, b)


def test_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("WEFT_CC", "no-such-compiler")
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path))

    def unlike_all_others(update):
        return {"update": update * 1.2345 + update.abs() * 0.0321}

    cbs = [unlike_all_others, descend]
    a, b = pair(cbs)[0], weft.Optimizer(params(), cbs, lr=0.01)
    with pytest.warns(weft.WeftWarning, match="compiler"):
        step(a, b)
    step(a, b, seed=1)
    assert_same(a, b)


def test_too_many_variants():
    def special(update, step):
        return {"update": update * [0.5, 1.0, 2.0][int(step) % 3] * len(range(int(step)))}

    a, b = (
        pair([special, descend], [(3,)])[0],
        weft.Optimizer(params([(3,)]), [special, descend], lr=0.01),
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for i in range(14):
            step(a, b, seed=i)
    assert len(said) == 1
    assert_same(a, b)


def test_a_kernel_that_disagrees_is_never_run(monkeypatch, tmp_path):
    from weft.engine.backends.source import ops

    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path))

    def shifted(update):
        return {"update": update.atan() + 0.125}

    monkeypatch.setitem(ops.FLOATING, "atan", "atan{f}({0}) * 1.5f")
    a, b = pair([shifted, descend])[0], weft.Optimizer(params(), [shifted, descend], lr=0.01)
    with pytest.warns(weft.WeftWarning, match="differs from eager"):
        step(a, b)
    assert_same(a, b)


def test_explain_says_what_only_a_step_can_tell():
    a, b = pair([adam, trust, descend], [(30, 20)])
    assert "phases: the eager loop" in str(a.explain())
    assert "phases of the first step" in str(b.explain())
    assert not b.explain().kernels
    step(b)
    assert "the first step" not in str(b.explain())


def test_explain_tells_the_plan():
    _, b = pair([adam, trust, descend], [(30, 20)])
    step(b)
    plan = b.explain()
    assert plan.builds == 1
    assert plan.state_bytes_per_parameter == 8
    assert plan.bytes_per_parameter == 40  # g m v p read, m v written; m v p read, p written
    assert len(plan.phases) == 2
    source = b.kernel_source()
    assert "exp_avg_sq" in source
    assert "trust" in source
