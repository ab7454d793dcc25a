"""`explain()`: what callbacks reduce, what runs, and that asking for it changes nothing."""

import pytest
import torch

import weft
from weft.callbacks import descend
from weft.engine.backends.source.comments import comment
from weft.engine.explain.table import HEAD


def cautious(update, grad):
    agree = (update * grad > 0).to(grad.dtype)
    return {"update": update * agree / agree.mean().clamp(min=1e-3)}


def rows_and_columns(update):
    return {"update": update / (update.abs().amax(dim=1, keepdim=True) + update.sum(0).square())}


def norm(update):
    return {"update": update / update.square().sum().sqrt()}


def made(cbs, shapes=((6, 4),), engine="fused", **hypers):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return weft.Optimizer(params, cbs, engine=engine, **{"lr": 0.1, **hypers})


def reduced(opt):
    return {row[0]: row[HEAD.index("reduces")] for row in opt.explain().callbacks}


def test_each_callback_says_what_it_reduces():
    opt = made([rows_and_columns, norm, cautious, descend])
    opt.step()
    assert reduced(opt) == {
        "rows_and_columns": "max over each row, sum over each column",
        "norm": "sum of squares over the parameter",
        "cautious": "mean over the parameter",
        "descend": "",
    }


def test_dims_of_what_is_no_matrix_and_values_of_their_own():
    def units(update):
        scale = update.abs().mean(dim=(1, 2, 3), keepdim=True)
        return {"update": update / scale / scale.amax()}

    opt = made([units, descend], [(3, 2, 2, 2)])
    assert reduced(opt)["units"] == "mean over dims 1, 2, 3 of the parameter, max over a vector"


@pytest.mark.parametrize("scope", ["optimizer", "group"])
def test_values_over_all_parameters(scope):
    square = weft.over_params("square", lambda grad: grad.square().sum(), scope=scope)

    def clip(update, square):
        return {"update": update / square.sqrt()}

    opt = made([square, clip, descend], [(6, 4), (5,)])
    all_of = "all parameters" + " of the group" * (scope == "group")
    assert reduced(opt)["square"] == f"sum of squares over the parameter, sum over {all_of}"
    assert reduced(opt)["clip"] == ""


def test_the_eager_loop_traces_nothing():
    opt = made([norm, descend], engine="eager")
    assert reduced(opt)["norm"] == "?"
    assert "?: not traced" in str(opt.explain())
    assert "phases: the eager loop" in str(opt.explain())


def test_before_the_first_step_it_is_the_plan_of_that_step():
    a, b = (weft.LAMB(made([norm, descend], [(6, 4), (5,)]).param_groups) for _ in range(2))
    for p in (*a.param_groups[0]["params"], *b.param_groups[0]["params"]):
        p.grad = torch.ones_like(p)
    before = a.explain()
    assert before.ahead
    assert before.builds == 0
    assert "phases of the first step" in str(before)
    a.step()
    after = a.explain()
    assert not after.ahead
    same = ("callbacks", "phases", "bytes_per_parameter", "state_bytes_per_parameter")
    assert [getattr(before, k) for k in same] == [getattr(after, k) for k in same]


def test_chains_are_told_apart_each_in_its_order():
    a, b, c = (torch.nn.Parameter(torch.randn(4, 3)) for _ in range(3))
    signs = weft.chain(weft.callbacks.sign, descend)
    groups = [{"params": [a], "cbs": signs}, {"params": [b]}, {"params": [c], "cbs": signs}]
    plan = weft.Optimizer(groups, [norm, descend], lr=0.1).explain()
    assert [(chain.groups, [row[0] for row in chain.rows]) for chain in plan.chains] == [
        ([0, 2], ["sign", "descend"]),
        ([1], ["norm", "descend"]),
    ]
    assert [row[0] for row in plan.callbacks] == ["sign", "descend", "norm", "descend"]
    assert "\ngroups 0, 2:\n" in str(plan)


def test_a_chain_without_parameters_is_told_of_a_matrix():
    plan = weft.AdamW.chain().explain()
    assert plan.state_bytes_per_parameter == 8
    assert plan.phases
    assert "of a parameter of 64 x 64" in str(plan)
    needs_lr = weft.chain(weft.rename(descend, lr="my_rate")).explain()
    assert [row[0] for row in needs_lr.callbacks] == ["descend"]


def test_launches_are_told_once_they_have_run():
    opt = made([norm, descend], [(6, 4), (5,)])
    assert not opt.explain().launches
    opt.step()
    (words,) = opt.explain().launches
    moved = 29 * opt.explain().bytes_per_parameter
    assert words.startswith("on cpu: 2 tensors, 2 chunks of up to ")
    assert words.endswith(f" a pass, {moved:,.0f} bytes moved")
    assert words.partition(" a pass")[0] in str(opt.explain())


def test_lines_fit_a_terminal():
    for name in ("lamb", "soap", "muon"):
        plan = weft.create(name, [torch.nn.Parameter(torch.randn(6, 4))]).explain()
        assert max(map(len, str(plan).splitlines())) <= 80


