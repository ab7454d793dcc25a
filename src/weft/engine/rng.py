"""The generators of Python and NumPy: what the engine runs besides the step leaves them as they were."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["reseed", "undrawn"]

OTHER = 0x5EED  # far from what a user's own seed has led to


def _modules() -> tuple[Any, Any]:
    """`random` and `numpy.random`, where something has imported them."""
    return sys.modules.get("random"), sys.modules.get("numpy.random")


@contextmanager
def undrawn() -> Iterator[None]:
    """Whatever is drawn within is drawn again after it."""
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
