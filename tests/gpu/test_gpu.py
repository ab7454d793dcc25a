"""Kernels on a GPU, held to the eager loop there and to the CPU's kernels."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from corpus import all_chains
from test_cuda_waits import CLOSURES, DECOMPOSE, DRAWING
from test_fused_corpus import run

import weft
from weft.optimizers import algorithms

pytestmark = pytest.mark.filterwarnings("ignore")

GPU = torch.device("cuda", 0)
SHAPES = [(), (1,), (5,), (1, 5), (300, 7), (3, 4, 1, 1), (9, 5000), (70001,)]
TELLING = (
    "adamw",
    "sgd",
    "lamb",
    "lion",
    "adafactor",
    "sm3",
    "prodigy",
    "schedulefreeadamw",
    "radam",
)
DRAWS = {"apollo", "apollomini", "dion", "gravity", "psgdkron"}  # another generator, other numbers


@pytest.mark.parametrize("chain", all_chains(), ids=lambda c: c.name)
def test_kernels_agree_with_the_eager_loop(chain):
    fused, opt = run(chain, "fused", device="cuda")
    eager, _ = run(chain, "eager", device="cuda")
    assert opt.explain().fallbacks == []
    tolerance = max(chain.tolerance, 1e-5)
    for p, q in zip(fused, eager, strict=True):
        torch.testing.assert_close(p.data, q.data, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(p.grad, q.grad, rtol=tolerance, atol=tolerance)


SMALL = [(), (1,), (5,), (1, 5), (60, 7), (3, 4, 1, 1), (9, 50), (701,)]  # decompositions are slow


def made(name, device, dtype=torch.float32, shapes=SHAPES, **keywords):
    params = []
    for i, shape in enumerate(shapes):
        start = torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        params.append(torch.nn.Parameter(start.to(device, dtype)))
    for kept in (params, [p for p in params if p.ndim == 2]):
        try:
            return kept, algorithms()[name](kept, engine="fused", **keywords)
        except weft.ChainError:  # of matrices alone
            continue
    raise AssertionError(name)


def give_grads(params, k):
    for i, p in enumerate(params):
        gen = torch.Generator().manual_seed(1000 * k + i)
        grad = torch.randn(p.shape, generator=gen, dtype=torch.float64).to(p.device, p.dtype)
        if p.grad is None:
            p.grad = grad
        else:
            p.grad.copy_(grad)


@pytest.mark.parametrize("name", sorted(set(algorithms()) - DRAWS - CLOSURES))
def test_the_gpu_agrees_with_the_cpu(name):
    both = []
    for device in (GPU, torch.device("cpu")):
        params, opt = made(name, device, torch.float64, SMALL)
        for k in range(6):
            give_grads(params, k)
            opt.step(loss=torch.tensor(1.5 / (k + 1), device=device))
        both.append(params)
    for p, q in zip(*both, strict=True):
        torch.testing.assert_close(p.data.cpu(), q.data, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", TELLING)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_dtypes_layouts_and_missing_grads(name, dtype):
    """Some transposed, some without a grad in some steps, states in float32."""
    both = []
    for device in (GPU, torch.device("cpu")):
        params = []
        for i, shape in enumerate([(7,), (4, 6), (300, 7), (9, 500)]):
            gen = torch.Generator().manual_seed(i)
            start = torch.randn(shape, generator=gen, dtype=torch.float64).to(device, dtype)
            params.append(torch.nn.Parameter(start.t() if i % 2 else start))
        opt = algorithms()[name](params, engine="fused", state_dtype=torch.float32)
        for k in range(6):
            give_grads(params, k)
            for i, p in enumerate(params):
                p.grad = None if (i + k) % 4 == 3 else p.grad
            opt.step()
        both.append([p.detach().cpu() for p in params])
    tolerance = {torch.bfloat16: 2e-2, torch.float16: 4e-3}.get(dtype, 1e-5)
    for p, q in zip(*both, strict=True):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", sorted(set(algorithms()) - DECOMPOSE - CLOSURES))
def test_a_step_waits_for_nothing(name):
    """Numbers and grads are others each time, and a loss is given."""
    params, opt = made(name, GPU, shapes=SMALL)
    losses = [torch.tensor(1.5 / (k + 1), device=GPU) for k in range(12)]
    for k, loss in enumerate(losses):
        give_grads(params, k)
        if k >= 8:
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
        try:
            opt.step(loss=loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        opt.param_groups[0]["lr"] = 0.01 / (k + 1)


def test_what_waits_is_an_error_then():
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
            torch.ones(1, device=GPU).item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def replays(name, steps, shapes=SHAPES):
    """A step in a graph, against steps that are taken one by one; lr is another in each."""
    takes_lr = "lr" in algorithms()[name].keywords()
    keywords = {"growth_rate": 1.003} if name == "prodigy" else {}  # else it grows beyond numbers
    tensor = {"lr": torch.tensor(0.01, device=GPU)} if takes_lr else {}
    params, opt = made(name, GPU, shapes=shapes, capturable=True, **tensor, **keywords)
    others, reference = made(
        name, GPU, shapes=shapes, **({"lr": 0.01} if takes_lr else {}), **keywords
    )
    loss = torch.ones((), device=GPU)
    side = torch.cuda.Stream()
    for k in range(9):
        give_grads(params, k)
        give_grads(others, k)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            opt.step(loss=loss)
        torch.cuda.current_stream().wait_stream(side)
        reference.step(loss=loss)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        opt.step(loss=loss)
    for k in range(steps):
        if takes_lr:
            tensor["lr"].fill_(0.01 / (1 + k))
            reference.param_groups[0]["lr"] = 0.01 / (1 + k)
        give_grads(params, k % 5)
        give_grads(others, k % 5)
        loss.fill_(1.5 / (1 + k))
        graph.replay()
        reference.step(loss=loss)
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p.data, q.data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TELLING)
def test_a_captured_step_is_replayed(name):
    replays(name, 1000)


COUNT = {"ranger"}  # wrappers that keep numbers on the host
IN_SOME_STEPS = {"conda", "fira", "galoreadamw", "splus"}  # they decompose then
RECORDED = set(algorithms()) - DECOMPOSE - CLOSURES - DRAWING - COUNT - IN_SOME_STEPS


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_every_step_that_waits_for_nothing_is_replayed(name):
    replays(name, 12, SMALL)


def test_a_captured_step_is_left_out_by_the_gpu():
    params, opt = made("adamw", GPU, capturable=True, on_nonfinite="skip")
    others, reference = made("adamw", GPU, on_nonfinite="skip")
    for k in range(3):
        for ps, o in ((params, opt), (others, reference)):
            give_grads(ps, k)
            o.step()
    graph = torch.cuda.CUDAGraph()
    held = [p.grad for p in params]
    with torch.cuda.graph(graph):
        opt.step()
    for k in range(3, 12):
        give_grads(others, k)
        if k % 3 == 0:
            others[-1].grad.view(-1)[0] = torch.nan
        for g, q in zip(held, others, strict=True):
            g.copy_(q.grad)
        graph.replay()
        reference.step()
    assert opt.skipped_steps == reference.skipped_steps == 3
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p.data, q.data, rtol=1e-6, atol=1e-6)


def test_a_step_that_cannot_be_captured_says_so():
    params, opt = made("adamw", GPU)
    give_grads(params, 0)
    opt.step()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(weft.StepError, match="capturable=True"), torch.cuda.graph(graph):
        opt.step()


@pytest.mark.parametrize("name", sorted(COUNT))
def test_a_wrapper_that_counts_is_not_captured(name):
    params, opt = made(name, GPU, capturable=True)
    for k in range(3):
        give_grads(params, k)
        opt.step()
    graph = torch.cuda.CUDAGraph()
    with (
        pytest.raises(weft.StepError, match="Lookahead keeps on the host"),
        torch.cuda.graph(graph),
    ):
        opt.step()


def test_other_streams_and_other_devices():
    params, opt = made("adamw", GPU)
    beside = [torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(7))]
    opt.add_param_group({"params": beside})
    others, reference = made("adamw", GPU)
    stream = torch.cuda.Stream()
    for k in range(20):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            give_grads([*params, *beside], k)
            opt.step()
        torch.cuda.current_stream().wait_stream(stream)
        give_grads(others, k)
        reference.step()
    for p, q in zip(params, others, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_a_step_in_a_thread_that_has_done_nothing_else(name):
    params, opt = made(name, GPU)
    others, reference = made(name, GPU)
    for k in range(6):
        give_grads(params, k)
        give_grads(others, k)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(opt.step).result()
        reference.step()
    for p, q in zip(params, others, strict=True):
        assert torch.equal(p, q)


def test_the_same_bits_whatever_steps_along():
    params, opt = made("lamb", GPU)
    alone = torch.nn.Parameter(params[-2].detach().clone())
    single = weft.LAMB([alone], engine="fused")
    for k in range(5):
        give_grads(params, k)
        alone.grad = params[-2].grad.clone()
        opt.step()
        single.step()
    assert torch.equal(alone, params[-2])


def test_cubins_are_found_by_the_next_process(tmp_path):
    text = (
        "import torch, weft; p = torch.nn.Parameter(torch.ones(9, device='cuda')); p.grad = p + 0;"
        "o = weft.AdamW([p], engine='fused'); o.step();"
        "print([e.kernel.entry.built for e in o._engine.fused.cache.programs.values()])"
    )
    env = {**os.environ, "WEFT_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", text], env=env, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert [s.stdout.strip() for s in said] == ["[True]", "[False]"]