def test_state_that_a_step_makes_counts_ahead_of_it():
    def average(update, mean=None, step_size=1.0):
        mean = update if mean is None else mean + 0.1 * (update - mean)
        return {"update": mean * step_size, "mean": mean, "row": mean.sum(dim=1)}

    opt = made([average, descend], [(6, 4), (6, 2)])
    before = opt.explain().state_bytes_per_parameter
    opt.step()
    assert before == opt.explain().state_bytes_per_parameter == pytest.approx(4 + 4 * 12 / 36)


def test_asking_changes_nothing():
    def noisy(update, noise=weft.state(torch.randn_like), steps=weft.state(0)):
        return {"update": update + noise + torch.randn_like(update), "steps": steps + 1}

    a, b = (made([noisy, norm, cautious, descend], engine="auto") for _ in range(2))
    for i in range(4):
        before = torch.get_rng_state()
        assert a.explain().phases
        assert torch.equal(torch.get_rng_state(), before)
        assert len(a.state) == (i > 0)
        for opt in (a, b):
            opt.set_hypers(lr=0.1 / (i + 1))
            torch.manual_seed(i)
            opt.step()
    (x,), (y,) = a.param_groups[0]["params"], b.param_groups[0]["params"]
    assert torch.equal(x, y)
    assert a.explain().builds == b.explain().builds


def test_what_cannot_be_told_ahead_is_told_by_the_step():
    def looping(p, lr, **kwargs):
        while p.abs().sum() > 1000:
            p.data.mul_(0.5)
        p.data.add_(p.grad.data, alpha=-lr)

    opt = made([looping], engine="auto")
    assert "phases: known after the first step" in str(opt.explain())
    assert reduced(opt) == {"looping": "?"}
    with pytest.warns(weft.WeftWarning):
        opt.step()
    assert "phases: the eager loop" in str(opt.explain())
    assert "runs eagerly: looping" in str(opt.explain())


def test_a_chain_that_reads_the_loss_is_told_ahead():
    def polyak(update, loss):
        return {"update": update * loss}

    opt = made([polyak, descend])
    assert opt.explain().phases
    opt.step(loss=2.0)
    assert not opt.explain().fallbacks


def test_no_kernels_are_promised_without_a_compiler_or_after_a_fall(monkeypatch):
    opt = made([norm, descend], engine="auto")
    with monkeypatch.context() as m:
        m.setenv("WEFT_CC", "no-such-compiler")
        assert not opt.explain().phases
    p = opt.param_groups[0]["params"][0]
    p.grad = torch.imag(torch.randn(6, 4, dtype=torch.complex64).conj())
    with pytest.warns(weft.WeftWarning, match="negated"):
        opt.step()
    assert "phases: the eager loop" in str(opt.explain())
    assert reduced(opt) == {"norm": "?", "descend": "?"}


def test_norms_belong_to_no_callback():
    opt = made([descend])
    opt.collect_stats()
    opt.step()
    assert reduced(opt) == {"descend": ""}


def test_wrappers_are_told_with_the_options_that_they_have_now():
    opt = weft.create("sgd+lookahead(k=5)", made([descend]).param_groups[0]["params"], lr=0.1)
    opt.param_groups[0]["lookahead_alpha"] = 0.25
    ((name, what),) = opt.explain().wrappers
    assert name == "Lookahead(k=5, alpha=0.25)"
    assert what.startswith("Lookahead: every k steps")
    assert f"around the step: {name}" in str(opt.explain())
    chain = weft.SGD.chain() + weft.wrappers.SAM(rho=0.1)
    assert "around the step: SAM(rho=0.1)" in str(chain.explain())
    assert "needs a closure" in str(chain.explain())


@pytest.mark.parametrize("text", ["a */ b", "/* a", "*/*/*", "a \\\n b", "??/", "é*\u2028/", "\\"])
def test_no_name_gets_out_of_its_comment(text):
    said = comment(text)
    assert said.startswith("/* ")
    assert said.endswith(" */")
    inside = said[2:-2]
    assert said.isascii()
    assert not any(bad in inside for bad in ("*/", "/*", "\\", "\n", "?"))


def test_the_c_says_what_its_numbers_and_pointers_are():
    def schedule(update, lr, step, betas=(0.9, 0.99), slow=weft.zeros):
        slow = slow + update / (1 - betas[1] ** step)
        return {"update": slow * (2 * lr), "slow": slow}

    schedule.__name__ = "schedule */ \\"
    a, b = (
        made([schedule, norm, descend], engine=e, betas=(0.9, 0.99)) for e in ("eager", "fused")
    )
    for i in range(4):
        for opt in (a, b):
            opt.set_hypers(lr=0.1 / (i + 1), betas=(0.9, 0.9 + 0.01 * i))
            opt.step()
    torch.testing.assert_close(*(o.param_groups[0]["params"][0] for o in (a, b)))
    assert b.explain().builds == 1
    source = b.kernel_source()
    for words in (
        "/* 1 - (betas[1] ** step) */", "/* 2 * lr */", "/* state slow */", "/* the parameter */",
        "/* schedule __ _ */", "/* sqrt of norm */",
    ):  # fmt: skip
        assert words in source


def test_words_of_a_number_that_doubles_stay_short():
    def powers(update, lr):
        for _ in range(40):
            lr = lr * lr + lr
        return {"update": update * lr}

    opt = made([powers, descend], lr=0.01)
    opt.step()
    assert "..." in opt.kernel_source()
    assert max(map(len, opt.kernel_source().splitlines())) < 200
