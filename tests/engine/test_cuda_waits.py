"""A step on a GPU waits for nothing: numbers stay on the device. Shown without one, by its backend on the CPU."""

import pytest
import torch
from blocks import emulated

import weft
from weft.engine import backends
from weft.engine.backends.cuda.launch import CudaLaunch
from weft.optimizers import algorithms

pytestmark = pytest.mark.filterwarnings("ignore")

READS = (
    "item",
    "tolist",
    "__float__",
    "__bool__",
    "__int__",
    "__index__",
    "numpy",
    "cpu",
    "nonzero",
)
DECOMPOSE = {  # they ask whether what they decompose is finite, and so do torch's decompositions
    "dion", "distributedshampoo", "polargrad", "psgdkron", "shampoo", "spectraldescent",
    "spectralsphere", "spel", "swan", "heavysoap", "klshampoo", "klsoap", "soap", "soapademamix",
    "soapnadam", "solp",
}  # fmt: skip
CLOSURES = {"adahessian", "sophia"}  # they differentiate the gradient
DRAWING = {  # they draw random numbers in some steps only, which a count on the device cannot decide
    "apollo", "apollomini", "gravity", "psgdkron",
}  # fmt: skip
TELLING = ("adamw", "sgd", "lamb", "prodigy", "dog", "adagradnorm", "momo", "radam", "adafactor")
SHAPES = ((7,), (4, 6), (300, 7))


def make(name, **keywords):
    params = [
        torch.nn.Parameter(torch.randn(s, generator=torch.Generator().manual_seed(i)))
        for i, s in enumerate(SHAPES)
    ]
    for kept in (params, params[1:]):
        try:
            return kept, algorithms()[name](kept, engine="fused", **keywords)
        except weft.ChainError:  # of matrices alone
            continue
    raise AssertionError(name)


def step(params, opt, k):
    for i, p in enumerate(params):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * k + i))
    torch.manual_seed(k)
    opt.step(loss=torch.tensor(1.5 / (k + 1)))


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(backends, "_open", {"cpu": emulated()})


@pytest.fixture
def reads(monkeypatch):
    """Whatever reads a tensor's numbers while it is watched."""
    found, watched = [], []
    for owner, names in ((torch.Tensor, READS), (CudaLaunch, ("value",))):
        for name in names:

            def spied(self, *args, real=getattr(owner, name), name=name, **kwargs):
                if watched:
                    found.append(name)
                return real(self, *args, **kwargs)

            monkeypatch.setattr(owner, name, spied)
    return found, watched


def swept(names, without):
    slow = pytest.mark.slow
    return [
        pytest.param(n, marks=() if n in names else slow)
        for n in sorted(algorithms().keys() - without)
    ]


@pytest.mark.parametrize("name", swept(TELLING, DECOMPOSE | CLOSURES))
def test_a_step_reads_nothing(name, gpu, reads):
    params, opt = make(name)
    found, watched = reads
    for k in range(12):
        watched[:] = [True] * (
            k > 8
        )  # a variant that a later step takes is compared with eager first
        step(params, opt, k)
    watched.clear()
    assert not found


def test_reads_are_seen(gpu, reads):
    found, watched = reads
    watched.append(True)
    assert float(torch.ones(())) == 1.0
    assert found == ["__float__"]


@pytest.mark.parametrize("name", ["prodigy", "dog", "adagradnorm", "momo", "adgd"])
def test_shared_values_stay_on_the_device(name, gpu, monkeypatch):
    params, opt = make(name)
    for k in range(5):
        step(params, opt, k)
    group = opt.param_groups[0]
    kept = {k: v for k, v in group.items() if isinstance(v, torch.Tensor)}
    assert kept
    with monkeypatch.context() as c:
        c.setattr(backends, "_open", {})
        others, reference = make(name)
        for k in range(5):
            step(others, reference, k)
    for k, v in kept.items():
        assert float(v) == pytest.approx(reference.param_groups[0][k], rel=1e-6)
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p.data, q.data, rtol=1e-6, atol=1e-7)


