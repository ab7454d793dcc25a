"""A parameter group at run time: its dict, its bound chain, and which hypers were set on purpose."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import torch

from weft.binding import Binding, missing_hyper
from weft.callback import Shared
from weft.errors import StepError

__all__ = ["BoundGroup", "Group", "Hypers", "describe"]

NOT_HYPERS = ("params", "param_names")


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
    """

    __slots__ = ("binding", "given", "group", "index", "own_chain")

    def __init__(self, index: int, group: dict[str, Any], binding: Binding, given: set[str]):
        self.index, self.group, self.binding, self.given = index, group, binding, given
        self.own_chain = False

    @property
    def elements(self) -> tuple[Any, ...]:
        """The chain's elements, as they were given."""
        return self.binding.elements

    @property
    def params(self) -> list[torch.Tensor]:
        """The group's parameters."""
        return self.group["params"]

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
        """
        for name, default in self.binding.hypers.items():
            self.group.setdefault(name, default)
        for name, declared in self.binding.shared.items():
            self.group.setdefault(name, declared.init if isinstance(declared, Shared) else declared)
        for name in self.binding.required:
            if name not in self.group:
                raise missing_hyper(self.binding, name, self.group)

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
        own = self.bound.binding.hyper_names
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
        self.bound.group[key] = value
        self.bound.given.add(key)

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


def check_grad(bound: BoundGroup, i: int, p: torch.Tensor) -> None:
    """Refuse a grad that no chain can use, before anything is written."""
    if p.grad is not None and p.grad.layout != torch.strided:
        raise StepError(
            f"parameter {bound.name_of(i)} has a sparse grad ({p.grad.layout}), which weft's chains "
            "do not take: use torch.optim.SparseAdam for it, or Embedding(sparse=False)"
        )
