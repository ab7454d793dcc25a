"""Hyperparameters as numbers: what is refused, and how one value is spread over groups."""

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch

__all__ = [
    "as_read",
    "check_bounds",
    "check_kind",
    "check_length",
    "check_one",
    "has_history",
    "is_one",
    "refuse_nan",
    "spread",
    "unused",
    "validate",
]

COMPARISONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}

NOT_HYPERS = ("params", "param_names")  # keys of a group

# hyper -> torch's word for it in "Invalid ... value: x"
NOT_NEGATIVE = {
    "eps": "epsilon",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
    "alpha": "alpha",
    "momentum_decay": "momentum_decay",
    "lr_decay": "lr_decay",
    "initial_accumulator_value": "initial_accumulator_value",
}


def validate(hypers: Mapping[str, Any]) -> None:
    """Refuse what no optimizer can use, in torch's own words where torch has them.

    Raises:
        ValueError: a negative or NaN lr, eps, decay or momentum; betas outside [0, 1).
        TypeError: a string where a number belongs.

    >>> validate({"lr": -1.0})
    Traceback (most recent call last):
    ValueError: Invalid learning rate: -1.0
    """
    check_one("lr", hypers.get("lr"))
    hypers = {name: as_read(value) for name, value in hypers.items() if name not in NOT_HYPERS}
    lr = hypers.get("lr")
    if "lr" in hypers and (lr is None or isinstance(lr, tuple)):
        raise TypeError(f"hyper 'lr' must be a number, not {lr!r}")
    if _bad("lr", lr):
        raise ValueError(f"Invalid learning rate: {lr}")
    for name, word in NOT_NEGATIVE.items():
        if _bad(name, hypers.get(name)):
            raise ValueError(f"Invalid {word} value: {hypers[name]}")
    rho: Any = hypers.get("rho")
    if _bad("rho", rho) or (_is_number(rho) and rho > 1.0):
        raise ValueError(f"Invalid rho value: {rho}")
    betas = hypers.get("betas", ())
    if not isinstance(betas, tuple | list):
        raise TypeError(f"hyper 'betas' must be a tuple of numbers, not {betas!r}")
    for i, beta in enumerate(betas):
        if not isinstance(beta, int | float | torch.Tensor) or (
            _is_number(beta) and not 0.0 <= beta < 1.0
        ):
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
    etas = _tuple(hypers.get("etas"))
    if len(etas) > 1 and not 0.0 < etas[0] < 1.0 < etas[1]:
        raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")


def refuse_nan(hypers: Mapping[str, Any]) -> None:
    """Refuse NaN where somebody gives a hyper, whatever its name.

    Raises:
        ValueError: names it.

    >>> refuse_nan({"nus": (0.7, math.nan)})
    Traceback (most recent call last):
    ValueError: Invalid nus value: (0.7, nan)
    """
    for name, given in hypers.items():
        value = as_read(given) if name not in NOT_HYPERS else ()
        if any(v != v for v in _tuple(value) or (value,) if isinstance(v, float)):
            raise ValueError(f"Invalid {name} value: {value}")


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else ()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bad(name: str, value: Any) -> bool:
    """Negative or NaN; what is no number is a mistake of its own."""
    if isinstance(value, str):
        raise TypeError(f"hyper {name!r} must be a number, not the string {value!r}")
    if isinstance(value, complex | list | dict):
        raise TypeError(f"hyper {name!r} must be a number, not {value!r}")
    return _is_number(value) and not value >= 0.0


def is_one(value: Any) -> bool:
    """Whether a value is a tensor with one real number in it."""
    return (
        isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex()
    ) and value.device.type != "meta"


def as_read(value: Any, dtype: torch.dtype | None = None) -> Any:
    """A hyper as it is read: a tensor of one element is a number, in a tuple too.

    Args:
        value: what a group has.
        dtype: what is computed in. A fraction is then a tensor of it without dimensions, so that a
            callback may use torch's functions on it; it promotes nothing.

    >>> as_read((torch.ones(1, 1), 0.5)), as_read(torch.ones(1, 1), torch.float64)
    ((1.0, 0.5), tensor(1., dtype=torch.float64))
    """
    if is_one(value):
        fraction = dtype is not None and value.is_floating_point()
        return value.detach().reshape(()).to(dtype) if fraction else value.item()
    if isinstance(value, tuple | list) and any(isinstance(v, torch.Tensor) for v in value):
        return type(value)(map(as_read, value))
    return value


