"""Backends: from a plan to code that runs, one room a kind of device. Only `for_device` knows which."""

from collections.abc import Callable

import torch

from weft.engine.backends.base import Backend

__all__ = ["for_device"]


def _c(device: torch.device) -> Backend:
    from weft.engine.backends.c.backend import C  # what is not asked for is not imported

    return C()


def _cuda(device: torch.device) -> Backend:
    from weft.engine.backends.cuda.backend import Cuda
    from weft.engine.backends.cuda.driver import Driver

    return Cuda(device, Driver(device))


ROOMS: dict[str, Callable[[torch.device], Backend]] = {"cpu": _c, "cuda": _cuda}
_open: dict[str, Backend] = {}


def for_device(device: torch.device) -> Backend | None:
    """The backend that serves a device; None where none does."""
    name = str(device)
    if name not in _open and device.type in ROOMS:
        _open[name] = ROOMS[device.type](device)
    return _open.get(name)
