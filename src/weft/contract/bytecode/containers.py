"""Opcodes that look into values and build them: attributes, items, arithmetic, tuples, dicts."""

import dis

from weft.contract.bytecode.flow import opcode
from weft.contract.bytecode.run import Frame
from weft.contract.bytecode.values import ANYTHING, NO_DICT, NOTHING, Value, arg, constant, items

__all__: list[str] = []  # its handlers are found by the names of opcodes

ALIASES = ("data", "T", "mT", "H", "mH", "real", "imag")  # attributes that are views

# ---------------------------------------------------------------- attributes, items


@opcode("LOAD_ATTR", "LOAD_METHOD")
def _load_attr(frame: Frame, i: dis.Instruction) -> None:
    name, base = i.argval, frame.pop()
    method = i.opname == "LOAD_METHOD" or "NULL|self" in i.argrepr
    frame.push(frozenset().union(*(_attribute(frame, o, name) for o in base)) or ANYTHING)
    if method:
        frame.push(NOTHING)


def _attribute(frame: Frame, origin: tuple, name: str) -> Value:
    match origin:
        case ("arg", of):
            frame.of.reads.add(of)
            if name in ALIASES:
                return frozenset([origin])
            if name == "grad":
                frame.of.reads.add(f"{of}.grad")
                return arg(f"{of}.grad")
        case ("module" | "self", known):
            found = dict(known).get(name, ("object",))
            return frozenset([(*found, known) if found[0] == "method" else found])
        case ("anything" | "object",) if not name.endswith("_") and not hasattr(list, name):
            return frozenset([origin])
        case ("attr" | "made" | "function", *_):
            return ANYTHING
    return frozenset([("attr", origin, name)])


@opcode("STORE_ATTR")
def _store_attr(frame: Frame, i: dis.Instruction) -> None:
    base = frame.pop()
    frame.of.leak(frame.pop())
    for kind, *what in base:
        if kind == "arg" and i.argval in (*ALIASES, "grad"):
            frame.of.writes.add(what[0] + (".grad" if i.argval == "grad" else ""))
        elif kind not in ("dict", "no dict"):
            frame.of.changes_more = True


@opcode("BINARY_SUBSCR")
def _subscript(frame: Frame, i: dis.Instruction) -> None:
    base, key = frame.take(2)
    frame.push(subscripted(frame, base, key))


@opcode("BINARY_SLICE")
def _slice(frame: Frame, i: dis.Instruction) -> None:
    base, _, _ = frame.take(3)
    frame.push(subscripted(frame, base, ANYTHING))


def subscripted(frame: Frame, base: Value, key: Value) -> Value:
    """What `base[key]` is."""
    out: set = set()
    names = [what[0] for kind, *what in key if kind == "const"]
    if len(key) == 1 and names and type(names[0]) is int and names[0] >= 0:
        frame.of.indexed(base, names[0] + 1, None)
    for origin in base:
        match origin:
            case ("kwargs",) if len(names) == len(key):
                frame.of.reads |= set(map(str, names))
                out |= {("arg", n) for n in names}
            case ("dict", path):
                made = frame.of.dicts[path]
                out |= made.held | (ANYTHING if made.opaque or not made.held else frozenset())
            case ("items" | "const", _):
                out |= frame.elements(frozenset([origin]))
            case ("arg" | "no dict", *_):
                frame.of.read(frozenset([origin]))
                out.add(origin)
            case _:
                out |= ANYTHING
    return frozenset(out)


@opcode("STORE_SUBSCR")
def _store_subscript(frame: Frame, i: dis.Instruction) -> None:
    value, base, key = frame.take(3)
    for origin in base:
        if origin[0] == "dict":
            frame.of.dicts[origin[1]].put(key, value)
        else:
            frame.of.leak(value)
            frame.of.write(frozenset([origin]))


@opcode("STORE_SLICE")
def _store_slice(frame: Frame, i: dis.Instruction) -> None:
    _, base, _, _ = frame.take(4)
    frame.of.write(base)


@opcode("DELETE_SUBSCR")
def _delete_subscript(frame: Frame, i: dis.Instruction) -> None:
    base, _ = frame.take(2)
    frame.of.write(base)


