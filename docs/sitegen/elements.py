"""The elements of a chain: their names, the Python that makes them, their source."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import weft
from weft import callbacks
from weft.callback import OverParams, Renamed
from weft.chain import Chain, name_of
from weft.contract.declare import State
from weft.optimizers import algorithms
from weft.wrapper import Wrapper

__all__ = ["block_users", "by_module", "chain_code", "inner", "is_public", "source"]


def inner(element: Any) -> Any:
    """The function or the wrapper within a rename, a partial or a value over parameters."""
    while not inspect.isfunction(element) and not isinstance(element, Wrapper):
        element = element.cb if isinstance(element, Renamed) else getattr(element, "func", element)
        if isinstance(element, OverParams):
            element = element.fn
    return element


def is_public(block: Any) -> bool:
    """Whether it is `weft.callbacks`'s, under its own name."""
    return getattr(callbacks, name_of(block), None) is block


def by_module() -> dict[str, list[str]]:
    """The public blocks by the file that they live in."""
    found: dict[str, list[str]] = {}
    for name in vars(callbacks)["__all__"]:
        block = getattr(callbacks, name)
        if callable(block):
            found.setdefault(block.__module__.rpartition(".")[2], []).append(name)
    return dict(sorted(found.items()))


@functools.cache
def block_users() -> dict[str, list[str]]:
    """Block -> the optimizers whose default chain has it, under any names."""
    users: dict[str, list[str]] = {}
    for cls in algorithms().values():
        for element in cls.chain():
            users.setdefault(name_of(inner(element)), []).append(cls.__name__)
    return {k: sorted(set(v)) for k, v in users.items()}


# ---------------------------------------------------------------- as Python


def chain_code(name: str, chain: Chain) -> str:
    """A chain as a program that makes it, under `name`."""
    made = [code(e) for e in chain]
    hypers = [f"{n}={value(v)}" for n, v in chain.defaults.items()]
    imports = set(needed(chain))
    body = ",\n    ".join([*made, *textwrap.wrap(", ".join(hypers), 72, break_on_hyphens=False)])
    body = body.replace(",,", ",")
    return "\n".join(
        [
            *(line + "\n" for line in imports if line.startswith("from functools")),
            "import weft",
            "from weft import callbacks as cb",
            *sorted(line for line in imports if not line.startswith("from functools")),
            "",
            f"{name} = weft.chain(",
            f"    {body},",
            ")",
        ]
    )


def code(element: Any) -> str:
    """The expression that makes an element."""
    if isinstance(element, Wrapper):
        public = hasattr(weft, type(element).__name__)
        return f"{'weft.' if public else ''}{element!r}"
    if isinstance(element, Renamed):
        names = ", ".join(f"{old}={new!r}" for old, new in element.names.items())
        return f"weft.rename({code(element.cb)}, {names})" if names else code(element.cb)
    if isinstance(element, OverParams):
        fn = code(element.fn)
        return (
            f"weft.over_params({element.name!r}, {fn}, op={element.op!r}, scope={element.scope!r})"
        )
    if isinstance(element, functools.partial):
        values = ", ".join(f"{n}={value(v)}" for n, v in element.keywords.items())
        return f"partial({code(element.func)}, {values})"
    return f"cb.{name_of(element)}" if is_public(element) else name_of(element)


def value(given: Any) -> str:
    """The expression of what a partial gives: a number, or a declared state."""
    if isinstance(given, State):
        return f"weft.{given.name}" if given.name else f"weft.state({given.init.__name__})"
    return f'float("{given}")' if isinstance(given, float) and given in (inf, -inf) else repr(given)


def needed(elements: Any) -> Iterator[str]:
    """The imports of what has no public name."""
    for element in elements:
        block = inner(element)
        element = element.cb if isinstance(element, Renamed) else element
        if isinstance(element, functools.partial):
            yield "from functools import partial"
            for given in element.keywords.values():
                if isinstance(given, State) and not given.name:
                    yield f"from {given.init.__module__} import {given.init.__name__}"
        if isinstance(block, Wrapper):
            cls = type(block)
            if not hasattr(weft, cls.__name__):
                yield f"from {cls.__module__} import {cls.__name__}"
        elif not is_public(block):
            yield f"from {block.__module__} import {block.__name__}"


def source(block: Callable) -> str:
    """The source of a block without its docstring, which its page typesets."""
    text = textwrap.dedent(inspect.getsource(block))
    node = ast.parse(text).body[0]
    lines = text.splitlines()
    first = getattr(node, "body", [None])[0]
    if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)
