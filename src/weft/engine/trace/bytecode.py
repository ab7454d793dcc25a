"""What a callback's bytecode says of it before it runs."""

import dis
import functools
from types import CodeType

__all__ = ["asks_which", "mentioned", "names"]


@functools.lru_cache(maxsize=4096)
def mentioned(code: CodeType) -> set[str]:
    """The attributes that a function may look up, itself or in a function within it, and more words."""
    found = {*code.co_names, *(c for c in code.co_consts if isinstance(c, str))}
    return found.union(*(mentioned(c) for c in code.co_consts if isinstance(c, CodeType)))


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
