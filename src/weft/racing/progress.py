"""How far a race is, and how long it will still take."""

import time
from typing import Any

from weft.learner.extras import need

__all__ = ["Progress", "in_words"]


def in_words(seconds: float) -> str:
    """A length of time, roughly.

    >>> in_words(42), in_words(200), in_words(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Progress:
    """A bar on a terminal, a line for each part elsewhere.

    Args:
        show: True, False, or None for both on a terminal and silence elsewhere.
        stderr: whether stdout is for a machine.
    """

    def __init__(self, show: bool | None, stderr: bool = False):
        self._console = None if show is False else need("rich.console").Console(
            stderr=stderr, highlight=False
        )  # fmt: skip
        terminal = self._console is not None and self._console.is_terminal
        self._lines = bool(show) or terminal
        self._bar: Any = self._make() if terminal else None
        self._began, self._done, self._left = time.monotonic(), 0, 0

    def _make(self) -> Any:
        rich = need("rich.progress")
        columns = rich.TextColumn("{task.description}"), rich.BarColumn(), rich.TaskProgressColumn()
        bar = rich.Progress(*columns, console=self._console, transient=True)
        self._task = bar.add_task("", total=None)
        return bar

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._console is not None and self._lines:
            self._console.print(line, soft_wrap=True, markup=False)

    def part(self, name: str, runs: int, steps: int, later: int, noun: str = "run") -> None:
        """Begin a part.

        Args:
            name: what it is.
            runs: how many it takes.
            noun: what one of those is called.
            steps: in all of those.
            later: how many steps will come after it, about.
        """
        self._name, self._left = name, steps + later
        self.say(f"{name}: {runs} {noun}{'' if runs == 1 else 's'}{self._remaining()}")
        self._show()

    def ran(self, steps: int) -> None:
        """A run of so many steps is over."""
        self._done += steps
        self._left -= steps
        self._show()

    def _remaining(self) -> str:
        if not self._done:
            return ""
        each = (time.monotonic() - self._began) / self._done
        return f", about {in_words(each * max(0, self._left))} left"

    def _show(self) -> None:
        if self._bar is not None:
            words, total = self._name + self._remaining(), self._done + max(0, self._left)
            self._bar.update(self._task, description=words, completed=self._done, total=total)
