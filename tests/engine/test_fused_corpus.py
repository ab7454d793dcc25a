"""Kernels and the eager loop over the corpus: two parameters, nine steps, every hyper moving.

`make sanitize` runs this file under AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import pytest
import torch
from corpus import Chain, all_chains

import weft

STEPS = 9


def seed_of(text: str) -> int:
    """A seed that is the same in every process."""
    return sum(ord(c) * (i + 1) for i, c in enumerate(text))


def run(chain: Chain, engine: str, dtype: torch.dtype = torch.float32, device: str = "cpu"):
    """Parameters, grads and optimizer after nine steps; two parameters of each shape."""
    gen = torch.Generator().manual_seed(seed_of(chain.name))
    shapes = [s for s in chain.shapes for _ in range(2)]
    params = [
        torch.nn.Parameter(
            (torch.randn(s, generator=gen, dtype=torch.float64) * 0.7).to(device, dtype)
        )
        for s in shapes
    ]
    opt = weft.Optimizer(params, chain.elements, engine=engine, **chain.hypers)
    torch.manual_seed(0)
    for k in range(STEPS):
        for name, value in chain.hypers.items():
            opt.param_groups[0][name] = chain.schedule(k, name, value)
        for p in params:
            p.grad = torch.randn(p.shape, generator=gen, dtype=torch.float64).to(device, dtype)
        opt.step(loss=1.5 / (k + 1)) if chain.loss else opt.step()
    return params, opt


def assert_same(chain: Chain, dtype: torch.dtype, tolerance: float):
    fused, opt = run(chain, "fused", dtype)
    eager, reference = run(chain, "eager", dtype)
    assert opt.explain().fallbacks == []
    close = {"rtol": tolerance, "atol": tolerance}
    for p, q in zip(fused, eager, strict=True):
        torch.testing.assert_close(p.data, q.data, **close)
        torch.testing.assert_close(p.grad, q.grad, **close)
        assert set(opt.state[p]) == set(reference.state[q])
        for name, value in opt.state[p].items():
            torch.testing.assert_close(
                torch.as_tensor(value),
                torch.as_tensor(reference.state[q][name]),
                **close,
                check_dtype=False,
            )
    return opt


@pytest.mark.parametrize("chain", all_chains(), ids=lambda c: c.name)
def test_kernels_agree_with_the_eager_loop(chain):
    opt = assert_same(chain, torch.float32, chain.tolerance)
    assert (
        opt.explain().builds <= 2 * chain.traces + 2
    )  # nothing is built again because a value moved


@pytest.mark.slow
@pytest.mark.parametrize("chain", all_chains(), ids=lambda c: c.name)
def test_kernels_agree_with_the_eager_loop_in_double(chain):
    # the eager loop computes with a hyper that is a float32 tensor in float32, kernels in double
    single = any(isinstance(h, torch.Tensor) for h in chain.hypers.values())
    assert_same(chain, torch.float64, 1e-6 if single else 1e-9)