def check_one(name: str, value: Any) -> None:
    """Refuse a tensor of several elements, or of none, where one number belongs, in a tuple too.

    Raises:
        ValueError: names the hyper.

    >>> check_one("eps", torch.ones(3))
    Traceback (most recent call last):
    ValueError: hyper 'eps' is one number, and was given a tensor of shape (3,)
    """
    for v in value if isinstance(value, tuple | list) else ():
        check_one(name, v)
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        if name == "lr":
            raise ValueError("Tensor lr must be 1-element")  # torch's words
        raise ValueError(
            f"hyper {name!r} is one number, and was given a tensor of shape {tuple(value.shape)}"
        )


def check_kind(name: str, value: Any, default: Any) -> None:
    """Refuse a hyper of another kind than a callback's default for it.

    Raises:
        TypeError: names it.
        ValueError: for a tensor of several elements where one number belongs.

    >>> check_kind("eps", None, 1e-8)
    Traceback (most recent call last):
    TypeError: hyper 'eps' is None, where 1e-08 is of another kind
    """
    if isinstance(default, tuple):
        fits = isinstance(value, tuple | list)
    elif isinstance(default, int | float) and not isinstance(default, bool):
        fits = isinstance(value, int | float | torch.Tensor) and not isinstance(value, bool)
    else:
        return
    check_one(name, value)
    if not fits:
        raise TypeError(f"hyper {name!r} is {value!r}, where {default!r} is of another kind")


def check_bounds(
    bounds: Mapping[str, str | tuple[str, ...]], hypers: Mapping[str, Any], where: str
) -> None:
    """Refuse what is out of the bounds that a callback, or a wrapper, says of its hypers.

    Raises:
        ValueError: names it.

    >>> check_bounds({"k": ">= 1"}, {"k": 0}, "Lookahead")
    Traceback (most recent call last):
    ValueError: Invalid k value: 0; Lookahead takes >= 1
    """
    for name, said in bounds.items():
        given = as_read(hypers.get(name))
        if isinstance(said, tuple):
            if name in hypers and given not in said:
                words = ", ".join(map(repr, said))
                raise ValueError(f"Invalid {name} value: {given!r}; {where} takes one of {words}")
            continue
        if isinstance(given, str):
            raise TypeError(
                f"hyper {name!r} must be a number, not the string {given!r}; {where} takes {said}"
            )
        for value in given if isinstance(given, tuple | list) else (given,):
            for bound in said.split(", ") if _is_number(value) else ():
                sign, limit = bound.split()
                if not COMPARISONS[sign](value, float(limit)):
                    raise ValueError(f"Invalid {name} value: {given}; {where} takes {said}")


def check_length(
    name: str, value: Any, least: int, most: int | None = None, where: str = ""
) -> None:
    """Refuse a tuple of another length than what reads it takes.

    Raises:
        ValueError: says the name, the length, and what was given.

    >>> check_length("betas", (0.9,), 2, 2)
    Traceback (most recent call last):
    ValueError: hyper 'betas' takes 2 numbers, and was given 1: (0.9,)
    """
    if not isinstance(value, tuple | list):
        return
    given = len(value)
    if given < least or (most is not None and given > most):
        wanted = f"{least}" if most == least else f"at least {least}"
        at = f" in {where}" if where else ""
        raise ValueError(
            f"hyper {name!r} takes {wanted} number{'s' * (least != 1)}{at}, and was given "
            f"{given}: {value!r}"
        )


def has_history(value: Any) -> bool:
    """Whether autograd wants to know what becomes of a value."""
    return isinstance(value, torch.Tensor) and value.requires_grad


def unused(value: Any) -> bool:
    """Whether a hyper is zero, so that what it scales may be left out: not where it has a derivative.

    >>> unused(0.0), unused(torch.zeros(())), unused(torch.zeros((), requires_grad=True))
    (True, True, False)
    """
    return bool(value == 0) and not has_history(value)


def spread(s: slice, n: int) -> list[float]:
    """One value a group from a slice: `slice(a, b)` geometrically, `slice(b)` the last group whole.

    >>> spread(slice(0.01, 1.0), 3), spread(slice(1.0), 3)
    ([0.01, 0.1, 1.0], [0.1, 0.1, 1.0])
    """
    if s.stop is None:
        raise ValueError(
            f"a slice of a hyper needs a stop: slice(low, high) or slice(high), not {s}"
        )
    if s.start is None:
        return [s.stop / 10] * (n - 1) + [s.stop]
    if n == 1:
        return [s.stop]
    ratio = math.log(s.stop / s.start) / (n - 1)
    inner = [s.start * math.exp(ratio * i) for i in range(1, n - 1)]
    return [s.start, *(float(f"{v:.15g}") for v in inner), s.stop]
