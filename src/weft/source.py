"""What a callback's source says that it returns.

Whether a default is a hyper or a state depends on whether the callback returns that name. That is
read from the literal `return {...}` or `dict(...)` of its source; nothing is called to find out.
"""

import ast
import dis
import functools
import linecache
import threading
from types import CodeType, FunctionType, ModuleType
from typing import NamedTuple

# Python 3.11 counts the depth of all threads' parsing together, and then finds it wrong
_one_at_a_time = threading.Lock()

__all__ = ["Returned", "constants", "lengths", "may_write", "returned"]


class Returned(NamedTuple):
    """The names in a function's literal returns, and those that it may return unseen."""

    names: frozenset[str]
    opaque: bool  # a returned expression could not be read
    within: frozenset[str] | None = None  # where there is no source: the names it could return

    def may_return(self, name: str) -> bool:
        """Whether `name` may be among what is returned, though the source does not show it."""
        return self.opaque and (self.within is None or name in self.within)


def constants(code: CodeType) -> frozenset[str]:
    """Every string constant of `code`: the names that it may look up in its `**kwargs`."""
    found: set[str] = set()
    todo = list(code.co_consts)
    while todo:
        const = todo.pop()
        if isinstance(const, str):
            found.add(const)
        elif isinstance(const, tuple | frozenset):
            todo.extend(const)
        elif isinstance(const, CodeType):
            todo.extend(const.co_consts)
    return frozenset(found)


@functools.lru_cache(maxsize=4096)
def returned(code: CodeType) -> Returned:
    """The names that the function behind `code` returns in dicts, as far as its source tells.

    >>> def ema(grad, exp_avg): return {"exp_avg": exp_avg.lerp(grad, .1)}
    >>> returned(ema.__code__).names
    frozenset({'exp_avg'})
    """
    node = _node(code)
    if node is None:  # no source (exec, a bare prompt): a display can only hold what the code names
        within = constants(code) if _only_displays(code) else None
        return Returned(frozenset(), opaque=within is None or bool(within), within=within)
    if isinstance(node, ast.Lambda):
        values = [node.body]
    else:
        values = [n.value for n in _own(node) if isinstance(n, ast.Return) and n.value is not None]
    names: set[str] = set()
    opaque = False
    for value in values:
        more, unseen = _read(value)
        names |= more
        opaque |= unseen
    return Returned(frozenset(names), opaque)


def _read(value: ast.expr) -> tuple[set[str], bool]:
    """The names in one returned expression, and whether it could hold others."""
    match value:
        case ast.Dict(keys=keys):
            literal = {
                k.value for k in keys if isinstance(k, ast.Constant) and isinstance(k.value, str)
            }
            return literal, len(literal) < len({ast.dump(k) if k else "**" for k in keys})
        case ast.Call(func=ast.Name(id="dict"), args=args, keywords=keywords):
            return {k.arg for k in keywords if k.arg}, bool(args) or any(
                not k.arg for k in keywords
            )
        case ast.Call(func=ast.Attribute(attr=attr)) if attr.endswith("_"):
            return set(), False  # torch's in-place methods return tensors
        case ast.IfExp(body=a, orelse=b) | ast.BinOp(left=a, op=ast.BitOr(), right=b):
            parts = [_read(a), _read(b)]
        case ast.BoolOp(values=several):
            parts = [_read(v) for v in several]
        case (
            ast.Constant() | ast.Tuple() | ast.List() | ast.BinOp() | ast.UnaryOp() | ast.Compare()
        ):
            return set(), False
        case _:
            return set(), True
    return set().union(*(p[0] for p in parts)), any(p[1] for p in parts)


def _only_displays(code: CodeType) -> bool:
    """Whether all that `code` returns is constants and `{...}`, as its bytecode shows."""
    before = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RETURN_VALUE" and before not in DISPLAYS:
            return False
        before = instruction.opname
    return True


DISPLAYS = ("LOAD_CONST", "BUILD_MAP", "BUILD_CONST_KEY_MAP")


