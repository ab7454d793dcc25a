"""Callbacks made again over rebound globals and closures, so that nothing escapes the tracer.

`math.sqrt` becomes the symbolic one, helper functions are made again in the same way, objects are
cloned; and every captured value is noted, so that a later step sees that it has changed.
"""

import builtins
import copy
import enum
import functools
import types
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from weft.engine.trace.api import Capture, Untraceable, same
from weft.engine.trace.shims import guarded, impure, shim_of

__all__ = ["Rebinder"]

PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size,
         torch.memory_format, slice, range, type(Ellipsis), type(NotImplemented))  # fmt: skip
ATTRIBUTES_OF_FUNCTION = ("__kwdefaults__", "__doc__", "__qualname__", "__module__")


@functools.lru_cache(maxsize=4096)
def _names(code: CodeType) -> tuple[frozenset[str], bool]:
    """The global names that code and what is defined in it may use, and whether it stores some."""
    names, stores = set(code.co_names), False
    if any(isinstance(n, str) for n in code.co_names):
        import dis

        stores = any(
            i.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") for i in dis.get_instructions(code)
        )
    for const in code.co_consts:
        if isinstance(const, CodeType):
            more, also = _names(const)
            names |= more
            stores |= also
    return frozenset(names), stores


def _foreign(value: Any) -> bool:
    """Whether something belongs to torch, whose calls the tracer sees anyway."""
    module = getattr(value, "__module__", None) or ""
    return module == "torch" or module.startswith("torch.")


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


class Rebinder:
    """Makes callables again for one trace, and keeps the list of what they captured."""

    def __init__(self) -> None:
        self.captures: list[Capture] = []
        self._done: dict[int, tuple[Any, Any]] = {}
        self._checks: list[Callable[[], str]] = []

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
            if type(value).__module__ == "numpy":
                raise Untraceable(f"the numpy number {name}: make it a Python number")
            self._note(name, get, value)
            return self._class(value, name) if isinstance(value, type) else value
        shim = shim_of(value)
        if shim is not None:
            return shim
        self._note(name, get, value)
        if impure(value):
            return guarded(value, name)
        made = self._make(value, name)
        self._done[id(value)] = (value, made)
        return made

    def _note(self, name: str, get: Callable[[], Any] | None, value: Any) -> None:
        if get is not None:
            kept = copy.copy(value) if type(value) in (list, dict, set) else value
            self.captures.append(Capture(name, get, kept))

    def _class(self, cls: type, name: str) -> Any:
        """A class as it is; its numbers are captured values too."""
        if cls.__module__ != "builtins" and not _foreign(cls):
            for key, value in vars(cls).items():
                if isinstance(value, bool | int | float | str | tuple) and not key.startswith("__"):
                    self._note(f"{name}.{key}", lambda k=key: vars(cls)[k], value)
        return cls

    def _make(self, value: Any, name: str) -> Any:
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, functools.partial):
            return functools.partial(
                self.rebind(value.func, name, None),
                *(self.rebind(a, name, None) for a in value.args),
                **{k: self.rebind(v, name, None) for k, v in value.keywords.items()},
            )
        if isinstance(value, MethodType):
            if _foreign(type(value.__self__)):
                return value
            owner = self.rebind(value.__self__, name, None)
            return MethodType(self.rebind(value.__func__, name, None), owner)
        if type(value) in (list, tuple, set):
            made = type(value)(self.rebind(v, name, None) for v in value)
            return self._watched(value, made, name) if type(value) is not tuple else made
        if type(value) is dict:
            return self._watched(
                value, {k: self.rebind(v, f"{name}[{k!r}]", None) for k, v in value.items()}, name
            )
        if isinstance(value, torch.Tensor) or _foreign(value) or _foreign(type(value)):
            return value
        if isinstance(value, BuiltinFunctionType | types.MethodDescriptorType | type(len)):
            return guarded(value, name)
        if isinstance(value, types.WrapperDescriptorType | staticmethod | classmethod | property):
            return value
        if type(value).__module__ == "numpy":
            if getattr(value, "ndim", 1) == 0:
                return value.item()
            raise Untraceable(f"the numpy array {name}")
        return self._object(value, name)

    def _watched(self, value: Any, made: Any, name: str) -> Any:
        before = copy.copy(made)
        self._checks.append(lambda: "" if same(made, before) else f"it changes {name}")
        return made

    # ------------------------------------------------------------ functions

    def _function(self, fn: FunctionType) -> Any:
        if _foreign(fn) and not hasattr(fn, "__wrapped__"):
            return fn
        names, stores = _names(fn.__code__)
        if stores:
            raise Untraceable(f"{fn.__name__} assigns to a global")
        scope: dict[str, Any] = {"__builtins__": fn.__globals__.get("__builtins__", builtins)}
        cells = tuple(types.CellType() for _ in fn.__closure__ or ())
        made = FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, cells)
        self._done[id(fn)] = (fn, made)
        made.__kwdefaults__ = fn.__kwdefaults__
        made.__dict__.update(fn.__dict__)
        made.__module__ = fn.__module__
        for name in names:
            self._global(fn.__globals__, name, scope)
        for name, cell, original in zip(
            fn.__code__.co_freevars, cells, fn.__closure__ or (), strict=True
        ):
            self._cell(name, cell, original)
        return made

    def _global(self, source: dict[str, Any], name: str, scope: dict[str, Any]) -> None:
        if name in source:
            scope[name] = self.rebind(source[name], name, lambda: source[name])
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
            return guarded(value, name) if callable(value) else value
        if isinstance(value, enum.Enum):
            return value
        plain = next(base for base in cls.__mro__ if base.__module__ in ("builtins", "types"))
        try:
            clone = plain.__new__(self._rebound_class(cls))  # type: ignore[call-overload]
        except TypeError:
            raise Untraceable(f"the object {name} of type {cls.__name__}") from None
        held = clone.__dict__
        self._done[id(value)] = (value, clone)
        for key, attribute in vars(value).items():
            get = lambda k=key: vars(value)[k]
            held[key] = self.rebind(attribute, f"{name}.{key}", get)
        before = dict(held)
        self._checks.append(
            lambda: "" if held.keys() == before.keys() and all(held[k] is before[k] for k in held)
            else f"it changes an attribute of {name}"
        )  # fmt: skip
        return clone

    def _rebound_class(self, cls: type) -> type:
        done = self._done.get(id(cls))
        if done is not None:
            return done[1]
        body: dict[str, Any] = {}
        for base in reversed(cls.__mro__[:-1]):
            for key, value in vars(base).items():
                if isinstance(value, FunctionType):
                    body[key] = self._function(value) if not _foreign(value) else value
                elif isinstance(value, property) and isinstance(value.fget, FunctionType):
                    body[key] = property(self._function(value.fget), value.fset, value.fdel)
                elif isinstance(value, bool | int | float | str | tuple) and not key.startswith(
                    "__"
                ):
                    self._note(f"{base.__name__}.{key}", lambda b=base, k=key: vars(b)[k], value)
        try:
            made = type(cls.__name__, (cls,), {k: v for k, v in body.items() if k != "__new__"})
        except TypeError:
            raise Untraceable(f"the class {cls.__name__} cannot be derived from") from None
        self._done[id(cls)] = (cls, made)
        return made


def _is_torch(module: ModuleType) -> bool:
    return module.__name__ == "torch" or module.__name__.startswith("torch.")
