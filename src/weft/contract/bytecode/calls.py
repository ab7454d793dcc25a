"""What a call within a callback gives and changes: of a function whose code can be followed, a
method, one of torch's functions, `dict`."""

from types import CodeType

from weft.contract.bytecode.run import Frame, Made
from weft.contract.bytecode.values import (
    ANYTHING,
    NO_DICT,
    NOTHING,
    Function,
    Origin,
    Value,
    arg,
    flat,
    items,
)

__all__ = ["call"]

# tensor methods whose result shares memory with the tensor; the rest give a new one
VIEWS = (
    "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze",
    "transpose", "t", "permute", "narrow", "select", "expand", "expand_as", "broadcast_to", "detach",
    "diagonal", "unbind", "chunk", "split", "movedim", "moveaxis", "swapaxes", "swapdims", "ravel",
    "contiguous", "as_strided", "adjoint", "to", "float", "double", "type", "type_as", "cpu", "cuda",
    "requires_grad_", "view_as_real", "view_as_complex", "real", "imag",
)  # fmt: skip
CHANGES = (  # methods of what is no tensor
    "append", "extend", "insert", "add", "remove", "discard", "pop", "popitem", "clear", "update",
    "setdefault", "write",
)  # fmt: skip


def call(
    frame: Frame,
    offset: int,
    callee: Value,
    args: list[Value],
    named: dict[str, Value],
    rest: Value = NOTHING,
    more: Value = NOTHING,
) -> Value:
    """What a call may give; `rest` and `more` are what comes as `*rest` and `**more`."""
    site = Call(frame, offset, args, named, rest, more)
    return frozenset().union(*(site.of(origin) for origin in callee or ANYTHING))


