"""Opcodes that move values: the stack, variables, functions and calls, of Python 3.11 to 3.14."""

import dis

from weft.contract.bytecode.calls import call
from weft.contract.bytecode.flow import effect, opcode
from weft.contract.bytecode.run import Frame
from weft.contract.bytecode.values import ANYTHING, NO_DICT, NOTHING, Value, constant

__all__: list[str] = []  # its handlers are found by the names of opcodes

# ---------------------------------------------------------------- the stack


@opcode("RESUME", "NOP", "CACHE", "PRECALL", "EXTENDED_ARG", "COPY_FREE_VARS", "NOT_TAKEN",
        "GET_ITER", "CALL_INTRINSIC_1", "LIST_TO_TUPLE", "MAKE_CELL")  # fmt: skip
def _nothing(frame: Frame, i: dis.Instruction) -> None: ...


@opcode("POP_TOP", "POP_ITER", "POP_EXCEPT")
def _pop(frame: Frame, i: dis.Instruction) -> None:
    frame.pop()


@opcode("END_FOR")
def _end_for(frame: Frame, i: dis.Instruction) -> None:
    frame.take(-effect(i))


@opcode("PUSH_EXC_INFO", "BEFORE_WITH", "WITH_EXCEPT_START")
def _push(frame: Frame, i: dis.Instruction) -> None:
    frame.push(ANYTHING)


@opcode("CHECK_EXC_MATCH")
def _check_match(frame: Frame, i: dis.Instruction) -> None:
    frame.pop()
    frame.push(NO_DICT)


@opcode("PUSH_NULL")
def _null(frame: Frame, i: dis.Instruction) -> None:
    frame.push(NOTHING)


@opcode("COPY")
def _copy(frame: Frame, i: dis.Instruction) -> None:
    frame.push(frame.stack[-int(i.arg or 1)] if len(frame.stack) >= int(i.arg or 1) else ANYTHING)


@opcode("SWAP")
def _swap(frame: Frame, i: dis.Instruction) -> None:
    at = -int(i.arg or 1)
    if len(frame.stack) >= -at:
        frame.stack[-1], frame.stack[at] = frame.stack[at], frame.stack[-1]


@opcode("LOAD_CONST", "LOAD_SMALL_INT", "LOAD_CONST_IMMORTAL")
def _load_const(frame: Frame, i: dis.Instruction) -> None:
    frame.push(constant(i.argval))


# ---------------------------------------------------------------- variables


def _fast(frame: Frame, name: str) -> Value:
    if name in frame.code.co_cellvars or name in frame.code.co_freevars:
        return frame.cell(name)
    return frame.locals.get(name, frozenset()) or ANYTHING


@opcode("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_CLOSURE", "LOAD_DEREF",
        "LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_FAST_AND_CLEAR")  # fmt: skip
def _load_fast(frame: Frame, i: dis.Instruction) -> None:
    for name in i.argval if isinstance(i.argval, tuple) else (i.argval,):
        frame.push(_fast(frame, name))


@opcode("STORE_FAST", "STORE_FAST_MAYBE_NULL", "STORE_FAST_STORE_FAST")
def _store_fast(frame: Frame, i: dis.Instruction) -> None:
    for name in i.argval if isinstance(i.argval, tuple) else (i.argval,):
        frame.locals[name] = frame.pop()


@opcode("STORE_FAST_LOAD_FAST")
def _store_load(frame: Frame, i: dis.Instruction) -> None:
    stored, loaded = i.argval
    frame.locals[stored] = frame.pop()
    frame.push(_fast(frame, loaded))


@opcode("DELETE_FAST", "DELETE_DEREF")
def _delete_fast(frame: Frame, i: dis.Instruction) -> None: ...


@opcode("STORE_DEREF")
def _store_deref(frame: Frame, i: dis.Instruction) -> None:
    frame.store_cell(i.argval, frame.pop())


@opcode("STORE_GLOBAL", "STORE_NAME")
def _store_global(frame: Frame, i: dis.Instruction) -> None:
    frame.of.leak(frame.pop())
    frame.of.changes_more = True


@opcode("LOAD_GLOBAL", "LOAD_NAME")
def _load_global(frame: Frame, i: dis.Instruction) -> None:
    if " + " in i.argrepr:
        frame.push(NOTHING)
    frame.push(frame.variable(i.argval))


# ---------------------------------------------------------------- functions and calls


@opcode("MAKE_FUNCTION")
def _make_function(frame: Frame, i: dis.Instruction) -> None:
    code, flags = frame.pop(), int(i.arg or 0)
    frame.take((flags & 15).bit_count())
    made = [what[0] for kind, *what in code if kind == "const"]
    frame.push(frozenset([("made", made[0], frame.path)]) if made else ANYTHING)


@opcode("SET_FUNCTION_ATTRIBUTE")
def _function_attribute(frame: Frame, i: dis.Instruction) -> None:
    function = frame.pop()
    frame.pop()
    frame.push(function)


@opcode("KW_NAMES")
def _keywords(frame: Frame, i: dis.Instruction) -> None:
    frame.keywords = i.argval if isinstance(i.argval, tuple) else frame.code.co_consts[i.arg or 0]


@opcode("CALL", "CALL_KW")
def _call(frame: Frame, i: dis.Instruction) -> None:
    if i.opname == "CALL_KW":
        frame.keywords = next(what[0] for kind, *what in frame.pop() if kind == "const")
    given, names = frame.take(int(i.arg or 0)), frame.keywords
    frame.keywords = ()
    below, above = frame.take(2)
    if below and above:  # a comprehension's function and its iterator
        given = [above, *given]
    callee = below or above
    positional = given[: len(given) - len(names)]
    by_name = dict(zip(names, given[len(positional) :], strict=True))
    frame.push(call(frame, i.offset, callee, positional, by_name))


@opcode("CALL_FUNCTION_EX")
def _call_ex(frame: Frame, i: dis.Instruction) -> None:
    count = 1 - effect(i)  # the callee, an empty place, the tuple, and a dict if any
    given = frame.take(count)
    callee = given[0] or given[1]
    rest, more = (given[-2], given[-1]) if count == 4 else (given[-1], NOTHING)
    frame.push(call(frame, i.offset, callee, [], {}, rest, more))
