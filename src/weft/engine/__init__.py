"""What runs a bound chain: the eager loop, and the kernels that are held to it."""

from collections.abc import MutableMapping
from typing import Any

from weft.engine import eager
from weft.engine.explain import Explanation, explain
from weft.groups import BoundGroup

__all__ = ["Engine", "Explanation", "engine_named"]

NAMES = ("auto", "fused", "eager")


class Engine:
    """Runs the steps of one optimizer."""

    def __init__(self, name: str):
        self.name = name

    def step(self, groups: list[BoundGroup], state: MutableMapping, loss: Any) -> None:
        """One step of every parameter that has a grad; state is made first where it is missing."""
        eager.init_state(groups, state)
        eager.step(groups, state, loss)

    def explain(self, groups: list[BoundGroup], state: MutableMapping) -> Explanation:
        """The plan in words."""
        return explain(groups, state)

    def kernel_source(self, groups: list[BoundGroup], state: MutableMapping) -> str:
        """The generated code."""
        return ""


def engine_named(name: str) -> Engine:
    """The engine called "auto", "fused" or "eager".

    Raises:
        ValueError: for another name.
    """
    if name not in NAMES:
        raise ValueError(f"engine must be one of {NAMES}, not {name!r}")
    return Engine(name)
