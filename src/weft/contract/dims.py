"""Whether a callback looks at a parameter's dimensions: at its rows, columns, units, or as a matrix.

A complex parameter is stepped as the pairs of reals that it is. What works entry by entry, and norms
over all, do not care; for what looks at dimensions, a pair would be one more of them.
"""

import dis
from types import CodeType, FunctionType
from typing import Any

from weft.callback import function_of

__all__ = ["looks_at_dims"]

DIMENSIONS = frozenset(
    ("ndim", "shape", "size", "dim", "T", "mT", "t", "transpose", "permute", "unflatten")
)
MATRICES = frozenset(
    ("matmul", "mm", "bmm", "mv", "dot", "einsum", "outer", "ger", "svd", "qr", "eigh", "cholesky")
)


def looks_at_dims(cb: Any) -> bool:
    """Whether the code of a callback, or of a function that it calls, looks at dimensions.

    >>> looks_at_dims(lambda update: {"update": update / update.norm()})
    False
    >>> looks_at_dims(lambda update: {"update": update / update.norm(dim=1, keepdim=True)})
    True
    """
    return (function := function_of(cb)) is not None and _looks(function, set())


def _looks(function: FunctionType, seen: set[CodeType]) -> bool:
    codes = [function.__code__]
    for code in codes:  # it grows
        if code in seen:
            continue
        seen.add(code)
        if (DIMENSIONS | MATRICES) & set(code.co_names) or _by_keyword_or_operator(code):
            return True
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]
        called = [function.__globals__.get(name) for name in code.co_names]
        if any(isinstance(f, FunctionType) and _looks(f, seen) for f in called):
            return True
    return False


def _by_keyword_or_operator(code: CodeType) -> bool:
    keywords = {n for c in code.co_consts if isinstance(c, tuple) for n in c if isinstance(n, str)}
    products = any(
        i.opname.startswith("BINARY") and "@" in i.argrepr for i in dis.get_instructions(code)
    )
    return products or not {"dim", "dims"}.isdisjoint(keywords)