@opcode("UNPACK_SEQUENCE", "UNPACK_EX")
def _unpack(frame: Frame, i: dis.Instruction) -> None:
    value, count = frame.pop(), int(i.arg or 0)
    if i.opname == "UNPACK_EX":
        after, count = count >> 8, count & 0xFF
        count, least, exact = count + after + 1, count + after, None
    else:
        least = exact = count
    frame.of.indexed(value, least, exact)
    frame.of.read(value)
    frame.push(*[frame.elements(value)] * count)


# ---------------------------------------------------------------- arithmetic


@opcode("BINARY_OP")
def _binary(frame: Frame, i: dis.Instruction) -> None:
    a, b = frame.take(2)
    sign = i.argrepr
    if sign.startswith("["):
        frame.push(subscripted(frame, a, b))
        return
    frame.of.read(a | b)
    in_place = sign.endswith("=")
    if in_place:
        frame.of.write(frozenset(o for o in a if o[0] == "arg"))
    out = {o for o in a if in_place and o[0] in ("arg", "dict", "items")}
    if sign in ("|", "|=") and any(o[0] in ("dict", "kwargs", "anything", "object") for o in a | b):
        made, value = frame.of.dict_at((*frame.path, i.offset))
        into = [frame.of.dicts[o[1]] for o in a if o[0] == "dict"] if in_place else []
        for each in (made, *into):
            each.merge(frame.of, a | b)
        out |= set() if in_place and into else value
    elif any(o[0] in ("anything", "object") for o in a | b):
        known = any(o[0] in ("arg", "no dict") for o in a | b)  # arithmetic with one gives another
        out |= NO_DICT if known else ANYTHING
    else:
        out |= NO_DICT
    frame.push(frozenset(out))


@opcode("COMPARE_OP", "IS_OP", "CONTAINS_OP")
def _compare(frame: Frame, i: dis.Instruction) -> None:
    a, b = frame.take(2)
    frame.of.read(a | b)
    frame.push(NO_DICT)


@opcode("UNARY_NEGATIVE", "UNARY_INVERT", "UNARY_NOT", "UNARY_POSITIVE", "TO_BOOL")
def _unary(frame: Frame, i: dis.Instruction) -> None:
    frame.of.read(frame.pop())
    frame.push(NO_DICT)


# ---------------------------------------------------------------- tuples, lists, dicts


@opcode("BUILD_TUPLE", "BUILD_LIST", "BUILD_SET")
def _build_items(frame: Frame, i: dis.Instruction) -> None:
    frame.push(items(*frame.take(int(i.arg or 0))))


@opcode("BUILD_STRING", "BUILD_SLICE")
def _build_other(frame: Frame, i: dis.Instruction) -> None:
    frame.take(int(i.arg or 0))
    frame.push(NO_DICT)


@opcode("LIST_EXTEND", "LIST_APPEND", "SET_ADD", "SET_UPDATE")
def _add_items(frame: Frame, i: dis.Instruction) -> None:
    value, at = frame.pop(), -int(i.arg or 1)
    if i.opname in ("LIST_EXTEND", "SET_UPDATE"):
        value = frame.elements(value)
    if len(frame.stack) >= -at:
        frame.stack[at] = items(frame.stack[at], value)


@opcode("BUILD_MAP", "BUILD_CONST_KEY_MAP")
def _build_map(frame: Frame, i: dis.Instruction) -> None:
    made, value = frame.of.dict_at((*frame.path, i.offset))
    count = int(i.arg or 0)
    if i.opname == "BUILD_MAP":
        both = frame.take(2 * count)
        pairs = list(zip(both[::2], both[1::2], strict=True))
    else:
        keys = [k for kind, *what in frame.pop() if kind == "const" for k in what[0]]
        pairs = list(zip(map(constant, keys), frame.take(count), strict=True))
    for key, held in pairs:
        made.put(key, held)
    frame.push(value)


@opcode("DICT_UPDATE", "DICT_MERGE", "MAP_ADD")
def _into_map(frame: Frame, i: dis.Instruction) -> None:
    given, at = frame.take(2 if i.opname == "MAP_ADD" else 1), -int(i.arg or 1)
    base = frame.stack[at] if len(frame.stack) >= -at else ANYTHING
    for origin in base:
        if origin[0] != "dict":
            continue
        made = frame.of.dicts[origin[1]]
        if i.opname == "MAP_ADD":
            made.put(*given)
        elif i.opname == "DICT_MERGE" and ("kwargs",) in given[0]:
            made.passes_on = True  # a call's **kwargs
        else:
            made.merge(frame.of, given[0])
