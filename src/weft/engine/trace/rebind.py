"""Callbacks made again over rebound globals and closures, so that nothing escapes the tracer.

`math.sqrt` becomes the symbolic one, helper functions are made again in the same way, objects are
cloned; and every captured value is noted, so that a later step sees that it has changed.
"""

import builtins
import copy
import enum
import functools
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from weft.contract.marks import MARKS
from weft.engine.ir.traced import Capture, Untraceable, is_numpys, same
from weft.engine.trace.bytecode import asks_which, mentioned
from weft.engine.trace.bytecode import names as names_in
from weft.engine.trace.generators import HANDLERS, Source, handling, refusing
from weft.engine.trace.shims import guarded, impure, shim_of

__all__ = ["Rebinder"]

PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size,
         torch.memory_format, slice, range, type(Ellipsis), type(NotImplemented))  # fmt: skip
CONSTANT = (frozenset, re.Pattern, types.MappingProxyType, types.GenericAlias, types.UnionType)
BUILT_IN = (BuiltinFunctionType, types.MethodDescriptorType, types.MethodWrapperType)
LIBRARIES = sys.stdlib_module_names | {"weft", "numpy"}
DICTS = (dict, OrderedDict)
NUMBERS = (bool, int, float, str, tuple)
FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)


def _foreign(value: Any) -> bool:
    """Whether something belongs to torch, whose calls the tracer sees anyway."""
    module = getattr(value, "__module__", None) or ""
    return module == "torch" or module.startswith("torch.")


