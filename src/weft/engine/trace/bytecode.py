"""What a callback's bytecode says of it before it runs."""

import dis
import functools
from types import CodeType

__all__ = ["asks_which", "mentions", "names"]


@functools.lru_cache(maxsize=4096)
def mentions(code: CodeType, name: str) -> bool:
    """Whether a function may look up an attribute of this name, itself or in a function within it."""
    within = (c for c in code.co_consts if isinstance(c, CodeType))
    return name in code.co_names or name in code.co_consts or any(mentions(c, name) for c in within)


def names(code: CodeType) -> tuple[frozenset[str], bool]:
    """The global names that code and what is defined in it may use, and whether it stores some."""
    found, stores = set(), False
    for i in dis.get_instructions(code) if code.co_names else ():  # not its attributes' names
        if i.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_BUILD_CLASS"):
            found.add(i.argval or "__build_class__")
        stores = stores or i.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
    for const in code.co_consts:
        if isinstance(const, CodeType):
            more, also = names(const)
            found |= more
            stores |= also
    return frozenset(found), stores


def asks_which(code: CodeType) -> bool:
    """Whether code asks if one object is another, None and such aside."""
    before = None
    for i in dis.get_instructions(code):
        if i.opname == "IS_OP" and not (before and before.opname == "LOAD_CONST"):
            return True
        before = i
    return any(asks_which(c) for c in code.co_consts if isinstance(c, CodeType))