def test_shared_values_move_between_engines_and_files(gpu, monkeypatch):
    params, opt = make("prodigy")
    for k in range(3):
        step(params, opt, k)
    held = opt.param_groups[0]["d_max"]
    assert isinstance(held, torch.Tensor)
    with monkeypatch.context() as c:  # on the CPU again, from what was saved
        c.setattr(backends, "_open", {})
        others, other = make("prodigy")
        other.load_state_dict(opt.state_dict())
        for p, q in zip(others, params, strict=True):
            p.data.copy_(q)
        step(others, other, 3)
    step(params, opt, 3)
    assert opt.param_groups[0]["d_max"] is held, "its memory is kept"
    assert float(other.param_groups[0]["d_max"]) == pytest.approx(float(held), rel=1e-6)
    opt.engine = "eager"
    step(params, opt, 4)


@pytest.mark.parametrize("name", swept(TELLING, CLOSURES | DRAWING))
def test_capturable(name, gpu, monkeypatch):
    """Count and lr on the device, lr another in each step; the CPU's own steps are the reference.

    A graph would repeat the numbers of the host: none of them is another in a later step.
    """
    rows = []

    def run(lr, **keywords):
        takes_lr = "lr" in algorithms()[name].keywords()
        params, opt = make(name, **({"lr": lr} if takes_lr else {}), **keywords)
        for k in range(8):
            if isinstance(lr, torch.Tensor):
                lr.fill_(0.01 * (k + 1))
            elif takes_lr:
                opt.param_groups[0]["lr"] = 0.01 * (k + 1)
            step(params, opt, k)
            schedules = [list(c.schedules.values()) for c in opt._engine.fused.active_sets.values()]
            rows.append([w.rows for w in schedules[-1][-1].cohorts])
        return params, opt

    params, opt = run(torch.tensor(0.01), capturable=True)
    assert rows[-3] == rows[-2] == rows[-1]
    with monkeypatch.context() as c:
        c.setattr(backends, "_open", {})
        expected, _ = run(0.01)
    for p, q in zip(params, expected, strict=True):
        torch.testing.assert_close(p.data, q.data, rtol=2e-6, atol=1e-6)
    if opt._bound[0].binding.keeps_step:
        assert all(float(opt.state[p]["step"]) == 8 for p in params)


def grads_of(params, k, bad):
    for i, p in enumerate(params):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * k + i))
    if bad:
        params[-1].grad.view(-1)[3] = torch.inf


def by_policy(params, opt, k, bad):
    grads_of(params, k, bad)
    opt.step(loss=torch.tensor(1.5 / (k + 1)))


def by_scaler(params, opt, k, bad):
    """As torch's GradScaler leaves it, in its second protocol."""
    grads_of(params, k, bad)
    for p in params:
        p.grad.mul_(8)
    opt.grad_scale, opt.found_inf = torch.tensor(8.0), torch.tensor(float(bad))
    opt.step(loss=torch.tensor(1.5 / (k + 1)))
    del opt.grad_scale, opt.found_inf


WARMING = 3  # steps that may make states, and are looked at by the host
BAD = (1, 4, 5, 8)
# a wrapper is left out too; a decomposition asks itself whether its matrix is finite
BY_THE_HOST = DECOMPOSE | {
    "conda", "fira", "galoreadamw", "ranger", "schedulefreeadamw", "schedulefreeradam",
    "schedulefreesgd", "splus",
}  # fmt: skip


