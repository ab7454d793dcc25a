"""Loading a state dict: checked whole before anything is written, in the dtype that the chain chose."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch

from weft.callback import State
from weft.contract.declare import SCALAR_DTYPES, kept_dtype, scalar_dtype
from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.contract.hyperparameters import check_length, is_one, validate
from weft.engine.eager.infer_state import states_made
from weft.errors import StateError
from weft.optimizer.older import MOVED, of_the_group
from weft.wrapper import TRAIN_MODE

__all__ = ["load"]

LARGEST = torch.finfo(torch.float32).max  # torch's format of a step count
FREE = ("do_wd", "force_train")  # what the original's Learner writes into any state


def load(opt: Any, bounds: list[BoundGroup], given: Mapping[str, Any], strict: bool) -> None:
    """Load `given` into the optimizer `opt` whose groups are `bounds`.

    Raises:
        StateError: and nothing has been loaded.
    """
    _check_form(given)
    given = dict(given)
    for hook in opt._optimizer_load_state_dict_pre_hooks.values():
        changed = hook(opt, given)
        if changed is not None:
            given = changed
    _check_form(given)
    saved = zip(bounds, _matched(bounds, given), strict=True)
    loaded = [_group(opt, b, g, strict) for b, g in saved]
    state = _state(opt, loaded, given, strict)
    opt.__setstate__({"state": state, "param_groups": [b.group for b in loaded]})
    for hook in opt._optimizer_load_state_dict_post_hooks.values():
        hook(opt)


def _check_form(given: Any) -> None:
    if not isinstance(given, Mapping):
        raise StateError(f"not an optimizer's state dict, but {type(given).__name__}")
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
        if not isinstance(g, Mapping) or not isinstance(g.get("params"), list | tuple):
            raise StateError("not an optimizer's state dict: a group of it has no list of 'params'")
        names = g.get("param_names", g["params"])
        if not isinstance(names, list | tuple) or len(names) != len(g["params"]):
            raise StateError(
                "the 'param_names' of a group are no list with a name for each of 'params'"
            )


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


def _group(opt: Any, bound: BoundGroup, saved: Mapping[str, Any], strict: bool) -> BoundGroup:
    """The saved group on our parameters, with its chain; hypers that it lacks keep their values."""
    states = sorted(bound.binding.states.keys() & saved.keys() - set(MOVED))
    if states and strict:
        raise StateError(
            f"this state dict is of another chain: its group {bound.index} has {states[0]!r}, which "
            "is each parameter's state here. load_state_dict(..., strict=False) takes what fits"
        )
    anew = ("param_names", TRAIN_MODE, *bound.binding.shared, *saved)
    own = {k: v for k, v in bound.group.items() if k not in anew}
    unread = () if "betas" in bound.group or "momentum" not in saved else ("betas",)
    kept = {k: v for k, v in saved.items() if k not in ("params", *states, *unread)}
    given = deepcopy({k: _as_ours(v, bound.group.get(k)) for k, v in kept.items()})
    group = type(bound.group)({**own, **given})
    group["params"] = bound.params
    if "param_names" in bound.group:
        group.setdefault("param_names", bound.group["param_names"])
    try:
        counted = {w.key(name) for w in opt._wrappers for name in w.numbers}
        for name, value in group.items():
            if name in bound.group and name not in (*NOT_HYPERS, *counted):
                _check_hyper(name, value, bound.group[name])
        validate(group)
        loaded = opt._loaded(bound, group)
        loaded.check_bounds(group)
        return loaded
    except (ValueError, TypeError) as e:
        raise StateError(f"group {bound.index} of the state dict: {e}") from e


def _as_ours(value: Any, ours: Any) -> Any:
    """A tuple where this optimizer has one: torch's distributed checkpoints make lists of them."""
    return tuple(value) if isinstance(value, list) and isinstance(ours, tuple) else value


