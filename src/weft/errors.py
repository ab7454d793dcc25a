"""What weft raises and what it warns with."""

import difflib
import sys
from collections.abc import Iterable, Sequence

__all__ = [
    "ChainError",
    "NoNumber",
    "NonFiniteError",
    "StateError",
    "StepError",
    "WeftWarning",
    "depth_of_user",
    "did_you_mean",
]


class ChainError(ValueError):
    """A chain that cannot be built: the message names the callback, the name and the mend."""


class StateError(ValueError):
    """A state dict that does not fit this optimizer; nothing of it has been loaded."""


class StepError(RuntimeError):
    """A step that could not be finished: names the callback, the parameter and what had stepped."""


class NonFiniteError(StepError):
    """A step that was refused, before it wrote anything, because grads have infinities or NaNs.

    Attributes:
        parameters: all of them, in words: their names where the optimizer was given names.
    """

    def __init__(self, message: str, parameters: Sequence[str] = ()):
        super().__init__(message, tuple(parameters))
        self.parameters = tuple(parameters)

    def __str__(self) -> str:
        return self.args[0]


class NoNumber(Exception):
    """Arithmetic on hypers that fails for the values of now; between engines, never the user's."""


class WeftWarning(UserWarning):
    """Something that works, but not as the user may think: a fallback, a chain that writes nothing."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped `name`, or an empty string.

    >>> did_you_mean("weight_decoy", ["lr", "weight_decay"])
    " (did you mean 'weight_decay'?)"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def depth_of_user() -> int:
    """How far up the stack the user's own line is."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in (
        "weft",
        "torch",
    ):
        depth, frame = depth + 1, frame.f_back
    return depth