class Call:
    """One place where something is called, with what it is given."""

    def __init__(self, frame: Frame, offset: int, args, named, rest: Value, more: Value):
        self.frame, self.run = frame, frame.of
        self.path = (*frame.path, offset)
        self.args, self.named, self.rest, self.more = args, named, rest, more

    @property
    def given(self) -> list[Value]:
        """Everything that is handed over."""
        return [*self.args, *self.named.values(), self.rest, self.more]

    def of(self, callee: Origin) -> Value:
        """What calling one of the possible origins gives."""
        match callee:
            case ("function", Function() as function):
                return self._follow(function, self.args)
            case ("method", Function() as function, known):
                return self._follow(function, [frozenset([("self", known)]), *self.args])
            case ("made", CodeType() as code, path):
                parent = self.run.frames[path]
                function = Function(code, tuple(parent.around.items()))
                return self._follow(function, self.args, parent)
            case ("prints",):
                self._torch("")
                return frozenset([("const", None)])
            case ("pure",):
                return self._torch("")
            case ("attr", ("pure",), name):
                return self._torch(name)
            case ("attr", ("dict", path), name):
                return self._of_dict(path, name)
            case ("attr", ("kwargs",), name):
                return self._of_kwargs(name)
            case ("attr", ("arg", of), name):
                return self._of_argument(of, name)
            case ("attr", tuple() as of, name) if of[0] in ("no dict", "const", "captured"):
                self._out()
                if writes(name):
                    self.run.write(frozenset([of]))
                return frozenset([of]) if writes(name) or name in VIEWS else NO_DICT
            case ("attr", ("items", held), _):
                self.run.leak(*self.given)
                return held | ANYTHING
            case ("dict type",):
                return self._dict()
        self.run.leak(*self.given)
        if callee[0] == "attr" and callee[2] in CHANGES:
            self.run.changes_more = True
        return ANYTHING

    # ------------------------------------------------------------ functions that can be followed

    def _follow(self, function: Function, args: list[Value], parent: Frame | None = None) -> Value:
        given = self._variables(function, args)
        return self.run.call(function, given, self.path, parent)

    def _variables(self, function: Function, args: list[Value]) -> dict[str, Value]:
        """The local variables that a call begins with."""
        code = function.code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        around, named = dict(function.around), dict(self.named)
        passed, spread = self._passed_on()
        named.update(spread)
        out: dict[str, Value] = {}
        for at, name in enumerate(names):
            if at < min(len(args), code.co_argcount):
                out[name] = args[at]
            elif name in named:
                out[name] = named.pop(name)
            elif passed:
                out[name] = arg(name)
            elif self.rest and at < code.co_argcount:
                out[name] = self._elements(self.rest)
            else:
                out[name] = frozenset([around.get(f"{name}=", ("anything",))])
        at = len(names)
        if code.co_flags & 0x04:
            left = [*args[code.co_argcount :], self._elements(self.rest)]
            out[code.co_varnames[at]] = items(*left)
            at += 1
        if code.co_flags & 0x08:
            made, value = self.run.dict_at((*self.path, -1))
            for name, held in named.items():
                made.put(frozenset([("const", name)]), held)
            out[code.co_varnames[at]] = value | (frozenset([("kwargs",)]) if passed else NOTHING)
        return out

    def _passed_on(self) -> tuple[bool, dict[str, Value]]:
        """Whether the callback's own `**kwargs` go along, and what `**more` has by name."""
        passed, named = ("kwargs",) in self.more, {}
        for kind, *what in self.more:
            if kind == "dict":
                made = self.run.dicts[what[0]]
                passed |= made.passes_on
                named |= dict.fromkeys(made.names, made.held or ANYTHING)
        return passed, named

    def _elements(self, value: Value) -> Value:
        held = [o[1] for o in value if o[0] == "items"]
        return frozenset().union(*held) or (ANYTHING if value else NOTHING)

    # ------------------------------------------------------------ torch, tensors, dicts

    def _out(self) -> None:
        self.run.write(self.named.get("out", NOTHING))

    def _torch(self, name: str) -> Value:
        """A function of torch, math or numpy, or a builtin: it reads; by its name it writes the first."""
        for value in self.given:
            self.run.read(flat(value))
        self._out()
        first = flat(frozenset().union(*self.args[:1]))
        written = writes(name) or "inplace" in self.named
        if written:
            self.run.write(first)
        if written or name in VIEWS:
            return NO_DICT | frozenset(o for o in first if o[0] == "arg")
        return NO_DICT

    def _of_argument(self, of: str, name: str) -> Value:
        for value in self.given:
            self.run.read(flat(value))
        self._out()
        if writes(name) and name != "requires_grad_":
            self.run.writes.add(of)
        return NO_DICT | arg(of) if writes(name) or name in VIEWS else NO_DICT

    def _dict(self) -> Value:
        made, value = self.run.dict_at(self.path)
        self._put(made)
        return value

    def _put(self, made: Made) -> None:
        """`dict(...)` or `.update(...)`."""
        passed, spread = self._passed_on()
        made.opaque |= passed
        for name, held in (self.named | spread).items():
            made.put(frozenset([("const", name)]), held)
        for value in self.args:
            made.merge(self.run, value)

    def _of_dict(self, path: tuple[int, ...], name: str) -> Value:
        made = self.run.dicts[path]
        match name:
            case "update" | "__ior__":
                self._put(made)
                return frozenset([("const", None)])
            case "setdefault" | "__setitem__" if self.args:
                made.put(self.args[0], self._second())
                return self._second()
            case "copy":
                copy, value = self.run.dict_at(self.path)
                copy.merge(self.run, frozenset([("dict", path)]))
                return value
        return made.held | ANYTHING

    def _of_kwargs(self, name: str) -> Value:
        if name in ("get", "pop", "setdefault", "__getitem__") and self.args:
            names = [o[1] for o in self.args[0] if o[0] == "const"]
            self.run.reads |= {n for n in names if isinstance(n, str)}
            found = frozenset(("arg", n) for n in names)
            return (found or ANYTHING) | self._second()
        if name == "copy":
            made, value = self.run.dict_at(self.path)
            made.opaque = True
            return value
        return ANYTHING

    def _second(self) -> Value:
        return self.args[1] if len(self.args) > 1 else NOTHING


def writes(name: str) -> bool:
    """Whether a method or function of torch changes its first argument, by its name."""
    return name.endswith("_") and not name.endswith("__")
