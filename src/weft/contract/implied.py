"""What a chain implies beside its callbacks: values over all parameters, a group's count, states."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from weft.callback import BUILTIN, OverParams, Shared, Spec, State, read
from weft.errors import ChainError

__all__ = ["GROUP_STEP", "decides", "declared_states", "mentions_step", "with_count", "with_values"]

GROUP_STEP = "group_step"  # a shared value like any other: a group's own count of steps


def count_steps(group_step: Any = Shared(0)):  # noqa: B008
    """How many steps the group has taken, whichever of its parameters took part."""
    return {"group_step": group_step + 1}


def with_values(elements: Sequence[Any]) -> list[tuple[Any, Spec]]:
    """Elements as they are read; before each the values over all that its defaults declare, once."""
    out: list[tuple[Any, Spec]] = []
    by: dict[str, OverParams] = {}
    for e in elements:
        spec = None if isinstance(e, OverParams) else read(e)
        declared = {e.name: e} if spec is None else spec.over
        for name, over in declared.items():
            value = replace(over, name=name)
            if by.setdefault(name, value) != value:
                raise ChainError(
                    f"{name!r} is combined over all parameters in two ways, {by[name]} and {value}: "
                    f'rename one of its readers, weft.rename(cb, {name}="{name}_2")'
                )
            if not any(value == other for other, _ in out if isinstance(other, OverParams)):
                out.append((value, read(value.fn, value=True)))
        if spec is not None:
            out.append((e, spec))
    return out


def with_count(elements: list[tuple[Any, Spec]]) -> list[tuple[Any, Spec]]:
    """The group's count of steps first, where a shared value follows from the step."""
    specs = [s for e, s in elements if not isinstance(e, OverParams)]
    states, made, shared = declared_states(specs)
    own = "step" in states or "step" in made
    by_step = any(mentions_step(s) and decides(s, shared) for s in specs)
    return [(count_steps, read(count_steps)), *elements] if by_step and not own else elements


def decides(s: Spec, shared: Iterable[str]) -> bool:
    """Whether a callback decides a value that its group shares."""
    return bool(s.returns.intersection(shared)) or (s.opaque and bool(s.shared))


def mentions_step(s: Spec) -> bool:
    return "step" in s.args.values() or "step" in s.mentions


def declared_states(specs: list[Spec]) -> tuple[dict[str, State], set[str], dict[str, Shared]]:
    """The declared states, the names that callbacks return besides, and the shared values."""
    states: dict[str, State] = {}
    shared: dict[str, Shared] = {}
    by: dict[str, Spec] = {}
    made: set[str] = set()
    for s in specs:
        # an optional read that is returned is state that the callback makes itself
        own = [n for n in s.optional if n in s.returns and n not in ("p", "grad", "update")]
        for name in (*s.states, *s.shared, *own):
            if name in by:
                raise ChainError(
                    f"state {name!r} is declared by {by[name].where} and by {s.where}. To share it, "
                    f"let one of them require it without a default; to keep two, rename one: "
                    f'weft.rename({s.name}, {name}="{name}_2")'
                )
            if name in BUILTIN and name != "step":
                raise ChainError(f"{s.where}: {name!r} is not a name for state")
            by[name] = s
        states.update(s.states)
        shared.update(s.shared)
        made |= {n for n in s.returns if n not in ("p", "grad", "update")}
    return states, made - set(shared), shared
