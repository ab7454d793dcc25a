"""Optimizers by name, for command lines and configs."""

import ast
import fnmatch
import functools
from collections.abc import Mapping
from typing import Any

from weft import callbacks, wrappers
from weft.callback import read
from weft.chain import Chain
from weft.contract.roles import superseded
from weft.errors import ChainError, did_you_mean
from weft.optimizer.optimizer import Optimizer
from weft.optimizers import algorithms
from weft.wrapper import Wrapper

__all__ = ["create", "list_optimizers", "modifiers", "woven"]

OF_CHAINS = {"differentiable"}  # keywords that every chain takes, and not every class


def list_optimizers(pattern: str = "*") -> list[str]:
    """The names of the optimizers, as `create` takes them.

    Args:
        pattern: a glob that the names have to match.

    >>> import weft
    >>> weft.list_optimizers("qh*")
    ['qhadam', 'qhm']
    """
    return fnmatch.filter(algorithms(), pattern.lower())


@functools.cache
def modifiers() -> Mapping[str, Any]:
    """What may follow a plus in `create`: the vocabulary's callbacks, and wrappers in lower case.

    >>> modifiers()["cautious"].__name__, modifiers()["sam"].__name__
    ('cautious', 'SAM')
    """
    around = {k.lower(): v for k, v in vars(wrappers).items() if _is_wrapper(v)}
    inside = {k: v for k, v in vars(callbacks).items() if k[0] != "_" and callable(v)}
    return {**inside, **around}


def create(spec: str, params: Any, **hypers: Any) -> Optimizer:
    """An optimizer from words: a name, then modifiers, each with its own arguments.

    Args:
        spec: such as "adamw", "adamw+lookahead(k=5)". Modifiers are callbacks of
            `weft.callbacks` and wrappers of `weft.wrappers`.
        params: what every optimizer takes.
        **hypers: of the optimizer.

    Raises:
        ChainError: for a name that there is not.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.create("sgd+lookahead(k=2)", [p], lr=0.1)
    >>> opt.step(); opt.step(); p.data
    tensor([0.9000, 0.9000])
    """
    parts = [_parse(part) for part in _split(spec)]
    cls, options = _algorithm(parts[0][0]), parts[0][1]
    if len(parts) == 1 and not (hypers.keys() & OF_CHAINS) - cls.keywords():
        return cls(params, **{**options, **hypers})
    selecting = {k: hypers.pop(k) for k in cls.chain_options if k in hypers}
    return _weave(spec, parts, selecting)(params, **hypers)


def woven(spec: str) -> Chain:
    """The chain that words name, as `create` takes them.

    >>> woven("sgd(lr=0.5)+lookahead").defaults["lr"]
    0.5
    """
    return _weave(spec, [_parse(part) for part in _split(spec)], {})


def _algorithm(name: str) -> Any:
    """The class of a name."""
    found = algorithms()
    if name not in found:
        if name in modifiers():
            raise ChainError(f"{name!r} follows an optimizer, as in 'adamw+{name}'")
        raise ChainError(
            f"no optimizer is called {name!r}{did_you_mean(name, [*found, *modifiers()])}"
        )
    return found[name]


def _weave(spec: str, parts: list[tuple[str, dict[str, Any]]], selecting: dict[str, Any]) -> Chain:
    """A chain from a name, its options, and modifiers."""
    name, options = parts[0]
    out: Chain = _algorithm(name).chain(**{**options, **selecting})
    added = [_modifier(*part) for part in parts[1:]]
    for i, modifier in enumerate(added):
        if superseded(added[:i], modifier):
            raise ChainError(
                f"{spec!r} has two of a kind: {parts[i + 1][0]!r} would take the place of one"
            )
        out = out + modifier
    return out


def _modifier(name: str, arguments: dict[str, Any]) -> Any:
    """A callback or a wrapper by its name, with its own values for hypers."""
    known = modifiers()
    if name not in known:
        raise ChainError(f"no modifier is called {name!r}{did_you_mean(name, known)}")
    found = known[name]
    if isinstance(found, type):
        return found(**arguments)
    hypers = read(found).hypers
    for wrong in arguments.keys() - hypers.keys():
        raise ChainError(
            f"{name} has no hyper {wrong!r}{did_you_mean(wrong, hypers)}; it has {[*hypers]}"
        )
    return functools.partial(found, **arguments) if arguments else found


def _is_wrapper(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Wrapper)


def _split(spec: str) -> list[str]:
    """The parts between the plus signs that stand outside parentheses."""
    parts, depth = [""], 0
    for c in spec:
        depth += (c == "(") - (c == ")")
        if c == "+" and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts]


def _parse(part: str) -> tuple[str, dict[str, Any]]:
    """`name(a=1, b=2)` as a name and its arguments, which are literals."""
    try:
        node = ast.parse(part, mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            return node.func.id.lower(), {
                str(k.arg): ast.literal_eval(k.value) for k in node.keywords
            }
        if isinstance(node, ast.Name):
            return node.id.lower(), {}
    except (SyntaxError, ValueError):
        pass
    raise ChainError(
        f"{part!r} is not a name, or a name with keyword arguments such as lookahead(k=5)"
    )
