"""Every optimizer that `weft list --shards` names, as long as the issue of sums that drift takes to show."""

import os
import traceback

import torch
from placed import made, same

import weft

NAMES = "WEFT_TEST_NAMES"  # told by the test: finding them takes as long as running some
MATRICES = [(12, 10), (7, 6)]  # of more dims than the ranks that some project to


def takes(name, shape):
    """Whether an optimizer is for parameters of this shape."""
    try:
        weft.create(name, [torch.nn.Parameter(torch.zeros(shape))])
    except weft.ChainError:
        return False
    return True


def works_on_matrices(name):
    """Whether torch computes something from whole matrices: products, decompositions."""
    opt = weft.create(name, [torch.nn.Parameter(torch.ones(4, 3))])
    return any(words.startswith("torch (") for words in opt.explain().phases)


def every_optimizer(rank, world):
    wrong = []
    for name in os.environ[NAMES].split(","):
        shapes = MATRICES + [(5,)] * takes(name, (5,))
        steps, tolerance = (12, 1e-5) if works_on_matrices(name) else (50, 1e-6)
        try:
            same(
                world, made(name), steps, tolerance, shapes, loss=1.0, reference="fused", few=True
            )  # fmt: skip
        except Exception:  # of all ranks: they compare the same whole tensors
            wrong.append(f"{name}: {traceback.format_exc(limit=-2)}")
    assert not wrong, "\n".join(wrong)


CASES = {"every_optimizer": every_optimizer}
