"""A parameter group at run time: its dict, its bound chain, and which hypers were set on purpose."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import torch

from weft.callback import Shared
from weft.contract.bind import Binding, Call, missing_hyper
from weft.contract.dims import looks_at_dims
from weft.contract.hyperparameters import (
    NOT_HYPERS,
    NOT_NEGATIVE,
    check_bounds,
    check_kind,
    check_length,
    refuse_nan,
    validate,
)
from weft.errors import ChainError, StepError, slip_of

__all__ = [
    "TORCHS_FLAGS",
    "BoundGroup",
    "Group",
    "Hypers",
    "as_groups",
    "check_complex",
    "check_loss",
    "check_rank",
    "describe",
]


TORCHS_FLAGS = ("differentiable", "capturable")  # keys of a group that no chain reads


class Group(dict):
    """A parameter group without betas in an optimizer where other groups have them.

    A scheduler that cycles momentum looks at the optimizer's defaults once, and then writes the
    first of `betas` into every group. Here that reaches the chain's `momentum`, where it has one.

    >>> group = Group(momentum=0.9)
    >>> group["betas"] = (0.8, *group["betas"][1:])
    >>> group
    {'momentum': 0.8}
    """

    def __missing__(self, key: str) -> Any:
        if key == "betas":
            return (self["momentum"],) if "momentum" in self else ()
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "betas" and key not in self and "momentum" in self:
            key, value = "momentum", value[0]
        super().__setitem__(key, value)

    def __reduce__(self):
        return Group, (dict(self),)


class BoundGroup:
    """One entry of `param_groups` with the chain that it runs.

    Attributes:
        index: its place in `param_groups`.
        group: the dict itself, so that a scheduler's writes are seen.
        binding: the chain, with every name accounted for.
        given: hypers that somebody set: these beat a key of the same name in a parameter's state.
        own_chain: the group brought its chain, rather than taking the optimizer's.
        had: hypers that its chain has, or had before an option took the callback away that reads
            them: a momentum that was scheduled to zero can be scheduled back.
        left: states that its chain has, or had likewise, and that may still be there.
        chosen: the values of the options that its chain was last selected by.
    """

    __slots__ = ("binding", "chosen", "given", "group", "had", "index", "left", "own_chain")

    def __init__(self, index: int, group: dict[str, Any], binding: Binding, given: set[str]):
        self.index, self.group, self.binding, self.given = index, group, binding, given
        self.own_chain = False
        self.chosen: list[Any] = []
        self.had, self.left = set(binding.hyper_names), set(binding.state_names)

    @property
    def elements(self) -> tuple[Any, ...]:
        """The chain's elements, as they were given."""
        return self.binding.elements

    @property
    def params(self) -> list[torch.Tensor]:
        """The group's parameters."""
        return self.group["params"]

    @property
    def differentiable(self) -> bool:
        """Whether its steps run under autograd."""
        return bool(self.group.get("differentiable"))

    @property
    def capturable(self) -> bool:
        """Whether its steps can be captured in a CUDA graph."""
        return bool(self.group.get("capturable"))

    def is_set(self, name: str) -> bool:
        """Whether a hyper was set rather than defaulted, so that it beats state of that name."""
        if name in self.given or name not in self.binding.hypers:
            return True
        value, default = self.group[name], self.binding.hypers[name]
        return value is not default and (type(value) is not type(default) or value != default)

    def fill_defaults(self) -> None:
        """Put the chain's hyper defaults and shared values where the group has none.

        Raises:
            ChainError: for a hyper without a default that the group does not give.
            TypeError: for one of another kind than the callback's default.
            ValueError: for a tuple that is too short for a callback, or a number out of its bounds.
        """
        self.had |= set(self.binding.hyper_names)
        self.left |= set(self.binding.state_names)
        for name, default in self.binding.hypers.items():
            check_kind(name, self.group.setdefault(name, default), default)
        for name, declared in self.binding.shared.items():
            self.group.setdefault(name, declared.init if isinstance(declared, Shared) else declared)
        for name in self.binding.required:
            if name not in self.group:
                raise missing_hyper(self.binding, name, self.group)
        self._check_disputed()
        self._check_lengths()
        self.check_bounds(self.group)

    def check_bounds(self, hypers: Mapping[str, Any]) -> None:
        """Refuse values out of the bounds that the chain's callbacks say.

        Raises:
            ValueError: names the hyper and the callback.
        """
        for call in self.binding.calls:
            renamed = {n: ">= 0" for a, n in call.spec.args.items() if a != n and a in NOT_NEGATIVE}
            bounds = {**renamed, **call.spec.bounds}
            check_bounds(bounds, {**call.local, **hypers}, call.spec.where)

    def _check_disputed(self) -> None:
        """Refuse one value where callbacks want several: a number here and a tuple there, say."""
        for call in self.binding.calls:
            for name, default in call.local.items():
                try:
                    check_kind(name, self.group.get(name, default), default)
                except (TypeError, ValueError) as e:
                    raise self._disputed(call, name) from e

    def _check_lengths(self) -> None:
        tuples = {k: v for k, v in self.group.items() if type(v) is tuple or type(v) is list}
        for call in self.binding.calls if len(tuples) > ("params" in tuples) else ():
            for arg, (least, exact) in call.spec.seen.lengths:
                name = call.spec.args.get(arg)
                if name in tuples:
                    try:
                        check_length(name, tuples[name], least, exact, call.spec.where)
                    except ValueError as e:
                        if name not in call.local:
                            raise
                        raise self._disputed(call, name) from e

    def _disputed(self, call: Call, name: str) -> ChainError:
        return ChainError(
            f"{call.spec.where} takes a hyper {name!r} such as {call.local[name]!r}, and the chain has "
            f"{self.group[name]!r} there, for another callback: give it one of its own, "
            f'weft.rename({call.name}, {name}="{call.name}_{name}")'
        )

    def name_of(self, i: int) -> str:
        """What messages call parameter `i` of this group: its name where it is known."""
        return describe(self.group, self.index, i)


