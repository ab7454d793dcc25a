"""Long runs and wide ones: nothing grows, and the counts that corrections are made of stay right."""

import gc
import math
import os
from pathlib import Path

import pytest
import torch

import weft

pytestmark = pytest.mark.filterwarnings("ignore::weft.WeftWarning")

BETAS = (0.9, 0.999)
CHAINS = {
    "adamw": lambda ps, **kw: weft.AdamW(ps, lr=1e-3, betas=BETAS, **kw),
    "chain": lambda ps, **kw: (weft.AdamW.chain() + weft.callbacks.cautious)(ps, lr=1e-3, **kw),
    "over": lambda ps, **kw: (weft.LAMB.chain() + weft.WeightEMA(decay=0.99))(ps, lr=1e-3, **kw),
}


def resident():
    """This process's memory in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise OSError("no VmRSS")


def handles():
    return len(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="reads memory and handles from /proc, as on Linux"
)


def run(opt, ps, steps):
    """Steps with a rate and betas that change at each, and grads of two alternating tensors.

    One is the opposite of the other: LAMB's steps are as large as the weights, and by the same way
    each time they would grow without end.
    """
    g = torch.Generator().manual_seed(0)
    forth = [torch.randn(p.shape, generator=g) for p in ps]
    grads = [forth, [-x for x in forth]]
    for i in range(steps):
        for p, grad in zip(ps, grads[i % 2], strict=True):
            p.grad = grad
        opt.param_groups[0]["lr"] = 1e-3 * (1 + i % 7)
        opt.param_groups[0]["betas"] = (0.9 - 1e-3 * (i % 5), 0.999)
        opt.step()


def check_growth(name, steps, tmp_path, monkeypatch):
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "cache"))
    torch.manual_seed(0)
    ps = [torch.nn.Parameter(torch.randn(s)) for s in [(4, 3), (3,), ()]]
    opt = CHAINS[name](ps)
    run(opt, ps, steps // 5)
    grown = [stretch(opt, ps, steps // 2, tmp_path) for _ in range(2)]
    # what steps leave behind they leave in both halves; an allocator's page, or other tests', in one
    memory, held, written, objects = map(min, zip(*grown, strict=True))
    assert memory < 4 * 1024, f"memory grew by {memory} KiB in each half"
    assert held <= 0, f"there are {held} more file handles in each half"
    assert written == 0, f"the kernel cache got {written} more files in each half"
    assert objects < 250, f"there are {objects} more live objects in each half"
    assert all(bool(p.isfinite().all()) for p in ps)
    assert opt.state[ps[0]]["step"] == steps // 5 + steps


def stretch(opt, ps, steps, folder):
    """What some steps leave behind: KiB of memory, file handles, files, live objects."""

    def looked():
        gc.collect()
        return resident(), handles(), files(folder), len(gc.get_objects())

    before = looked()
    run(opt, ps, steps)
    return [b - a for a, b in zip(before, looked(), strict=True)]


def files(folder):
    return sum(1 for p in folder.rglob("*") if p.is_file())


@needs_proc
@pytest.mark.parametrize("name", CHAINS)
def test_nothing_grows_in_a_thousand_steps(name, engine, tmp_path, monkeypatch):
    check_growth(name, 1000, tmp_path, monkeypatch)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_nothing_grows_in_a_million_steps(name, engine, tmp_path, monkeypatch):
    if engine == "eager" and name != "adamw":
        pytest.skip("the eager loop has no caches: one chain of it is enough, for an hour's sake")
    check_growth(name, 1_000_000, tmp_path, monkeypatch)


# ---------------------------------------------------------------- bias corrections


def reference(p, m, v, step, steps, grad, lr, betas, eps):
    """AdamW without decay in float64, from the moments at `step`."""
    for t in range(step + 1, step + steps + 1):
        m = betas[0] * m + (1 - betas[0]) * grad
        v = betas[1] * v + (1 - betas[1]) * grad * grad
        denominator = math.sqrt(v / -math.expm1(t * math.log(betas[1]))) + eps
        p -= lr * m / -math.expm1(t * math.log(betas[0])) / denominator
    return p, m, v


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9999, 0.999999)], ids=str)
@pytest.mark.parametrize("start", [0, 10, 999, 99_999, 999_990, 16_777_000])
def test_bias_corrections_are_right_after_any_number_of_steps(start, betas, engine):
    """The counts that a run of that length comes to, against float64."""
    p = torch.nn.Parameter(torch.full((5,), 0.5, dtype=torch.float64))
    opt = weft.AdamW([p], lr=1e-2, betas=betas, weight_decay=0.0)
    p.grad = torch.full((5,), 0.3, dtype=torch.float64)
    m, v = 0.2 * (start > 0), 0.05 * (start > 0)
    opt.step()
    with torch.no_grad():
        p.fill_(0.5)
    saved = opt.state_dict()
    saved["state"][0] = {
        "step": torch.tensor(float(start)),
        "exp_avg": torch.full((5,), m, dtype=torch.float64),
        "exp_avg_sq": torch.full((5,), v, dtype=torch.float64),
    }
    opt.load_state_dict(saved)
    for _ in range(20):
        opt.step()
    expected, m, v = reference(0.5, m, v, start, 20, 0.3, 1e-2, betas, 1e-8)
    torch.testing.assert_close(p.detach(), torch.full_like(p, expected), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(
        opt.state[p]["exp_avg_sq"], torch.full_like(p, v), rtol=1e-12, atol=0.0
    )
    assert opt.state[p]["step"] == start + 20


@pytest.mark.slow
def test_a_million_steps_against_float64(engine):
    p = torch.nn.Parameter(torch.full((3,), 0.5, dtype=torch.float64))
    opt = weft.AdamW([p], lr=1e-6, weight_decay=0.0)
    p.grad = torch.full((3,), 0.3, dtype=torch.float64)
    for _ in range(1_000_000):
        opt.step()
    expected, _, _ = reference(0.5, 0.0, 0.0, 0, 1_000_000, 0.3, 1e-6, BETAS, 1e-8)
    torch.testing.assert_close(p.detach(), torch.full_like(p, expected), rtol=1e-9, atol=1e-9)
    assert opt.state[p]["step"] == 1_000_000


# ---------------------------------------------------------------- wide


def wide(n, groups, cls, **hypers):
    torch.manual_seed(0)
    ps = [torch.nn.Parameter(torch.randn(3)) for _ in range(n)]
    g = torch.Generator().manual_seed(1)
    for p in ps:
        p.grad = torch.randn(3, generator=g)
    size = n // groups
    made = [
        {"params": ps[i * size : (i + 1) * size], "lr": 1e-3 * (1 + i % 10)} for i in range(groups)
    ]
    return ps, cls(made, **hypers)


def check_wide(n, groups):
    ours, opt = wide(n, groups, weft.AdamW)
    theirs, ref = wide(n, groups, torch.optim.AdamW)
    for _ in range(3):
        opt.step()
        ref.step()
    torch.testing.assert_close(
        torch.stack([p.detach() for p in ours]), torch.stack([p.detach() for p in theirs])
    )
    saved = opt.state_dict()
    again, fresh = wide(n, groups, weft.AdamW)
    with torch.no_grad():
        for a, p in zip(again, ours, strict=True):
            a.copy_(p)
    fresh.load_state_dict(saved)
    for o in (opt, fresh):
        o.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    explained = opt.explain()
    assert explained.builds <= 4, "what is built must not grow with the number of tensors"
    assert len(str(explained)) < 1_000_000


@pytest.mark.parametrize(("n", "groups"), [(1000, 1), (200, 100)])
def test_many_parameters_and_groups(n, groups, engine):
    check_wide(n, groups)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "groups"), [(10_000, 1), (2_000, 1_000), (10_000, 1_000)])
def test_ten_thousand_parameters_and_a_thousand_groups(n, groups, engine):
    check_wide(n, groups)