@pytest.mark.parametrize("way", [by_policy, by_scaler])
@pytest.mark.parametrize("name", swept(TELLING, CLOSURES | DRAWING))
def test_the_device_leaves_a_step_out(name, way, gpu, request, monkeypatch):
    """With capturable nobody waits for a verdict; parameters, states and counts stay as they are."""
    by_host = name in BY_THE_HOST  # reads then, in tracing too
    found, watched = ([], []) if by_host else request.getfixturevalue("reads")

    def run(**keywords):
        policy = "skip" if way is by_policy else "keep"
        params, opt = make(name, on_nonfinite=policy, **keywords)
        kept = []
        for k in range(10):
            torch.manual_seed(k)
            watched.extend(["yes"] if k > WARMING and keywords else [])
            way(params, opt, k, k in BAD)
            watched.clear()
            kept.append([p.detach().clone() for p in params])
        return params, opt, kept

    params, opt, kept = run(capturable=True)
    assert not found
    assert opt._leaves_out != by_host
    with monkeypatch.context() as c:
        c.setattr(backends, "_open", {})
        _, reference, expected = run()
    for k, (now, then) in enumerate(zip(kept, expected, strict=True)):
        assert k not in BAD or all(map(torch.equal, now, kept[k - 1]))
        for p, q in zip(now, then, strict=True):
            torch.testing.assert_close(p, q, rtol=2e-5, atol=1e-5)
    if way is by_policy:
        assert (opt.skipped_steps, opt.nonfinite) == (reference.skipped_steps, reference.nonfinite)
        assert opt.skipped_steps == len(BAD)
    if opt._bound[0].binding.keeps_step:
        assert all(float(opt.state[p]["step"]) == 10 - len(BAD) for p in params)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_numbers_are_no_alarm_of_the_device(dtype, gpu):
    p, q = (torch.nn.Parameter(torch.ones(3, dtype=dtype)) for _ in range(2))
    opt = weft.SGD([p, q], lr=1e-3, capturable=True, on_nonfinite="skip", engine="fused")
    for k in range(4):
        p.grad = torch.full_like(p, torch.finfo(dtype).max / 2) if k == 3 else torch.ones_like(p)
        q.grad = torch.ones_like(q) if k < 3 else None  # another pattern of grads
        opt.step()
    assert opt._leaves_out
    assert opt.skipped_steps == 0
    q.grad, p.grad = torch.full_like(q, torch.nan), None
    opt.step()
    opt.step()
    assert (opt.skipped_steps, opt.nonfinite) == (2, ("1 of group 0 (3,)",))


def test_capturable_may_be_changed_on_the_way(gpu):
    params, opt = make("adamw", capturable=True)
    others, reference = make("adamw")
    for k in range(6):
        opt.param_groups[0]["capturable"] = k % 3 != 2
        step(params, opt, k)
        step(others, reference, k)
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p.data, q.data, rtol=1e-6, atol=1e-7)
        assert float(opt.state[p]["step"]) == 6


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "prodigy"])
def test_capturable_is_taken_by_every_optimizer(name):
    assert algorithms()[name]([torch.nn.Parameter(torch.ones(2))], capturable=True).step() is None
    chain = weft.chain(weft.callbacks.descend, lr=0.1)
    assert chain([torch.nn.Parameter(torch.ones(2))], capturable=True).param_groups[0]["capturable"]


def test_a_step_that_a_graph_would_repeat_is_refused(monkeypatch):
    backend = emulated()
    monkeypatch.setattr(backends, "_open", {"cpu": backend})
    params, opt = make("adamw")
    step(params, opt, 0)
    backend._device.captures = True
    before = [p.detach().clone() for p in params]
    with pytest.raises(weft.StepError, match="capturable=True"):
        opt.step()
    assert all(map(torch.equal, before, params))
    plain, sgd = make("sgd")  # its numbers are its hypers
    step(plain, sgd, 0)
    params, opt = make("adamw", capturable=True)
    step(params, opt, 0)
    backend._device.captures = False
    step(params, opt, 1)
    assert float(opt.state[params[0]]["step"]) == 2


@pytest.mark.parametrize("name", ["adamw", "lamb", "prodigy", "adafactor", "sm3", "muon"])
def test_another_default_device_changes_nothing(name, gpu):
    """As on a GPU, where the comparison with the eager loop makes the parameter's device the default."""
    params, opt = make(name)
    others, reference = make(name)
    for k in range(4):
        with torch.device("meta"):
            for i, p in enumerate(params):
                gen = torch.Generator("cpu").manual_seed(100 * k + i)
                p.grad = torch.randn(p.shape, generator=gen, device="cpu")
            torch.manual_seed(k)
            opt.step(loss=torch.tensor(1.5 / (k + 1), device="cpu"))
        step(others, reference, k)
    for p, q in zip(params, others, strict=True):
        assert torch.equal(p, q)
