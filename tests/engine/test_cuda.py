"""The GPU's kernels without a GPU: run on the CPU block after block, and compiled for real by NVRTC."""

import re

import pytest
import torch
from blocks import emulated
from corpus import all_chains
from test_fused_corpus import assert_same
from test_goldens import two_steps

import weft
from weft.engine import backends
from weft.engine.backends.cuda.kernel import header
from weft.engine.backends.cuda.nvrtc import NoCudaCompiler, nvrtc
from weft.optimizers import algorithms

pytestmark = pytest.mark.filterwarnings("ignore")

CHAINS = all_chains()
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


@pytest.fixture
def gpu(monkeypatch):
    """The GPU's backend in the CPU's place, with this many threads a block."""

    def install(threads=1):
        backend = emulated(threads)
        monkeypatch.setattr(backends, "_open", {"cpu": backend})
        return backend

    return install


@pytest.mark.parametrize("chain", CHAINS, ids=lambda c: c.name)
def test_the_corpus_on_blocks_of_one_thread(chain, gpu):
    gpu()
    opt = assert_same(chain, torch.float32, chain.tolerance)
    assert "kernel.cuh" in opt.kernel_source()


@pytest.mark.slow
@pytest.mark.parametrize("chain", CHAINS, ids=lambda c: c.name)
def test_the_corpus_on_blocks_of_several_threads(chain, gpu):
    gpu(threads=4)
    assert_same(chain, torch.float32, chain.tolerance)


def test_explain_tells_the_grid(gpu):
    gpu()
    params = [torch.nn.Parameter(torch.ones(3000)), torch.nn.Parameter(torch.ones(5))]
    for p in params:
        p.grad = torch.ones_like(p)
    opt = weft.Lion(params, engine="fused")
    opt.step()
    (words,) = opt.explain().launches
    assert re.search(r": 2 tensors, \d+ blocks of 256 threads a pass, ", words)
    assert f"{3005 * 20:,} bytes moved" in words  # p, grad and exp_avg in; p and exp_avg out


SHAPES = [(), (0,), (1,), (5,), (1, 5), (5, 1), (0, 3), (300, 7), (3, 4, 1, 1), (9, 5000), (70001,)]
TELLING = ("adamw", "lamb", "adafactor", "sm3", "came", "lion", "adan", "stableadamw", "prodigy")


def stepped(name, engine, dtype=torch.float32, offset=0, split=False, steps=3):
    """Parameters after some steps: of odd shapes, not aligned, transposed, in several groups."""
    params = []
    for i, shape in enumerate(SHAPES):
        gen = torch.Generator().manual_seed(i)
        n = torch.Size(shape).numel()
        memory = torch.randn(n + offset, generator=gen, dtype=torch.float64).to(dtype)[offset:]
        t = memory.view(shape)
        params.append(torch.nn.Parameter(t.t() if split and t.ndim == 2 else t))
    groups = [{"params": params[::2]}, {"params": params[1::2], "lr": 0.03}] if split else params
    opt = algorithms()[name](groups, engine=engine)
    for k in range(steps):
        gen = torch.Generator().manual_seed(100 + k)
        for i, p in enumerate(params):
            if (i + k) % 4:
                p.grad = torch.randn(p.shape, generator=gen, dtype=torch.float64).to(dtype)
            else:
                p.grad = None
        opt.step()
    return params


def assert_like_c(name, gpu, threads=1, **how):
    """The GPU's kernels against the CPU's, which are held to the eager loop elsewhere."""
    expected = stepped(name, "fused", **how)
    gpu(threads)
    dtype = how.get("dtype", torch.float32)
    tolerance = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-9}.get(dtype, 1e-5)
    for p, q in zip(stepped(name, "fused", **how), expected, strict=True):
        torch.testing.assert_close(p.data, q.data, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", TELLING)
@pytest.mark.parametrize("threads", [1, 8])
def test_tails_alignment_strides_and_groups(name, threads, gpu):
    assert_like_c(name, gpu, threads, offset=1, split=True)


@pytest.mark.parametrize("name", ["adamw", "lamb", "adafactor"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("offset", [0, 1])
def test_dtypes(name, dtype, offset, gpu):
    assert_like_c(name, gpu, dtype=dtype, offset=offset)


# ---------------------------------------------------------------- compiled for real


@pytest.fixture(scope="session")
def compiler():
    try:
        return nvrtc()
    except NoCudaCompiler as e:
        pytest.skip(f"{e}: the extra gpu-test brings it")


def spills(said):
    """Of each kernel, how many bytes its registers do not hold."""
    found = re.findall(r"entry function '(\w+)'.*?(\d+) bytes spill stores", said, re.DOTALL)
    return {name: int(bytes) for name, bytes in found}


def assert_compiles(backend, compiler, architectures):
    assert backend._kernels
    for source in backend._kernels:
        whole = source.replace('#include "kernel.cuh"', header())
        for arch in architectures:
            cubin, said = compiler.compile(whole, arch, "-Xptxas=-v")
            assert cubin.startswith(b"\x7fELF")
            pointwise = not re.search("weft_(scalars|block|cell|fold)", source)
            assert not (pointwise and any(spills(said).values()))


@pytest.mark.parametrize("name", TELLING)
def test_nvrtc_compiles_the_telling_ones(name, gpu, compiler):
    backend = gpu()
    stepped(name, "fused", steps=1)
    assert_compiles(backend, compiler, ["sm_90"])


def test_spills_are_found(compiler):
    """In a kernel that holds more than registers do."""
    most = "float x[300]; for (int i = 0; i < 300; i++) x[i] = p[i * 7]; __syncthreads();"
    text = f'extern "C" __global__ void f(float *p) {{ {most} for (int i = 0; i < 300; i++) p[i] = x[299 - i]; }}'
    _, said = compiler.compile(text, "sm_90", "-Xptxas=-v")
    assert spills(said)["f"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("chain", CHAINS, ids=lambda c: c.name)
def test_nvrtc_compiles_the_corpus(chain, gpu, compiler):
    backend = gpu()
    assert_same(chain, torch.float32, chain.tolerance)
    assert_compiles(backend, compiler, ARCHITECTURES)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(algorithms()))
def test_every_optimizer_of_the_registry(name, gpu, compiler, monkeypatch):
    with monkeypatch.context() as c:
        c.setattr(backends, "_open", {})
        _, expected = two_steps(name)
    backend = gpu()
    _, params = two_steps(name)
    for p, q in zip(params, expected, strict=True):
        torch.testing.assert_close(p.data, q.data, rtol=1e-5, atol=1e-6)
    if backend._kernels:
        assert_compiles(backend, compiler, ["sm_90"])
