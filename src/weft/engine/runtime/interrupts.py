"""Ctrl-C before or after what must not be left half done, never within."""

import threading

# what `signal` wraps in enums, at ten times the price
from _signal import SIGINT, getsignal, signal  # pyright: ignore[reportMissingImports]
from types import FrameType
from typing import Any

__all__ = ["Uninterrupted"]


class Uninterrupted:
    """While it lasts, an interrupt waits; it is raised when the block is through.

    Python handles signals in the main thread only, between two of its instructions: so an interrupt
    could come between two kernels, or between the kernels and the step counts.
    """

    def __enter__(self) -> None:
        self.old: Any = None
        self.came: tuple[int, FrameType | None] | None = None
        if threading.current_thread() is threading.main_thread():
            old = getsignal(SIGINT)
            if callable(old):  # else it is ignored, or ends the process, or is not Python's
                self.old = old
                signal(SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = (number, frame)

    def __exit__(self, *error: object) -> None:
        if self.old is not None:
            signal(SIGINT, self.old)
            if self.came is not None:
                self.old(*self.came)
