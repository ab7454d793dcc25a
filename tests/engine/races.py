"""The GPU's kernels on blocks of threads, under ThreadSanitizer: `make sanitize-blocks`.

A barrier that is missing is a race here too. Names of optimizers; without any, those whose kernels reduce
in each of the ways that there are.
"""

import sys
import warnings

import torch
from blocks import emulated

import weft
from weft.engine import backends
from weft.optimizers import algorithms

TELLING = ("adamw", "lamb", "adafactor", "sm3", "came", "lion", "stableadamw", "prodigy", "adammini",
           "normuon", "racs", "apollomini")  # fmt: skip
SHAPES = ((300, 7), (9, 500), (7001,), (5,), (3, 4, 5, 6))


def made(name):
    """An optimizer over parameters that it takes, and those."""
    for shapes in (SHAPES, SHAPES[:2]):
        params = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
        try:
            return params, algorithms()[name](params)
        except weft.ChainError:  # of matrices alone
            continue
    raise AssertionError(name)


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in sys.argv[1:] or TELLING:
        backends._open.clear()
        backends._open["cpu"] = emulated(threads=8)
        params, opt = made(name)
        for _ in range(3):
            for p in params:
                p.grad = torch.randn_like(p)
            opt.step(loss=torch.ones(()))
        print(name, flush=True)


if __name__ == "__main__":
    main()
