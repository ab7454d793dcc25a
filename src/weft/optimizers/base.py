"""What every optimizer of the literature is: an `Optimizer` whose class says which chain it runs."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, get_type_hints

import torch

from weft.chain import Chain, chain
from weft.contract.bind import bind
from weft.contract.groups import BoundGroup
from weft.contract.hyperparameters import check_one, unused
from weft.errors import ChainError, did_you_mean, refuse_unknown
from weft.optimizer.optimizer import Optimizer
from weft.wrapper import Wrapper

__all__ = ["Algorithm", "algorithms"]

_REGISTRY: dict[str, type["Algorithm"]] = {}


class BesideTorchs(TypedDict, total=False):
    """Keywords that every optimizer takes and that none of torch's has; see `weft.Optimizer`."""

    engine: str
    on_nonfinite: str
    state_dtype: torch.dtype | None


class OfTheOptimizer(BesideTorchs, total=False):
    """Keywords that every optimizer takes and that are no hypers; see `weft.Optimizer`."""

    capturable: bool


OF_THE_OPTIMIZER = {  # as a signature shows them
    name: inspect.signature(Optimizer).parameters[name].replace(annotation=kind)
    for name, kind in get_type_hints(OfTheOptimizer).items()
}


class Algorithm(Optimizer):
    """Base of the optimizers that have a name: hypers in the constructor, a chain in `chain`.

    A subclass writes its hypers out in its constructor and hands `locals()` to `super().__init__`.
    What is every optimizer's it takes as `**optimizer`, which `inspect.signature` and `help` show in
    full. `blocks` are the callbacks that it is made of. Where those depend on options, it has a
    `chain` instead that takes them, and names them in `chain_options`; a group may set its own, and
    a change takes effect at the next step.

    What makes a class what it is never comes from a file. An option that its constructor does not
    take stays what this optimizer has when a state dict is loaded, its base's above all. One in `fixed`
    moreover has that value in every group, and after a pickle or a copy too.

    Attributes:
        paper: authors, year, arXiv id; empty for what has none.
        blocks: the callbacks, where no option selects among them.
        fixed: options of its base that a class fixes, and their values.
    """

    paper: ClassVar[str] = ""
    blocks: ClassVar[tuple[Any, ...]]
    fixed: ClassVar[Mapping[str, Any]] = {}
    _chains: ClassVar[dict[Any, tuple[Any, ...]]]
    _defaults: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            _show_in_full(vars(cls)["__init__"])
        cls._chains = {}
        cls.refuses_twice = not hasattr(torch.optim, cls.__name__)
        if cls.__module__.startswith("weft."):
            _REGISTRY[cls.__name__.lower()] = cls

    def __new__(cls, *args: Any, **keywords: Any):
        refuse_unknown(cls, keywords, Algorithm)
        return super().__new__(cls)

    def __init__(self, params: Any, arguments: Mapping[str, Any]):
        hypers = {k: v for k, v in arguments.items() if k not in ("self", "params", "__class__")}
        hypers |= self.fixed
        own = hypers.pop("optimizer", {})
        for name in own.keys() - OF_THE_OPTIMIZER.keys():
            raise TypeError(
                f"{type(self).__name__}.__init__() got an unexpected keyword argument {name!r}"
            )
        own |= {name: hypers.pop(name) for name in OF_THE_OPTIMIZER if name in hypers}
        for name in hypers:
            check_one(name, hypers[name])
        more = hypers.pop("hypers", {})  # what a subclass takes as **hypers
        options = {k: hypers[k] for k in self.chain_options}
        woven = type(self).chain(**options)
        super().__init__(params, _Woven(woven), **own, **hypers, **more)

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        """The callbacks of this optimizer, with its defaults; `hypers` override those."""
        return cls.weave(*cls.blocks, **hypers)

    @classmethod
    def weave(cls, *cbs: Any, **hypers: Any) -> Chain:
        """A chain of what is given (None and False are left out), with the class's hyper defaults."""
        elements = [cb for cb in cbs if cb]
        kept_in = {n: hypers.pop(n) for n in ("state_dtype",) if n in hypers}
        signature = cls._signature()
        unknown = set(hypers) - set(signature)
        if unknown:
            name = sorted(unknown)[0]
            raise TypeError(f"{cls.__name__}.chain has no {name!r}{did_you_mean(name, signature)}")
        hypers = {**signature, **hypers}
        bound = bind([e for e in elements if not isinstance(e, Wrapper)], hypers)
        known = {n: v for n, v in hypers.items() if bound.knows_hyper(n)}
        return chain(*elements, **known, **kept_in)

    @classmethod
    def _signature(cls) -> dict[str, Any]:
        """The defaults of the constructor, and of those that a user's subclass hands them on to."""
        if "_defaults" not in cls.__dict__:
            cls._defaults = cls._read_defaults()
        return cls._defaults

    @classmethod
    def _read_defaults(cls) -> dict[str, Any]:
        named = inspect.signature(cls.__init__).parameters
        beside = OF_THE_OPTIMIZER.keys() - set(cls.__init__.__code__.co_varnames)
        own = {
            n: p.default for n, p in named.items() if p.default is not p.empty and n not in beside
        }
        base = cls.__bases__[0]
        users = not cls.__module__.startswith("weft.") and issubclass(base, Algorithm)
        return {**base._signature(), **own} if users and base is not Algorithm else own

    @classmethod
    def keywords(cls) -> set[str]:
        """What the constructor takes by name."""
        return set(inspect.signature(cls.__init__).parameters)

    def _chain_for(self, group: Mapping[str, Any]) -> tuple[Any, ...]:
        """The chain for a group's options; a number selects by being zero or not.

        Raises:
            ChainError: for a group that has an option otherwise than the class fixes it.
        """
        for name, value in self.fixed.items():
            if group[name] != value:
                raise ChainError(
                    f"{type(self).__name__} is {name}={value!r}, and a group has {group[name]!r}: "
                    f"leave it out, or use {type(self).__bases__[0].__name__}"
                )
        for name in self.chain_options:
            check_one(name, group[name])
        key = tuple(_selector(group[name]) for name in self.chain_options)
        found = self._chains.get(key)
        if found is None:
            woven = type(self).chain(**{name: group[name] for name in self.chain_options})
            found = tuple(e for e in woven if not isinstance(e, Wrapper))
            self._chains[key] = found
        return found

    def _loaded(self, bound: BoundGroup, group: dict[str, Any]) -> BoundGroup:
        """`bound` as it is once `group` has been loaded, which does not say what the class is."""
        if not bound.own_chain:
            taken = inspect.signature(type(self).__init__).parameters
            own = {n: bound.group[n] for n in self.chain_options if n not in taken}
            group.update(own, **self.fixed)
        return super()._loaded(bound, group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        for group in state["param_groups"]:
            group.update({n: v for n, v in self.fixed.items() if n in group})
        super().__setstate__(state)

    def _declared(self) -> dict[str, Any]:
        """Options that take values of several kinds, and have words of their own for others, aside."""
        signature = self._signature()
        several = {n for n in self.chain_options if isinstance(signature.get(n), tuple)}
        return {n: v for n, v in signature.items() if n not in several}

    def _accepted(self) -> tuple[str, ...]:
        return (*self.chain_options, *self._signature())


def _show_in_full(constructor: Any) -> None:
    """Write out in a constructor's signature what it takes as `**optimizer`."""
    signature = inspect.signature(constructor)
    *parameters, last = signature.parameters.values()
    if last.kind is last.VAR_KEYWORD and last.name == "optimizer":
        parameters += [p for n, p in OF_THE_OPTIMIZER.items() if n not in signature.parameters]
        constructor.__signature__ = signature.replace(parameters=parameters)


def _selector(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_selector(v) for v in value)
    if value is None or isinstance(value, bool | str):
        return value
    return not unused(value)


class _Woven:
    """A class's own chain without its defaults: the constructor's arguments say them already."""

    def __init__(self, woven: Chain):
        self.woven = woven

    def __iter__(self):
        return iter(self.woven)


def algorithms() -> dict[str, type[Algorithm]]:
    """Every optimizer that has a name, by that name in lower case."""
    return dict(sorted(_REGISTRY.items()))
