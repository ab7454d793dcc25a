"""From one instruction to the next: both ways at a branch, and what is not in the table of opcodes.

Such an opcode pops and pushes as `dis.stack_effect` says; what it pushes could be anything, and
what it pops may be changed.
"""

import dis
from collections.abc import Callable

from weft.contract.bytecode.run import Frame
from weft.contract.bytecode.values import ANYTHING, Value, constant

__all__ = ["effect", "opcode", "step"]

Targets = list[tuple[int, list[Value]]]
ALWAYS = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP")
HANDLERS: dict[str, Callable[[Frame, dis.Instruction], None]] = {}


def opcode(*names: str):
    """Register what an opcode does to a frame's stack and variables."""

    def registered(fn: Callable[[Frame, dis.Instruction], None]):
        HANDLERS.update(dict.fromkeys(names, fn))
        return fn

    return registered


def step(frame: Frame, i: dis.Instruction, following: int | None) -> Targets:
    """Run one instruction; where control goes from there, and with which stack."""
    name = i.opname
    if name in ("RETURN_VALUE", "RETURN_CONST"):
        frame.returned |= frame.pop() if name == "RETURN_VALUE" else constant(i.argval)
        return []
    if name in ("RERAISE", "RAISE_VARARGS"):
        return []
    if i.opcode in dis.hasjrel or i.opcode in dis.hasjabs:
        return _jump(frame, i, following)
    if name in HANDLERS:
        HANDLERS[name](frame, i)
    else:
        _unknown(frame, i)
    return [] if following is None else [(following, frame.stack)]


def _jump(frame: Frame, i: dis.Instruction, following: int | None) -> Targets:
    """Both ways, where there are two."""
    before, name = list(frame.stack), i.opname
    if name.startswith("JUMP_IF") and name.endswith("OR_POP"):
        ways = before, before[:-1]
    elif name == "FOR_ITER":
        after = before if effect(i, True) >= 0 else before[:-1]
        if effect(i, True) > 0:  # the end of the loop pops what an exhausted iterator leaves
            after = [*before, ANYTHING]
        ways = after, [*before, frame.elements(before[-1])]
    elif name in ALWAYS:
        return [(i.argval, before)]
    elif name.startswith("POP_JUMP"):
        ways = before[:-1], before[:-1]
    else:
        ways = tuple(_counted(frame, before, effect(i, jumps)) for jumps in (True, False))
    out = [(i.argval, list(ways[0]))]
    return out if following is None else [*out, (following, list(ways[1]))]


def effect(i: dis.Instruction, jumps: bool = False) -> int:
    """By how many values the stack grows."""
    takes_none = i.opcode < dis.HAVE_ARGUMENT or i.arg is None
    return dis.stack_effect(i.opcode, None if takes_none else i.arg, jump=jumps)


def _unknown(frame: Frame, i: dis.Instruction) -> None:
    frame.stack = _counted(frame, frame.stack, effect(i, False))


def _counted(frame: Frame, stack: list[Value], effect: int) -> list[Value]:
    """A stack after an instruction of which no more is known: its top could be anything."""
    gone = min(len(stack), 1 - min(effect, 0))
    kept, popped = stack[: len(stack) - gone], stack[len(stack) - gone :]
    frame.of.leak(*popped)
    return [*kept, *[ANYTHING] * (gone + effect)]
