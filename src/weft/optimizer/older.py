"""What earlier versions saved, in this one's form: what is missing is found in what is there."""

import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import torch

from weft.contract import declare, groups
from weft.contract.bind import GROUP_STEP, Binding
from weft.wrapper import TRAIN_MODE, Wrapper

__all__ = ["MOVED", "complete", "of_the_group"]

# what pickles of earlier versions call these modules
for name, module in {"weft.declared": declare, "weft.groups": groups}.items():
    sys.modules.setdefault(name, module)

MOVED = ("averaged",)  # numbers of a group, schedule-free's, that are each parameter's by now


def of_the_group(binding: Binding, saved: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Numbers of each parameter that used to be its group's, from the saved group."""
    return {
        name: torch.tensor(float(saved[name]), dtype=binding.states[name].dtype, device="cpu")
        for name in MOVED
        if name in binding.states and isinstance(saved.get(name), int | float)
    }


def complete(
    binding: Binding,
    group: dict[str, Any],
    owns: Iterable[MutableMapping[str, Any]],
    wrappers: Iterable[Wrapper],
) -> None:
    """Give a group and the states of its parameters what a file had not."""
    owns = list(owns)
    for name, value in of_the_group(binding, group).items():
        for own in owns:
            near = next(
                (t.device for t in own.values() if torch.is_tensor(t) and t.ndim), value.device
            )
            own.setdefault(name, value.to(near, copy=True))
        del group[name]
    counts = [int(own["step"]) for own in owns if "step" in own]
    for name, declared in binding.shared.items():
        first = max(counts, default=0) if name == GROUP_STEP else declared.init
        group.setdefault(name, first)
    wrappers = list(wrappers)
    if wrappers:
        swapped = any(w.key("weights") in own for w in wrappers for own in owns)
        group.setdefault(TRAIN_MODE, not swapped)