def describe(group: dict[str, Any], index: int, i: int) -> str:
    """A parameter in words: its name if the optimizer was given names, its place and its shape."""
    shape = tuple(group["params"][i].shape)
    names = group.get("param_names")
    if names:
        return f"{names[i]!r} {shape}"
    return f"{i} of group {index} {shape}"


class Hypers(MutableMapping):
    """A live view of one group's hypers; the original's names reach the field's.

    `mom` is `momentum` or `betas[0]`, `sqr_mom` is `betas[1]` or `alpha`, `wd` is `weight_decay`,
    wherever the chain has those and not the original's.
    """

    __slots__ = ("bound",)

    def __init__(self, bound: BoundGroup):
        self.bound = bound

    def _target(self, name: str) -> tuple[str, int | None]:
        """The key that `name` reaches, and the place in its tuple."""
        own = self.bound.had
        if name not in own:
            for key, place in ALIASES.get(name, ()):
                if key in own:
                    return key, place
        return name, None

    def __getitem__(self, name: str) -> Any:
        key, place = self._target(name)
        if key in NOT_HYPERS:
            raise KeyError(name)
        value = self.bound.group[key]
        return value if place is None else value[place]

    def __setitem__(self, name: str, value: Any) -> None:
        key, place = self._target(name)
        if place is not None:
            old = self.bound.group[key]
            value = (*old[:place], value, *old[place + 1 :])
        elif key not in self.bound.group and not self.bound.binding.knows_hyper(key):
            meant = slip_of(key, (*self, *ALIASES))
            if meant is not None:
                raise ChainError(f"unknown hyper {key!r}: did you mean {meant!r}?")
        self._check(key, value)
        self.bound.group[key] = value
        self.bound.given.add(key)

    def _check(self, key: str, value: Any) -> None:
        validate({key: value})
        refuse_nan({key: value})
        if key in self.bound.binding.hypers:
            check_kind(key, value, self.bound.binding.hypers[key])
        self.bound.check_bounds({key: value})

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"a hyper cannot be deleted: {name!r}")

    def __iter__(self) -> Iterator[str]:
        return (k for k in self.bound.group if k not in NOT_HYPERS)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


ALIASES: dict[str, tuple[tuple[str, int | None], ...]] = {
    "mom": (("momentum", None), ("betas", 0)),
    "sqr_mom": (("betas", 1), ("alpha", None)),
    "wd": (("weight_decay", None),),
}


def refuse_twice(group: dict[str, Any], index: int) -> None:
    """Refuse a parameter that a new group holds twice: a step would move it twice.

    torch warns that this will be an error.
    """
    if isinstance(group["params"], torch.Tensor | set):  # torch has its own words for a set
        return
    params = group["params"] = list(group["params"])
    seen: dict[int, int] = {}
    for i, entry in enumerate(params):
        p = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
        first = seen.setdefault(id(p), i)
        if first != i and isinstance(p, torch.Tensor):
            name = (
                f"{entry[0]!r} and {params[first][0]!r}" if p is not entry else f"{first} and {i}"
            )
            raise ValueError(
                "optimizer contains a parameter group with duplicate parameters: parameters "
                f"{name} of group {index} are the same tensor"
            )


def as_groups(params: Any) -> Any:
    """torch's forms of parameters, and the original's list of lists."""
    if isinstance(params, torch.Tensor | Mapping):
        return params  # torch has its own words for these mistakes
    params = list(params)
    if not params or not _is_list(params[0]):
        return params
    return [{"params": list(g)} if _is_list(g) else g for g in params]


def _is_list(x: Any) -> bool:
    """Whether `x` is a group of the original's list of lists, rather than a named pair."""
    if isinstance(x, torch.Tensor | Mapping | str) or not hasattr(x, "__iter__"):
        return False
    return not (isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], str))


def check_rank(bound: BoundGroup) -> None:
    for spec, ranks in bound.binding.ndim:
        for i, p in enumerate(bound.params):
            if p.ndim not in ranks:
                raise ChainError(
                    f"{spec.where} takes parameters of {' or '.join(map(str, ranks))} dimensions, "
                    f"and parameter {bound.name_of(i)} has {p.ndim}: give it a group with another "
                    "chain, or route it with weft.route; see docs/limits.md#methods-for-matrices"
                )


def check_complex(bound: BoundGroup) -> None:
    """Refuse a complex parameter where a callback looks at dimensions: it is stepped as pairs of reals."""
    for i, p in enumerate(bound.params):
        if p.is_complex():
            for spec in (c.spec for c in bound.binding.calls if looks_at_dims(c.spec.fn)):
                raise ChainError(
                    f"{spec.where} does not support complex parameters, for it looks at rows, columns "
                    f"or units, and parameter {bound.name_of(i)} is complex: give "
                    "torch.view_as_real of it; see docs/limits.md#complex-parameters"
                )


def check_loss(groups: list[BoundGroup], loss: Any) -> None:
    """Refuse a step without a loss where a chain reads it."""
    for bound in groups:
        if bound.binding.reads_loss and loss is None:
            reader = next(c for c in bound.binding.calls if any(n == "loss" for _, n in c.reads))
            raise StepError(
                f"{reader.spec.where} reads 'loss': call step(closure) or step(loss=...); see "
                "docs/limits.md#the-loss"
            )
