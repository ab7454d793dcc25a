"""Loading a state dict: checked whole before anything is written, in the dtype that the chain chose."""

from collections import defaultdict
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch

from weft.callback import State, copy_of_param, ones, zeros
from weft.errors import StateError
from weft.groups import BoundGroup
from weft.hyperparameters import validate

__all__ = ["load"]

FREE = ("do_wd", "force_train")  # what the original's Learner writes into any state


def load(opt: Any, bounds: list[BoundGroup], given: Mapping[str, Any], strict: bool) -> None:
    """Load `given` into the optimizer `opt` whose groups are `bounds`.

    Raises:
        StateError: and nothing has been loaded.
    """
    given = dict(given)
    for hook in opt._optimizer_load_state_dict_pre_hooks.values():
        changed = hook(opt, given)
        if changed is not None:
            given = changed
    _check_form(given)
    groups = [_group(b, deepcopy(g)) for b, g in zip(bounds, _matched(bounds, given), strict=True)]
    state = _state(bounds, given, strict)
    opt.__setstate__({"state": state, "param_groups": groups})
    for hook in opt._optimizer_load_state_dict_post_hooks.values():
        hook(opt)


def _check_form(given: Mapping[str, Any]) -> None:
    missing = [k for k in ("state", "param_groups") if k not in given]
    if missing:
        raise StateError(
            f"not an optimizer's state dict: it has no {' and no '.join(map(repr, missing))}"
        )
    if not isinstance(given["state"], Mapping) or not isinstance(
        given["param_groups"], list | tuple
    ):
        raise StateError(
            "not an optimizer's state dict: 'state' is a dict and 'param_groups' a list"
        )
    for g in given["param_groups"]:
        if not isinstance(g, Mapping) or "params" not in g:
            raise StateError("not an optimizer's state dict: a group of it has no 'params'")


def _matched(bounds: list[BoundGroup], given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The saved groups, when they have the form of ours; otherwise torch's own words."""
    saved = list(given["param_groups"])
    if len(saved) != len(bounds):
        raise StateError(
            "loaded state dict has a different number of parameter groups "
            f"({len(saved)}, and this optimizer has {len(bounds)})"
        )
    for i, (b, g) in enumerate(zip(bounds, saved, strict=True)):
        if len(g["params"]) != len(b.params):
            raise StateError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                f"optimizer's group (group {i}: {len(g['params'])} parameters, and {len(b.params)} here)"
            )
    return saved


def _group(bound: BoundGroup, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The saved group on our parameters; hypers that it lacks keep their values."""
    try:
        validate(saved)
    except (ValueError, TypeError) as e:
        raise StateError(f"group {bound.index} of the state dict: {e}") from e
    for name, value in saved.items():
        ours = bound.group.get(name)
        is_number = isinstance(ours, int | float) and not isinstance(ours, bool)
        if is_number and (isinstance(value, str) or value != value):
            raise StateError(f"group {bound.index} of the state dict: hyper {name!r} is {value!r}")
    own = {k: v for k, v in bound.group.items() if k != "param_names"}
    group = {**own, **saved, "params": bound.params}
    if "param_names" in bound.group and "param_names" not in saved:
        group["param_names"] = bound.group["param_names"]
    return group


def _state(bounds: list[BoundGroup], given: Mapping[str, Any], strict: bool) -> dict[Any, Any]:
    """The saved state by parameter, checked and copied."""
    place = {
        key: (b, i)
        for b, g in zip(bounds, given["param_groups"], strict=True)
        for i, key in enumerate(g["params"])
    }
    state: dict[Any, Any] = defaultdict(dict)
    for key, saved in given["state"].items():
        if key not in place:
            if isinstance(key, int | str):
                raise StateError(
                    f"the state dict has state for {key!r}, which is in none of its groups"
                )
            state[key] = saved
            continue
        bound, i = place[key]
        if not isinstance(saved, Mapping):
            raise StateError(
                f"the state of parameter {bound.name_of(i)} is {type(saved).__name__}, not a dict"
            )
        own = {n: _value(bound, i, n, v) for n, v in saved.items() if strict or _expected(bound, n)}
        if strict and saved:
            _check_names(bound, i, set(saved))
        state[bound.params[i]] = own
    return state


def _expected(bound: BoundGroup, name: str) -> bool:
    wrappers = name.partition("_")[0] + "_" in {k.partition("_")[0] + "_" for k in bound.group}
    return name in bound.binding.state_names or name in FREE or wrappers or bound.binding.opaque


def _check_names(bound: BoundGroup, i: int, saved: set[str]) -> None:
    """Name what is missing and what is unexpected: a state dict of another chain."""
    declared = set(bound.binding.states) | ({"step"} if bound.binding.keeps_step else set())
    missing = sorted(declared - saved)
    unexpected = sorted(n for n in saved if not _expected(bound, n))
    if saved <= set(FREE) or not (missing or unexpected):
        return
    chain = ", ".join(c.name for c in bound.binding.calls)
    raise StateError(
        f"this state dict is of another chain (parameter {bound.name_of(i)}): missing "
        f"{missing or 'nothing'}, unexpected {unexpected or 'nothing'}; the chain here is "
        f"({chain}). load_state_dict(..., strict=False) takes what fits and starts the rest anew"
    )


def _value(bound: BoundGroup, i: int, name: str, value: Any) -> Any:
    """One state value: a copy on the parameter's device, in the dtype that the chain keeps it in."""
    p = bound.params[i]
    declared = bound.binding.states.get(name)
    if name == "step" and bound.binding.keeps_step:
        return torch.as_tensor(value, dtype=torch.float32).detach().clone().reshape(())
    if declared is not None and declared.is_number:
        return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
    if not isinstance(value, torch.Tensor):
        if declared is not None and value is not None:
            raise StateError(
                f"state {name!r} of parameter {bound.name_of(i)} is {value!r}, not a tensor"
            )
        return deepcopy(value)
    _check_shape(bound, i, name, value, declared)
    dtype = value.dtype
    if declared is not None and declared.dtype is not None:
        dtype = declared.dtype
    elif value.is_floating_point() and p.is_floating_point() and value.dtype != p.dtype:
        dtype = p.dtype
    return value.detach().to(p.device, dtype, copy=True)


def _check_shape(
    bound: BoundGroup, i: int, name: str, value: torch.Tensor, declared: State | None
) -> None:
    p = bound.params[i]
    if declared in (zeros, ones, copy_of_param) and value.shape != p.shape:
        raise StateError(
            f"state {name!r} of parameter {bound.name_of(i)} has shape {tuple(value.shape)} in the "
            f"state dict, and {tuple(p.shape)} here"
        )
