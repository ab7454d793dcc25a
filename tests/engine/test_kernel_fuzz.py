"""Random programs of views, aliases and writes as kernels: of the CPU, and of a GPU on blocks of threads."""

from collections import Counter

import pytest
import torch
from blocks import emulated
from hypothesis import given, settings
from test_cuda import ARCHITECTURES, compiler  # noqa: F401, a fixture
from test_trace_fuzz import callbacks, case, laid_out, quiet

import weft
from weft.engine import backends
from weft.engine.backends.cuda.kernel import header

pytestmark = pytest.mark.filterwarnings("ignore")

WHERE = {"c": None, "blocks of one thread": 1, "blocks of four threads": 4}


def stepped(engine, shape, first, second, picks, layout):
    """The parameter and its states after three steps, in float64 so that rounding decides nothing."""
    torch.manual_seed(7)
    start = torch.randn(shape, dtype=torch.float64)
    p = torch.nn.Parameter(laid_out(start, layout % 3))
    chain = callbacks(tuple(first), tuple(second), tuple(picks))
    opt = weft.Optimizer([p], chain, engine=engine, lr=0.1)
    for k in range(3):
        opt.param_groups[0]["lr"] = 0.1 + 0.05 * k
        p.grad = laid_out(torch.randn(shape, dtype=torch.float64), layout // 3)
        opt.step()
    values = [p.detach(), *(opt.state[p][n] for n in sorted(opt.state[p]))]
    return opt, [v for v in values if isinstance(v, torch.Tensor)]


def compared(program) -> str:
    """ "equal", "eager" where there is no kernel for it, "raises" where both engines do."""
    try:
        _, expected = stepped("eager", **program)
    except (weft.StepError, RuntimeError):
        return "raises"
    opt, found = stepped("auto", **program)
    if opt.explain().fallbacks:
        return "eager"
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6, equal_nan=True)
    return "equal"


def fuzzed(monkeypatch, where, examples, each=lambda: None):
    """Run so many programs; most of those that can are to have run as kernels."""
    seen = Counter()
    if WHERE[where] is not None:
        monkeypatch.setattr(backends, "_open", {"cpu": emulated(WHERE[where])})

    @settings(max_examples=examples, **quiet)
    @given(**case)
    def run(**program):
        seen[compared(program)] += 1
        each()

    run()
    assert seen["equal"] > examples / 4, seen


@pytest.mark.parametrize("where", WHERE)
def test_random_programs_as_kernels(where, monkeypatch):
    fuzzed(monkeypatch, where, 25)


@pytest.mark.slow
@pytest.mark.parametrize("where", WHERE)
def test_many_random_programs_as_kernels(where, monkeypatch):
    fuzzed(monkeypatch, where, 500)


@pytest.mark.slow
def test_nvrtc_compiles_random_programs(monkeypatch, compiler):  # noqa: F811
    def compile_all():
        for source in backends._open["cpu"]._kernels:
            whole = source.replace('#include "kernel.cuh"', header())
            for arch in ARCHITECTURES:
                assert compiler.compile(whole, arch)[0].startswith(b"\x7fELF")
        backends._open["cpu"]._kernels.clear()

    fuzzed(monkeypatch, "blocks of one thread", 60, compile_all)
