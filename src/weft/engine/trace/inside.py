"""torch's own Python functions, run line by line: what is composed of known ones needs no handler."""

import functools
import sys
from types import FunctionType, SimpleNamespace
from typing import Any

import torch

__all__ = ["is_composed", "opened"]

ASKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def _nobody(*args: Any) -> bool:
    """Whether somebody overrides a function: then it would only call the override."""
    return False


class _Torch:
    """torch as its functions see it here."""

    overrides = SimpleNamespace(**dict.fromkeys(ASKS, _nobody))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def is_composed(func: Any) -> bool:
    """Whether a function is torch's, and written in Python."""
    return isinstance(func, FunctionType) and func.__module__.partition(".")[0] == "torch"


@functools.cache
def opened(func: FunctionType) -> FunctionType:
    """The function without the question whether its arguments override it."""
    scope = {**func.__globals__, **dict.fromkeys(ASKS, _nobody)}
    if scope.get("torch") is sys.modules["torch"]:
        scope["torch"] = _Torch()
    made = FunctionType(func.__code__, scope, func.__name__, func.__defaults__, func.__closure__)
    made.__kwdefaults__ = func.__kwdefaults__
    return made