def _check_hyper(name: str, value: Any, ours: Any) -> None:
    """Refuse a hyper that is not of the kind that the chain has there."""
    if isinstance(ours, tuple):
        check_length(name, value, len(ours), len(ours))
        fits = isinstance(value, tuple | list)
        if fits:
            for v, own in zip(value, ours, strict=True):
                _check_hyper(name, v, own)
    elif isinstance(ours, int | float | torch.Tensor):
        number = value.item() if is_one(value) else value
        fits = isinstance(number, int | float) and number == number
    else:
        return
    if not fits:
        raise ValueError(f"hyper {name!r} is {value!r}, where {ours!r} is of another kind")


def _state(
    opt: Any, bounds: list[BoundGroup], given: Mapping[str, Any], strict: bool
) -> dict[Any, Any]:
    """The saved state by parameter, checked and copied; what is None there is as good as absent."""
    place: dict[Any, tuple[BoundGroup, int]] = {}
    for b, g in zip(bounds, given["param_groups"], strict=True):
        for i, key in enumerate(g["params"]):
            first, at = place.setdefault(key, (b, i))
            if first.params[at] is not b.params[i]:
                raise StateError(f"the state dict has parameter {key!r} in its groups twice")
    prefixes = (*FREE, *(n for w in opt._wrappers for n in (f"{w.prefix}_", *w.gives)))
    state: dict[Any, Any] = defaultdict(dict)
    known: dict[Any, dict[str, Any]] = {}
    pairs = zip(bounds, given["param_groups"], strict=True)
    of_groups = {id(b): of_the_group(b.binding, g) for b, g in pairs}
    for key, saved in given["state"].items():
        if key not in place:
            if isinstance(key, int | str):
                raise StateError(
                    f"the state dict has state for {key!r}, which is in none of its groups"
                )
            state[key] = deepcopy(saved)
            continue
        bound, i = place[key]
        if not isinstance(saved, Mapping):
            raise StateError(
                f"the state of parameter {bound.name_of(i)} is {type(saved).__name__}, not a dict"
            )
        kept = {**of_groups[id(bound)], **{n: v for n, v in saved.items() if v is not None}}
        p = bound.params[i]
        held = opt.state.get(p, {})
        ours = {n for n in kept if n in held or _expected(bound, n, prefixes)}
        if strict:
            _check_names(bound, i, kept, ours, prefixes)
        else:
            kept = {n: v for n, v in kept.items() if n in ours}
        if any(n not in held and n not in bound.binding.states for n in kept):
            made = _made(bound, p, known)
            held = {**{n: v for n, v in made.items() if isinstance(v, torch.Tensor)}, **held}
        state[p] = {n: _value(bound, i, n, v, held.get(n)) for n, v in kept.items()}
    return state


