"""One look at a function: its frames, and what is found out on the way."""

import dis
import functools
import heapq
import itertools
from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any

from weft.contract.bytecode.values import ANYTHING, NOTHING, Function, Value, flat

__all__ = ["Frame", "Made", "Run", "TooLong"]

MOST_STEPS = 20_000  # instructions of the function itself
MOST_WITHIN = 5_000  # and of those that it calls: what goes further is not followed
DEEPEST = 8  # calls within calls that are followed


class TooLong(Exception):
    """The look takes too many steps."""


class Made:
    """A dict that is built at one place.

    Attributes:
        names: the keys that are known.
        opaque: there may be others.
        held: what its values may be.
        passes_on: it has the callback's own `**kwargs`, for a call.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.opaque = self.passes_on = False
        self.held: Value = NOTHING

    def put(self, key: Value, value: Value) -> None:
        """Take a key with its value."""
        self.held |= flat(value)
        for kind, *what in key:
            if kind == "const" and isinstance(what[0], str):
                self.names.add(what[0])
            else:
                self.opaque = True

    def merge(self, run: "Run", other: Value) -> None:
        """Take all keys of another value."""
        for origin in other:
            if origin[0] == "dict":
                made = run.dicts[origin[1]]
                self.names |= made.names
                self.held |= made.held
                self.opaque |= made.opaque or made.passes_on
            else:
                self.opaque = True


class Run:
    """One look at a function and at the functions that it calls.

    Attributes:
        dicts: what is known of the dict that was built at each place.
        reads: names of arguments, and `p.grad` for the grad of `p`, that are looked at.
        writes: those that are changed in place.
        leaks: those that are handed to something whose code cannot be followed.
        lengths: of arguments that are indexed: how long at least, and how long exactly.
        changes_more: it changes something else than its arguments: an attribute, a global, ...
    """

    def __init__(self, step: Callable):
        self.step = step  # one instruction
        self.dicts: dict[tuple[int, ...], Made] = {}
        self.cells: dict[tuple[tuple[int, ...], str], Value] = {}
        self.frames: dict[tuple[int, ...], Frame] = {}
        self.reads: set[str] = set()
        self.writes: set[str] = set()
        self.leaks: set[str] = set()
        self.lengths: dict[str, tuple[int, int | None]] = {}
        self.changes_more = False
        self.steps = self.within = 0

    def of(self, function: Function, given: dict[str, Value]) -> Value:
        """What `function` may return; looked at again until nothing new is found."""
        while True:
            before = self._found()
            self.steps = self.within = 0
            out = self.call(function, given, ())
            if self._found() == before:
                return out

    def _found(self) -> Any:
        dicts = {k: (len(m.names), m.opaque, len(m.held)) for k, m in self.dicts.items()}
        return dicts, {k: len(v) for k, v in self.cells.items()}

    def call(
        self,
        function: Function,
        given: dict[str, Value],
        path: tuple[int, ...],
        parent: "Frame | None" = None,
    ) -> Value:
        """What a call with these local variables may return."""
        lazy = function.code.co_flags & 0x2A0  # a generator, a coroutine
        if not (lazy or len(path) > DEEPEST or self.within > MOST_WITHIN):
            try:
                return Frame(self, function, given, path, parent).run()
            except TooLong:
                if not path:
                    raise
        self.leak(*given.values())
        return ANYTHING

    def count(self, within: bool) -> None:
        """Count an instruction, of the function itself or of one that it calls."""
        self.steps += not within
        self.within += within
        if self.steps > MOST_STEPS or (within and self.within > MOST_WITHIN):
            raise TooLong

    def dict_at(self, path: tuple[int, ...]) -> tuple[Made, Value]:
        """The dict that is built at one place."""
        return self.dicts.setdefault(path, Made()), frozenset([("dict", path)])

    def read(self, value: Value) -> None:
        """Note that arguments are looked at."""
        self.reads |= {what[0] for kind, *what in value if kind == "arg"}

    def write(self, value: Value) -> None:
        """Note a change in place."""
        for kind, *what in flat(value):
            if kind == "arg":
                self.writes.add(what[0])
            elif kind in ("anything", "object", "kwargs", "captured"):
                self.changes_more = True

    def leak(self, *values: Value) -> None:
        """Note that values go where they cannot be followed."""
        for kind, *what in flat(frozenset().union(*values)):
            if kind == "arg":
                self.leaks.add(what[0])
            elif kind == "dict":
                self.dicts[what[0]].opaque = True
            elif kind == "made":
                for (owner, _), held in self.cells.items():
                    if owner == what[1]:
                        self.leaks |= {o[1] for o in held if o[0] == "arg"}

    def indexed(self, value: Value, least: int, exact: int | None) -> None:
        """Note how long an argument has to be."""
        for kind, *what in value if len(value) == 1 else ():
            if kind == "arg":
                before = self.lengths.get(what[0], (0, None))
                self.lengths[what[0]] = max(least, before[0]), exact or before[1]


class Frame:
    """One call: its variables and its stack, at every instruction that can be reached."""

    def __init__(
        self,
        run: Run,
        function: Function,
        given: dict[str, Value],
        path: tuple[int, ...],
        parent: "Frame | None",
    ):
        self.of, self.code, self.path, self.parent = run, function.code, path, parent
        self.around, self.given = dict(function.around), given
        self.returned: Value = frozenset()
        self.stack: list[Value] = []
        self.locals: dict[str, Value] = {}
        self.keywords: tuple[str, ...] = ()
        run.frames[path] = self
        for name in self.code.co_cellvars:
            self.store_cell(name, given.get(name, frozenset()))

    def run(self) -> Value:
        """Follow every branch to its end; what may be returned."""
        instructions, handlers = disassembled(self.code)
        if not instructions:
            return ANYTHING
        following = {a.offset: b.offset for a, b in itertools.pairwise(instructions)}
        at = {i.offset: i for i in instructions}
        known: dict[int, tuple[tuple[Value, ...], dict[str, Value]]] = {}
        todo: list[int] = []  # a heap: what comes first in the code meets all that reaches it first

        def reach(offset: int, stack: Iterable[Value], variables: dict[str, Value]) -> None:
            if offset in at and self._meet(known, offset, stack, variables) and offset not in todo:
                heapq.heappush(todo, offset)

        reach(instructions[0].offset, [], self.given)
        while todo:
            offset = heapq.heappop(todo)
            stack, variables = known[offset]
            self.stack, self.locals = list(stack), dict(variables)
            self.of.count(within=bool(self.path))
            targets = self.of.step(self, at[offset], following.get(offset))
            for first, last, handler, depth, pushed in handlers:
                if first <= offset < last:
                    for seen in (variables, self.locals):
                        reach(handler, [*stack[:depth], *[ANYTHING] * pushed], seen)
            for target, left in targets:
                reach(target, left, self.locals)
        return self.returned

    @staticmethod
    def _meet(known: dict, offset: int, stack: Iterable[Value], variables: dict) -> bool:
        """Join what reaches an instruction with what has before; whether that is news."""
        stack = tuple(stack)
        if offset not in known:
            known[offset] = stack, variables
            return True
        before, held = known[offset]
        depth = min(len(before), len(stack))  # they differ only behind handlers, by their lasti
        joined = tuple(
            a | b
            for a, b in zip(before[len(before) - depth :], stack[len(stack) - depth :], strict=True)
        )
        both = {
            n: held.get(n, frozenset()) | variables.get(n, frozenset()) for n in held | variables
        }
        if (joined, both) == (before, held):
            return False
        known[offset] = joined, both
        return True

    # ------------------------------------------------------------ what an instruction needs

    def push(self, *values: Value) -> None:
        """Put values on the stack."""
        self.stack += values

    def pop(self) -> Value:
        """Take the top of the stack; anything, where the count has gone wrong."""
        return self.stack.pop() if self.stack else ANYTHING

    def take(self, n: int) -> list[Value]:
        """Take the top `n`, the lowest first."""
        return [self.pop() for _ in range(n)][::-1]

    def elements(self, value: Value) -> Value:
        """What iterating over a value, or unpacking it, gives."""
        out: set = set()
        for origin in value:
            match origin:
                case ("items", held):
                    out |= held
                case ("const", tuple() | frozenset() as several):
                    out |= {("const", v) for v in several}
                case ("dict", path) if not self.of.dicts[path].opaque:
                    out |= {("const", n) for n in self.of.dicts[path].names}
                case ("arg" | "no dict", *_):
                    out.add(origin)
                case _:
                    out |= ANYTHING
        return frozenset(out)

    def variable(self, name: str) -> Value:
        """A global or a free variable."""
        if name in self.code.co_freevars and self.parent is not None:
            return self.parent.cell(name)
        return frozenset([self.around[name]]) if name in self.around else ANYTHING

    def cell(self, name: str) -> Value:
        """A variable that functions inside see."""
        if name in self.code.co_cellvars:
            return self.of.cells.get((self.path, name), frozenset()) or ANYTHING
        return self.variable(name)

    def store_cell(self, name: str, value: Value) -> None:
        """Give such a variable another value, beside those that it has had."""
        frame: Frame | None = self
        while frame is not None and name not in frame.code.co_cellvars:
            frame = frame.parent
        if frame is None:
            self.of.changes_more = True
            return
        key = (frame.path, name)
        self.of.cells[key] = self.of.cells.get(key, frozenset()) | value


@functools.lru_cache(maxsize=4096)
def disassembled(code: CodeType) -> tuple[list[dis.Instruction], list[tuple[int, ...]]]:
    """A function's instructions, and the ranges that its exception handlers cover."""
    instructions = list(dis.get_instructions(code))
    entries = getattr(dis.Bytecode(code), "exception_entries", None) or ()
    handlers = [(e.start, e.end, e.target, e.depth, 1 + e.lasti) for e in entries]
    return instructions, handlers
