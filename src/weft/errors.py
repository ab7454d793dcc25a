"""What weft raises and what it warns with."""

import difflib
import inspect
import sys
from collections.abc import Iterable, Sequence

__all__ = [
    "ChainError",
    "NoNumber",
    "NonFiniteError",
    "SparseGrads",
    "StateError",
    "StepError",
    "WeftWarning",
    "depth_of_user",
    "did_you_mean",
    "raised",
    "refuse_unknown",
    "slip_of",
]


class ChainError(ValueError):
    """A chain that cannot be built: the message names the callback, the name and the mend."""


class StateError(ValueError):
    """A state dict that does not fit this optimizer; nothing of it has been loaded."""


class StepError(RuntimeError):
    """A step that could not be finished: names the callback, the parameter and what had stepped."""


def raised(where: str, parameter: str, error: BaseException, after: str) -> StepError:
    """The error of a step in which a callback raised: which, for which parameter, how far it came."""
    return StepError(
        f"callback {where} raised {type(error).__name__} for parameter {parameter}: {error}. {after}"
    )


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


class SparseGrads(Exception):
    """Grads that kernels do not take; between engines, never the user's."""


class WeftWarning(UserWarning):
    """Something that works, but not as the user may think: a fallback, a chain that writes nothing."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped `name`, or an empty string.

    >>> did_you_mean("weight_decoy", ["lr", "weight_decay"])
    " (did you mean 'weight_decay'?)"
    """
    known = [k for k in known if k != name]
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6) or [
        k for k in known if min(map(len, (k, name))) and (k.startswith(name) or name.startswith(k))
    ]
    return f" (did you mean {close[0]!r}?)" if close else ""


def slip_of(name: str, known: Iterable[str]) -> str | None:
    """The name that `name` probably misses by a letter or two; None where it says something else.

    >>> slip_of("weight_decy", ["lr", "weight_decay"]), slip_of("Update", ["update"])
    ('weight_decay', 'update')
    >>> slip_of("max_momentum", ["momentum"]), slip_of("norm_2", ["norm"])
    (None, None)
    """
    plain = {k: k.lower().replace("_", "").replace("-", "") for k in known if k != name}
    wanted = name.lower().replace("_", "").replace("-", "")
    for k, v in plain.items():
        if v == wanted or (len(v) > 2 and v[0] == wanted[:1] and sorted(v) == sorted(wanted)):
            return k
    for k in difflib.get_close_matches(name.lower(), [k for k in plain if len(k) > 2], 3, 0.75):
        longer, shorter = sorted((name.lower(), k), key=len, reverse=True)
        adds_a_word = longer.startswith(f"{shorter}_") or longer.endswith(f"_{shorter}")
        if not adds_a_word and _numbered(name) != _numbered(k):
            return k
    return None


def _numbered(name: str) -> str:
    """A name without its digits: what differs only in those is two of a kind."""
    return "".join(c for c in name if not c.isdigit())


def refuse_unknown(cls: type, keywords: Iterable[str], base: type) -> None:
    """Python's own error for an unknown keyword of a constructor, with the name that was meant.

    Args:
        cls: what is made; what takes `**kwargs` hands them to the next constructor.
        keywords: what it was given.
        base: the class whose constructor is not the user's.

    Raises:
        TypeError: names the keyword.
    """
    known: set[str] = set()
    for c in cls.__mro__[: cls.__mro__.index(base)]:
        if "__init__" in vars(c):
            parameters = inspect.signature(c.__init__).parameters
            known |= set(parameters)
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                break
    else:
        return
    for name in keywords:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TypeError(
                f"{cls.__name__}.__init__() got an unexpected keyword argument {name!r}{hint}"
            )


def depth_of_user() -> int:
    """How far up the stack the user's own line is."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in (
        "weft",
        "torch",
    ):
        depth, frame = depth + 1, frame.f_back
    return depth