def may_write(function: FunctionType) -> bool:
    """Whether `function` may change in place what it is given; False only where it surely does not.

    >>> def reads(p, seen=()): return {"norm": p.norm()}
    >>> def writes(p, lr): p.data -= lr * p.grad
    >>> may_write(reads), may_write(writes)
    (False, True)
    """
    code = function.__code__
    if code.co_freevars or any(isinstance(c, CodeType) for c in code.co_consts):
        return True
    if "out" in constants(code) or any(n.endswith("_") for n in code.co_names if n[:2] != "__"):
        return True
    for i in dis.get_instructions(code):
        if i.opname in ("STORE_SUBSCR", "STORE_ATTR", "STORE_SLICE", "DELETE_SUBSCR"):
            return True
        if i.opname.startswith("BINARY_OP") and i.argrepr.endswith("="):
            return True
    return any(_is_strange(function.__globals__.get(n)) for n in code.co_names)


def _is_strange(value: object) -> bool:
    """Whether a global could be something that writes to tensors: anything but torch and numbers."""
    if isinstance(value, ModuleType):
        return value.__name__.split(".")[0] not in ("torch", "math", "numpy")
    return callable(value)


@functools.lru_cache(maxsize=4096)
def lengths(code: CodeType) -> dict[str, tuple[int, int | None]]:
    """How long the tuples must be that the function behind `code` indexes: at least, and exactly.

    >>> def ema(grad, betas, nus): a, b = nus; return {"update": grad * betas[1]}
    >>> lengths(ema.__code__)
    {'nus': (2, 2), 'betas': (2, None)}
    """
    node = _node(code)
    out: dict[str, tuple[int, int | None]] = {}
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    for n in () if node is None else ast.walk(node):
        match n:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int(at))):
                least, exact = at + 1, None
            case ast.Assign(targets=[ast.Tuple(elts=elts)], value=ast.Name(id=name)):
                starred = any(isinstance(e, ast.Starred) for e in elts)
                least, exact = len(elts) - starred, None if starred else len(elts)
            case _:
                continue
        if name in arguments:
            before = out.get(name, (0, None))
            out[name] = max(least, before[0]), exact or before[1]
    return out


def _own(function: ast.AST):
    """The nodes of a function's body, leaving out the functions defined inside it."""
    todo = list(ast.iter_child_nodes(function))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        yield node
        todo.extend(ast.iter_child_nodes(node))


def _node(code: CodeType) -> ast.FunctionDef | ast.Lambda | None:
    """The function's node in its module's tree, or None where there is no source."""
    args = list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    for node in _functions(code.co_filename, tuple(linecache.getlines(code.co_filename))):
        if isinstance(node, ast.Lambda):
            if code.co_name != "<lambda>" or not _holds(node, code):
                continue
        elif node.name != code.co_name or code.co_firstlineno not in _first_lines(node):
            continue
        a = node.args
        if [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)] == args:
            return node
    return None


def _holds(node: ast.Lambda, code: CodeType) -> bool:
    """Whether `code` was made of this lambda: several may share a line."""
    body = node.body
    place = (body.lineno, body.end_lineno, body.col_offset, body.end_col_offset)
    positions = set(code.co_positions())
    return node.lineno == code.co_firstlineno and (
        place in positions or all(p[2] is None for p in positions)
    )


def _first_lines(node: ast.FunctionDef) -> tuple[int, ...]:
    return (node.lineno, *(d.lineno for d in node.decorator_list))


def _parse(text: str, filename: str) -> ast.Module:
    with _one_at_a_time:
        try:
            return ast.parse(text, filename)
        except SystemError:  # another library's thread was parsing too
            return ast.parse(text, filename)


@functools.lru_cache(maxsize=64)
def _functions(filename: str, lines: tuple[str, ...]) -> tuple[ast.FunctionDef | ast.Lambda, ...]:
    try:
        tree = _parse("".join(lines), filename)
    except (SyntaxError, ValueError):
        return ()
    return tuple(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Lambda))
