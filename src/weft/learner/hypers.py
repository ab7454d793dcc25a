"""Reading and turning an optimizer's hypers, whatever names its groups give them."""

from collections.abc import Sequence
from typing import Any

import torch

from weft.errors import did_you_mean
from weft.learner.schedules import spread

__all__ = ["Dials"]


def momentum_key(group: dict[str, Any]) -> str | None:
    """Where `group` keeps its momentum, or None where it has none or has it at zero.

    >>> momentum_key({"lr": 0.1, "momentum": 0.9})
    'momentum'
    >>> momentum_key({"lr": 0.1, "momentum": 0})
    """
    for key in ("mom", "momentum", "betas"):
        value = group.get(key)
        if value and (value[0] if key == "betas" else value):
            return key
    return None


class Dials:
    """The hypers of an optimizer, under the names that schedules use.

    `mom` is each group's `mom`, `momentum` or `betas[0]`, whichever had a value other than zero
    when the dials were made: so a plain SGD stays plain. `wd` is `wd` or `weight_decay`. Any other
    name is itself. Works with any `torch.optim.Optimizer`.

    Args:
        opt: the optimizer; its `param_groups` are read afresh each time.

    >>> w = torch.nn.Parameter(torch.zeros(1))
    >>> dials = Dials(torch.optim.AdamW([w]))
    >>> dials.set("mom", 0.5)
    >>> dials.get("mom"), dials.opt.param_groups[0]["betas"]
    ([0.5], (0.5, 0.999))
    """

    def __init__(self, opt: torch.optim.Optimizer):
        self.opt = opt
        self._momentum = [momentum_key(group) for group in opt.param_groups]

    def __len__(self) -> int:
        return len(self.opt.param_groups)

    def key(self, name: str, i: int) -> str | None:
        """The key of `name` in group `i`; None for a momentum that the group does not have.

        Raises:
            ValueError: where the group has nothing of that name.
        """
        group = self.opt.param_groups[i]
        if name == "mom":
            return self._momentum[i] if i < len(self._momentum) else momentum_key(group)
        if name in group:
            return name
        if name == "wd" and "weight_decay" in group:
            return "weight_decay"
        known = [key for key in group if key != "params"]
        raise ValueError(
            f"{type(self.opt).__name__} has no hyper {name!r} in group {i}"
            f"{did_you_mean(name, known)}; it has {', '.join(known)}"
        )

    def get(self, name: str) -> list[float | None]:
        """The value of `name` in each group, None where the group has no such momentum."""
        values = []
        for i, group in enumerate(self.opt.param_groups):
            key = self.key(name, i)
            value = None if key is None else group[key]
            if value is not None and key == "betas" and name == "mom":
                value = value[0]
            values.append(value)
        return [v.item() if isinstance(v, torch.Tensor) else v for v in values]

    def set(self, name: str, value: float | slice | Sequence[float]) -> None:
        """Give `name` to every group.

        Args:
            name: `lr`, `mom`, `wd` or a key of the groups.
            value: as in `weft.learner.schedules.spread`.

        Raises:
            ValueError: where a group has no such hyper, or the values are not one a group.
        """
        keys = [self.key(name, i) for i in range(len(self))]
        values = spread(value, len(self))
        for group, key, new in zip(self.opt.param_groups, keys, values, strict=True):
            if key is None:
                continue
            if key == "betas" and name == "mom":
                group[key] = (new, *group[key][1:])
            elif isinstance(group[key], torch.Tensor):
                group[key].fill_(new)  # a rate that lives on the device is read by captured graphs
            else:
                group[key] = new

    def put_back(self, saved: dict[str, list[float | None]]) -> None:
        """Set what `get` gave, name by name.

        >>> dials = Dials(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
        >>> dials.put_back({"lr": [0.2], "mom": [None]})
        >>> dials.get("lr")
        [0.2]
        """
        for name, values in saved.items():
            self.set(name, [0.0 if value is None else value for value in values])