def _made(bound: BoundGroup, p: torch.Tensor, known: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    """What state the chain makes for a parameter like `p`, found out once for each shape."""
    key = (bound.index, p.shape, p.dtype)
    if key not in known:
        known[key] = states_made(bound, p)
    return known[key]


def _expected(bound: BoundGroup, name: Any, prefixes: tuple[str, ...]) -> bool:
    if not isinstance(name, str):
        return False
    return bound.binding.opaque or name in bound.left or name.startswith(prefixes)


def _check_names(
    bound: BoundGroup, i: int, saved: Iterable[Any], ours: set[Any], prefixes: tuple[str, ...]
) -> None:
    """Name what is missing and what is unexpected: a state dict of another chain."""
    declared = set(bound.binding.states) | ({"step"} if bound.binding.keeps_step else set())
    missing = sorted(declared.difference(saved))
    unexpected = sorted(set(saved) - ours, key=str)
    if all(isinstance(n, str) and n.startswith(prefixes) for n in saved) or not (
        missing or unexpected
    ):
        return
    chain = ", ".join(c.name for c in bound.binding.calls)
    raise StateError(
        f"this state dict is of another chain (parameter {bound.name_of(i)}): missing "
        f"{missing or 'nothing'}, unexpected {unexpected or 'nothing'}; the chain here is "
        f"({chain}). load_state_dict(..., strict=False) takes what fits and starts the rest anew"
    )


def _value(bound: BoundGroup, i: int, name: str, value: Any, held: Any) -> Any:
    """One state value: a copy on the parameter's device, in the dtype that the chain keeps it in."""
    p = bound.params[i]
    declared = bound.binding.kept.get(name)
    if name == "step" and bound.binding.keeps_step:
        return _step(bound, i, value)
    if declared is not None and declared.is_number:
        number = value.item() if is_one(value) else value
        if type(number) is not type(declared.init) and not isinstance(number, int | float):
            raise _misfit(bound, i, name, f"{value!r}", f"{declared.init!r}")
        return number
    if not isinstance(value, torch.Tensor):
        if declared is not None or isinstance(held, torch.Tensor):
            raise _misfit(bound, i, name, f"{value!r}", "a tensor")
        return deepcopy(value)
    value = value.to_dense() if value.is_sparse else value  # as torch keeps a sparse momentum
    _check_like(bound, i, name, value, _like(p, declared, held))
    dtype = value.dtype
    own = declared.dtype_beside(p.dtype) if declared is not None else None
    if declared is not None and own is not None:
        if not (callable(declared.kept_in) and value.dtype in SCALAR_DTYPES):
            dtype = own  # else it was saved under another default
    elif value.is_floating_point() and p.is_floating_point():
        chosen = bound.binding.state_dtype if name in bound.binding.state_names else None
        dtype = kept_dtype(value.dtype, value.ndim, p.dtype, p.ndim, chosen)
    elif value.is_floating_point() and value.shape == p.shape:
        dtype = p.dtype
    return value.detach().to(p.device, dtype, copy=True)


def _step(bound: BoundGroup, i: int, value: Any) -> torch.Tensor:
    """A step count as a tensor, no narrower than it was saved; older checkpoints have a number."""
    number = value.item() if is_one(value) else value
    counts = isinstance(number, int | float) and not isinstance(number, bool)
    if not counts or not 0 <= number <= LARGEST or number != int(number):
        raise _misfit(bound, i, "step", f"{value!r}", "a number of steps")
    kept = isinstance(value, torch.Tensor) and value.dtype in SCALAR_DTYPES
    dtype = value.dtype if kept else scalar_dtype()
    return torch.tensor(float(number), dtype=dtype, device="cpu")


def _like(p: torch.Tensor, declared: State | None, held: Any) -> torch.Tensor | None:
    """A tensor of the shape and kind that a state of this name has here, where that can be told."""
    if declared is not None and declared.name:
        return p
    made = held
    if declared is not None and not (declared.made_by_callback or isinstance(held, torch.Tensor)):
        made = declared.make(p)
    return made if isinstance(made, torch.Tensor) else None


def _check_like(
    bound: BoundGroup, i: int, name: str, value: torch.Tensor, like: torch.Tensor | None
) -> None:
    """Refuse a tensor of another shape or kind than the state here."""
    p = bound.params[i]
    if like is not None and value.shape != like.shape:
        raise _misfit(bound, i, name, f"of shape {tuple(value.shape)}", f"of {tuple(like.shape)}")
    if value.is_complex() and not p.is_complex():
        raise _misfit(bound, i, name, "complex", "real")
    if value.is_meta and not p.is_meta:
        raise _misfit(bound, i, name, "on the meta device, without data,", f"on {p.device}")
    fractions = like is not None and like.ndim and (like.is_floating_point() or like.is_complex())
    if fractions and not (value.is_floating_point() or value.is_complex()):
        raise _misfit(bound, i, name, f"of {value.dtype}", "of fractions")


def _misfit(bound: BoundGroup, i: int, name: str, there: str, here: str) -> StateError:
    return StateError(
        f"state {name!r} of parameter {bound.name_of(i)} is {there} in the state dict, "
        f"and should be {here} here"
    )
