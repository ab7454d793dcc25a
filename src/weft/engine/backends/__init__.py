"""Backends: from a plan to code that runs, one room a kind of device. Only `for_device` knows which."""

from collections.abc import Callable

import torch

from weft.engine.backends.base import Backend

__all__ = ["for_device"]


def _c() -> Backend:
    from weft.engine.backends.c.backend import C  # what is not asked for is not imported

    return C()


ROOMS: dict[str, Callable[[], Backend]] = {"cpu": _c}
_open: dict[str, Backend] = {}


def for_device(device: torch.device) -> Backend | None:
    """The backend that serves a device; None where none does."""
    kind = device.type
    if kind not in _open and kind in ROOMS:
        _open[kind] = ROOMS[kind]()
    return _open.get(kind)
