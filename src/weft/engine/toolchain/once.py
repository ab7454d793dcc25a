"""What a process makes once, whichever thread asks first."""

import functools
import os
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["once"]

T = TypeVar("T")


def once(make: Callable[[], T]) -> Callable[[], T]:
    """`make`, called by one thread for all; what raises is tried again.

    A forked child has no thread that builds, nor one that would open its lock: it gets a lock of its own.
    """
    made: list[T] = []
    lock = [threading.Lock()]

    @functools.wraps(make)
    def held() -> T:
        if not made:
            with lock[0]:
                if not made:
                    made.append(make())
        return made[0]

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: lock.__setitem__(0, threading.Lock()))
    return held
