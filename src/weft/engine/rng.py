"""Random generators: what the engine runs besides the step leaves them as they were."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

__all__ = ["forked", "reseed", "undrawn"]

OTHER = 0x5EED  # far from what a user's own seed has led to


def _modules() -> tuple[Any, Any]:
    """`random` and `numpy.random`, where something has imported them."""
    return sys.modules.get("random"), sys.modules.get("numpy.random")


def forked(device: torch.device) -> AbstractContextManager[None]:
    """Whatever torch draws within, on the CPU or this device, is drawn again after it."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def undrawn() -> Iterator[None]:
    """Whatever Python and NumPy draw within is drawn again after it."""
    python, numpy = _modules()
    ours = python and python.getstate()
    theirs = numpy and numpy.get_state(legacy=False)
    try:
        yield
    finally:
        if python:
            python.setstate(ours)
        if numpy:
            numpy.set_state(theirs)


def reseed() -> None:
    """Other draws than the user's; within `undrawn`."""
    for module in _modules():
        if module:
            module.seed(OTHER)
