"""What a step does once, and which callback does it: two of a kind in a chain would do it twice.

A callback says its roles with `weft.mark(role=...)`: then it is nothing besides, and a modifier that has
all of them takes its place. Of others they are read from what they read and return: those stand.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from weft.callback import OverParams, Spec, attribute, read
from weft.errors import ChainError
from weft.wrapper import Wrapper

__all__ = ["DECAYS", "check_roles", "check_wrappers", "merge_wrappers", "superseded"]

DECAYS = ("weight_decay", "wd")
WRITTEN = {"p", "grad", "update"}


def _said(spec: Spec) -> frozenset[str]:
    """The roles that a callback was marked with, as far as its names are still those of a chain."""
    said = attribute(spec.fn, "role") or ()
    roles = set(said)
    names = {*spec.args.values(), *spec.returns}
    if not names.intersection(DECAYS):  # renamed: another decay, with a hyper of its own
        roles.discard("decay")
    if not spec.var_kw and not names & WRITTEN - {"p"}:
        roles &= {"decay"}  # renamed: it works on another update
    return frozenset(roles)


def _roles(spec: Spec) -> frozenset[str]:
    """The roles that a callback was marked with, or those that its names tell."""
    said = _said(spec)
    if said or attribute(spec.fn, "role"):
        return said
    reads, roles = set(spec.args.values()), set()
    if reads.intersection(DECAYS) and (
        spec.returns & WRITTEN or (not spec.returns and spec.works_in_place)
    ):
        roles.add("decay")
    if spec.place == "descend" and "p" in spec.returns and reads & {"update", "grad"}:
        roles |= {"descend", "rate"} if "lr" in reads else {"descend"}
    return frozenset(roles)


def _spec(element: Any) -> Spec | None:
    return None if isinstance(element, Wrapper | OverParams) else read(element)


def _again(a: Any, b: Any) -> bool:
    """Whether `b` does what `a` does once more: the same function under the same names, without state."""
    if isinstance(a, Wrapper) or isinstance(b, Wrapper):
        return type(a) is type(b) and _alike(a, b)
    one, other = _spec(a), _spec(b)
    if one is None or other is None or attribute(one.fn, "role") == ():
        return False
    return (
        _unbound(one.fn) == _unbound(other.fn)
        and (one.args, one.returns) == (other.args, other.returns)
        and one.returns <= WRITTEN  # what has state is refused, since both declare it
    )


def _unbound(cb: Any) -> Any:
    """The callback without the values that partials bind."""
    while isinstance(cb, functools.partial):
        cb = cb.func
    return cb


def superseded(elements: Sequence[Any], modifier: Any) -> list[int]:
    """The places in a chain of what `modifier` does instead."""
    spec = _spec(modifier)
    roles = _roles(spec) if spec else frozenset()
    found = []
    for i, e in enumerate(elements):
        other = _spec(e)
        theirs = _said(other) if other else frozenset()
        if _again(e, modifier) or (theirs & roles and theirs <= roles):
            found.append(i)
    return found


def check_roles(specs: Iterable[Spec]) -> None:
    """Refuse a chain in which two callbacks do what a step does once.

    Raises:
        ChainError: names both; where neither says its role, they are the user's own, and stand.
    """
    by: dict[str, Spec] = {}
    for spec in specs:
        for role in sorted(_roles(spec)):
            first = by.setdefault(role, spec)
            if first is not spec and (_said(first) or _said(spec)):
                raise ChainError(
                    f"{first.where} and {spec.where} have one role in this chain, {role!r}, which would "
                    "be done twice: leave one out, or write a callback that does both"
                    f"{_apart(role, spec)}; see docs/limits.md#two-of-a-kind"
                )


def _apart(role: str, spec: Spec) -> str:
    if role != "decay":
        return ""
    name = next(n for n in DECAYS if n in spec.args.values())
    return (
        "; to have two decays on purpose give one a hyper of its own, "
        f'weft.rename({spec.name}, {name}="{spec.name}_2")'
    )


def _alike(a: Wrapper, b: Wrapper) -> bool:
    """Whether two wrappers would keep numbers under the same names, or do the same around a step."""
    keeps = bool(a.options or a.numbers)
    return (keeps and a.prefix == b.prefix) or (a.role != "" and a.role == b.role)


def check_wrappers(wrappers: Sequence[Wrapper]) -> None:
    """Refuse two of a kind.

    Raises:
        ChainError: names both.
    """
    for i, w in enumerate(wrappers):
        for other in wrappers[:i]:
            if _alike(w, other):
                raise ChainError(
                    f"{type(other).__name__} and {type(w).__name__} around one step both have "
                    f"{w.role or 'numbers under the same names'}: leave one out; see "
                    "docs/limits.md#two-of-a-kind"
                )


def merge_wrappers(held: Sequence[Wrapper], more: Sequence[Wrapper]) -> list[Wrapper]:
    """Those around the step, and those of another group's chain: what both have alike is there once.

    Raises:
        ChainError: where two are of a kind.
    """
    check_wrappers(more)

    def known(w: Wrapper) -> bool:
        return any(type(w) is type(h) and w.options == h.options and _alike(w, h) for h in held)

    out = [*held, *(w for w in more if not known(w))]
    check_wrappers(out)
    return out
