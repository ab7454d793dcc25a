"""The C of every optimizer's kernels, as it was: a change in the engine that is to change none shows here.

PYTHONPATH=tests python -m engine.test_goldens     writes it anew, where a change was meant
"""

import difflib
import functools
import json
import lzma
import re
import sys
from pathlib import Path

import pytest
import torch

import weft
from weft.optimizers import algorithms

KEPT = Path(__file__).with_name("goldens.json.xz")
SHAPES = ((7,), (4, 6), (3, 4, 2, 2))

pytestmark = pytest.mark.filterwarnings("ignore")


def two_steps(name):
    """An optimizer that has taken two steps, and its parameters."""
    make = algorithms()[name]
    params = []
    for i, shape in enumerate(SHAPES):
        try:
            make([torch.nn.Parameter(torch.ones(shape))])
        except (ValueError, weft.ChainError):
            continue
        gen = torch.Generator().manual_seed(i)
        params.append(torch.nn.Parameter(torch.randn(shape, generator=gen)))
    opt = make(params, engine="fused")

    def closure():
        opt.zero_grad()
        loss = sum(p.square().sum() for p in params)
        loss.backward(create_graph=True)  # some differentiate it again
        return loss.detach()

    for _ in range(2):
        torch.manual_seed(0)
        opt.step(closure)
    return opt, params


def sources(name):
    """The C of two steps, without comments."""
    opt, _ = two_steps(name)
    return re.sub(r"[ \t]*/\*.*?\*/", "", opt.kernel_source(), flags=re.DOTALL)


@functools.cache
def kept():
    return json.loads(lzma.decompress(KEPT.read_bytes()))


@pytest.mark.parametrize("name", sorted(algorithms()))
def test_the_c_is_what_it_was(name):
    assert name in kept(), "a new optimizer: write the file anew"
    now, then = sources(name).splitlines(), kept()[name].splitlines()
    assert now == then, "\n".join(difflib.unified_diff(then, now, "then", "now", lineterm="", n=1))


if __name__ == "__main__":
    anew = {name: sources(name) for name in sys.argv[1:] or sorted(algorithms())}
    text = json.dumps({**kept(), **anew}, indent=0)
    KEPT.write_bytes(lzma.compress(text.encode(), preset=9))
