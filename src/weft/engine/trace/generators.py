"""Random generators: a chain may draw from one that it brought along; whatever else it does to one
happens while it is traced, and in no step."""

import functools
from types import CodeType, FunctionType
from typing import Any

import torch

from weft.engine.ir.traced import Untraceable

__all__ = ["HANDLERS", "Source", "handling", "refusing", "source_of"]

# what reads or sets the state of a generator, in torch and in its generators
HANDLERS = frozenset(
    ("manual_seed", "manual_seed_all", "fork_rng", "get_rng_state", "set_rng_state", "initial_seed",
     "default_generator", "get_rng_state_all", "set_rng_state_all")
)  # fmt: skip


class Source(torch.Generator):
    """A captured generator as callbacks see it: numbers can be drawn from it, and that is all."""

    generator: torch.Generator

    @staticmethod
    def of(generator: torch.Generator) -> "Source":
        """A stand-in for `generator`."""
        self = Source(generator.device)
        self.generator = generator
        return self

    def __getattribute__(self, name: str) -> Any:
        if name in ("generator", "device") or name.startswith("__"):
            return super().__getattribute__(name)
        raise Untraceable(f"it handles the state of a random generator ({name})")


def source_of(generator: torch.Generator) -> torch.Generator:
    """What a draw is to use in every step.

    Raises:
        Untraceable: for a generator that the callback makes, which would start anew in every step.
    """
    if type(generator) is Source:
        return generator.generator
    if generator is torch.default_generator:
        return generator
    raise Untraceable("it makes a random generator: eagerly each step would start it anew")


@functools.lru_cache(maxsize=4096)
def handling(code: CodeType) -> str:
    """The first name in a function's code that handles the state of a generator, or nothing."""
    names = {*code.co_names, *(c for c in code.co_consts if isinstance(c, str))}
    within = (handling(c) for c in code.co_consts if isinstance(c, CodeType))
    return min(names & HANDLERS, default="") or next(filter(None, within), "")


def refusing(fn: FunctionType, name: str) -> FunctionType:
    """A function in the place of one that handles the state of a generator: it cannot be called."""

    @functools.wraps(fn)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise Untraceable(f"it handles the state of a random generator ({name})")

    return refuse  # type: ignore[return-value]