def _inside(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty as yet
        return None


def _keeps(value: Any) -> bool:
    """Whether an object of torch's has attributes of its own, as a module or a scheduler has."""
    plain = isinstance(value, torch.nn.Module) or not callable(value)
    return plain and bool(getattr(value, "__dict__", None)) and not isinstance(value, type)


class Module:
    """A module as callbacks see it: what they take out of it is rebound."""

    def __init__(self, rebinder: "Rebinder", module: ModuleType):
        self.__dict__["_rebinder"], self.__dict__["_module"] = rebinder, module

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__["_module"]
        get = lambda: getattr(module, name)
        return self.__dict__["_rebinder"].rebind(get(), f"{module.__name__}.{name}", get)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Untraceable(f"it sets {name!r} of a module")


class Refused:
    """What callbacks may hold but not use."""

    def __init__(self, reason: str):
        self.__dict__["_reason"] = reason

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise Untraceable(self.__dict__["_reason"])

    __getattr__ = __setattr__ = __call__ = __getitem__ = __setitem__ = __enter__ = _refuse
    __iter__ = __next__ = __len__ = __contains__ = __bool__ = __delitem__ = __iadd__ = _refuse


class Rebinder:
    """Makes callables again for one trace, and keeps the list of what they captured."""

    def __init__(self) -> None:
        self._captures: list[Capture] = []
        self._marks: list[tuple[str, Capture]] = []  # what `weft.mark` said, which is for chains
        self._mentioned: set[str] = set()
        self._done: dict[int, tuple[Any, Any]] = {}
        self._checks: list[Callable[[], str]] = []

    @property
    def captures(self) -> list[Capture]:
        """What was captured; each has to be looked at in every step, so not what nobody reads."""
        return self._captures + [mark for key, mark in self._marks if key in self._mentioned]

    def changed(self) -> str:
        """What the rebound callables have changed outside of their arguments, or nothing."""
        return next((what for check in self._checks if (what := check())), "")

    def rebind(self, value: Any, name: str, get: Callable[[], Any] | None) -> Any:
        """What a callback gets instead of a captured value; `get` reads the original again."""
        done = self._done.get(id(value))
        if done is not None and done[0] is value:
            if get is not None and isinstance(value, FunctionType):
                self._note(name, get, value)
            return done[1]
        if isinstance(value, ModuleType):
            return value if _is_torch(value) else Module(self, value)
        if isinstance(value, PLAIN) or (isinstance(value, type) and shim_of(value) is None):
            self._note(name, get, value)
            return self._class(value, name) if isinstance(value, type) else value
        shim = shim_of(value)
        if shim is not None:
            return shim
        self._note(name, get, value)
        if impure(value):
            return guarded(value, name) if isinstance(value, FUNCTIONS) else _clock(name)
        made = self._make(value, name)
        self._done[id(value)] = (value, made)
        return made

    def _note(self, name: str, get: Callable[[], Any] | None, value: Any) -> None:
        if get is not None:
            self._captures.append(Capture(name, get, _snapshot(value)))

    def _class(self, cls: type, name: str) -> Any:
        """A class made again, a library's as it is; its numbers are captured values too."""
        if impure(cls):
            return _clock(name)
        if cls.__module__ == "builtins" or _foreign(cls):
            return cls
        if cls.__module__.split(".")[0] in LIBRARIES or not _derivable(cls):
            for key, value in vars(cls).items():
                if isinstance(value, NUMBERS) and not key.startswith("__"):
                    self._note(f"{name}.{key}", lambda k=key: vars(cls)[k], value)
            return cls
        return self._rebound_class(cls)

    def _make(self, value: Any, name: str) -> Any:
        for key in ("_torchdynamo_inline", "_torchdynamo_orig_callable"):  # scripted, compiled
            if isinstance(value, FunctionType | torch.jit.ScriptFunction) and hasattr(value, key):
                return self.rebind(getattr(value, key), name, None)
        if isinstance(value, torch.jit.ScriptFunction):
            return Refused(f"it calls {name}, a script whose source is not at hand")
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, functools.partial):
            return functools.partial(
                self.rebind(value.func, name, None),
                *(self.rebind(a, name, lambda a=a: a) for a in value.args),
                **{k: self.rebind(v, name, lambda v=v: v) for k, v in value.keywords.items()},
            )
        if isinstance(value, MethodType):
            if _foreign(type(value.__self__)):
                return value
            owner = self.rebind(value.__self__, name, None)
            return MethodType(self.rebind(value.__func__, name, None), owner)
        if type(value) in (list, tuple, set):
            made = type(value)(self.rebind(v, name, None) for v in value)
            return self._watched(value, made, name) if type(value) is not tuple else made
        if type(value) in DICTS:
            made = {k: self.rebind(v, f"{name}[{k!r}]", None) for k, v in value.items()}
            return self._watched(value, type(value)(made), name)
        if isinstance(value, torch.Generator):
            return Source.of(value)
        if isinstance(value, torch.Tensor):
            return value
        if _foreign(value) or _foreign(type(value)):
            return self._object(value, name) if _keeps(value) else value
        if isinstance(value, BUILT_IN):
            owner = getattr(value, "__self__", None)
            if not isinstance(owner, (*PLAIN, ModuleType, type)):  # a list's append
                return Refused(f"it calls {name}, which may change a {type(owner).__name__}")
            return guarded(value, name)
        if isinstance(value, functools._lru_cache_wrapper):
            return self.rebind(value.__wrapped__, name, None)
        if isinstance(value, types.WrapperDescriptorType | staticmethod | classmethod | property):
            return value
        if type(value).__module__ == "numpy":
            if is_numpys(value):
                return value
            raise Untraceable(f"the numpy array {name}")
        return self._object(value, name)

    def _watched(self, value: Any, made: Any, name: str) -> Any:
        before = copy.copy(made)
        self._checks.append(lambda: "" if same(made, before) else f"it changes {name}")
        return made

    # ------------------------------------------------------------ functions

    def _function(self, fn: FunctionType) -> Any:
        named = fn.__name__ if _foreign(fn) else handling(fn.__code__)
        if named in HANDLERS:
            return refusing(fn, named)
        if _foreign(fn) and not hasattr(fn, "__wrapped__"):
            return fn
        names, stores = names_in(fn.__code__)
        self._mentioned |= mentioned(fn.__code__)
        if stores:
            raise Untraceable(f"{fn.__name__} assigns to a global")
        scope: dict[str, Any] = {"__builtins__": self._builtins(fn.__globals__)}
        cells = tuple(types.CellType() for _ in fn.__closure__ or ())
        made = FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, cells)
        self._done[id(fn)] = (fn, made)
        name = fn.__name__
        made.__defaults__ = fn.__defaults__ and tuple(
            self._default(v, name) for v in fn.__defaults__
        )
        made.__kwdefaults__ = fn.__kwdefaults__ and {
            k: self._default(v, name) for k, v in fn.__kwdefaults__.items()
        }
        made.__module__ = fn.__module__
        for key, value in fn.__dict__.items():
            if key in ("__wrapped__", "__signature__"):
                made.__dict__[key] = value
            else:
                get = lambda k=key: fn.__dict__[k]
                if key in MARKS:
                    self._marks.append((key, Capture(f"{name}.{key}", get, _snapshot(value))))
                    made.__dict__[key] = value
                else:
                    made.__dict__[key] = self.rebind(value, f"{name}.{key}", get)
        self._steady(made.__dict__, fn.__name__)
        for name in names:
            self._global(fn.__globals__, name, scope)
        for name, cell, original in zip(
            fn.__code__.co_freevars, cells, fn.__closure__ or (), strict=True
        ):
            self._cell(name, cell, original)
        held = [*scope.values(), *(_inside(cell) for cell in fn.__closure__ or ())]
        if any(isinstance(v, torch.nn.Parameter) for v in held) and asks_which(fn.__code__):
            raise Untraceable(
                f"{fn.__name__} asks whether a tensor is a parameter that it captured"
            )
        return made

    def _method(self, fn: FunctionType) -> Callable[..., Any]:
        """A method that is made again when it is called: what nobody calls refuses no chain."""

        @functools.wraps(fn)
        def method(*args: Any, **kwargs: Any) -> Any:
            return self.rebind(fn, fn.__name__, None)(*args, **kwargs)

        return method

    def _builtins(self, outside: dict[str, Any]) -> dict[str, Any]:
        """Those of a function, with an `import` that gives what a global of that name gives."""
        held = outside.get("__builtins__", builtins)
        held = held if isinstance(held, dict) else vars(held)

        def imported(name: str, scope: Any = None, local: Any = None, *how: Any) -> Any:
            return self.rebind(held["__import__"](name, outside, local, *how), name, None)

        return {**held, "__import__": imported}

    def _default(self, value: Any, name: str) -> Any:
        """A default as the function gets it: what it could change or call is made again."""
        if type(value) in (list, dict, set, FunctionType) or isinstance(value, BUILT_IN):
            return self.rebind(value, f"a default of {name}", lambda: value)
        return value

    def _steady(self, held: dict[str, Any], name: str) -> None:
        """See that the attributes of something stay what they are."""
        before = dict(held)
        self._checks.append(
            lambda: "" if held.keys() == before.keys() and all(held[k] is before[k] for k in held)
            else f"it changes an attribute of {name}"
        )  # fmt: skip

    def _global(self, source: dict[str, Any], name: str, scope: dict[str, Any]) -> None:
        if name in source:  # what weft's own modules name stays what it is
            ours = source.get("__name__", "").startswith("weft.")
            get = None if ours else lambda: source[name]
            scope[name] = self.rebind(source[name], name, get)
        elif name != "super" and hasattr(builtins, name):
            value = getattr(builtins, name)
            shim = shim_of(value)
            if shim is not None:
                scope[name] = shim
            elif isinstance(value, BuiltinFunctionType | type):
                scope[name] = guarded(value, name)

    def _cell(self, name: str, cell: types.CellType, original: types.CellType) -> None:
        try:
            value = original.cell_contents
        except ValueError:
            return  # not yet assigned
        if name == "__class__":
            cell.cell_contents = value
            return
        cell.cell_contents = made = self.rebind(value, name, lambda: original.cell_contents)
        self._checks.append(
            lambda: "" if cell.cell_contents is made else f"it assigns to {name}, outside of itself"
        )

    # ------------------------------------------------------------ objects

    def _object(self, value: Any, name: str) -> Any:
        """A clone of a user's object whose methods and attributes are rebound."""
        cls = type(value)
        if not hasattr(value, "__dict__") or cls.__module__ == "builtins":
            if any(vars(base).get("__slots__") for base in cls.__mro__):
                raise Untraceable(f"the object {name} keeps its attributes in slots")
            if callable(value):
                return guarded(value, name)
            if isinstance(value, CONSTANT) or cls is object or issubclass(cls, tuple):
                return value
            return Refused(f"it uses {name}, a {cls.__name__}, whose changes would be lost")
        if isinstance(value, enum.Enum):
            return value
        plain = next(base for base in cls.__mro__ if base.__module__ in ("builtins", "types"))
        if plain not in (object, types.SimpleNamespace):
            return Refused(f"it uses {name}, a {cls.__name__} that is a {plain.__name__} too")
        try:
            clone = plain.__new__(self._rebound_class(cls))  # type: ignore[call-overload]
        except TypeError:
            raise Untraceable(f"the object {name} of type {cls.__name__}") from None
        held = clone.__dict__
        self._done[id(value)] = (value, clone)
        for key, attribute in vars(value).items():
            get = lambda k=key: vars(value)[k]
            held[key] = self.rebind(attribute, f"{name}.{key}", get)
        self._steady(held, name)
        return clone

    def _rebound_class(self, cls: type) -> type:
        done = self._done.get(id(cls))
        if done is not None:
            return done[1]
        try:
            made = type(cls.__name__, (cls,), {})
        except TypeError:
            raise Untraceable(f"the class {cls.__name__} cannot be derived from") from None
        self._done[id(cls)] = (cls, made)  # now: its methods may name it
        for base in reversed(cls.__mro__[:-1]):
            for key, value in vars(base).items():
                dunder = key.startswith("__")
                if isinstance(value, FunctionType) and key not in ("__new__", "__init_subclass__"):
                    setattr(made, key, value if _foreign(value) else self._method(value))
                elif isinstance(value, property) and isinstance(value.fget, FunctionType):
                    got = property(self._method(value.fget), value.fset, value.fdel)
                    setattr(made, key, got)
                elif isinstance(value, NUMBERS) and not dunder:
                    self._note(f"{base.__name__}.{key}", lambda b=base, k=key: vars(b)[k], value)
                elif type(value) in (list, dict, set) and not dunder:
                    get = lambda b=base, k=key: vars(b)[k]
                    setattr(made, key, self.rebind(value, f"{base.__name__}.{key}", get))
        before = dict(vars(made))
        self._checks.append(
            lambda: "" if dict(vars(made)) == before else f"it changes the class {cls.__name__}"
        )
        return made


def _snapshot(value: Any) -> Any:
    """A captured value as it is now, whatever becomes of the containers in it."""
    if type(value) in (list, tuple, set):
        return type(value)(map(_snapshot, value))
    if type(value) in DICTS:
        return type(value)((k, _snapshot(v)) for k, v in value.items())
    return value


def _clock(name: str) -> Refused:
    return Refused(f"it uses {name}, which gives something else each time")


def _derivable(cls: type) -> bool:
    """Whether a class may be made again: enums and exceptions are what they are."""
    return type(cls) is type and not issubclass(cls, BaseException)


def _is_torch(module: ModuleType) -> bool:
    return module.__name__ == "torch" or module.__name__.startswith("torch.")
