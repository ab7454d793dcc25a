"""Sparse gradients: which chains take them, and how much of a parameter a step then has to touch.

A callback says with `weft.mark(sparse=...)` what it does where there is no gradient. Nothing, for
"entries": so the entries of the gradient can be stepped alone. Something, for "dense", as momentum does:
then the gradient is made dense. Any other word is a hyper that has to be zero. Without a word, sparse
gradients are refused.
"""

import functools
from typing import Any

import torch

from weft.contract.groups import BoundGroup
from weft.errors import StepError

__all__ = ["check_grads", "has_sparse", "manner", "refusal"]

TAKEN_BY = (
    "weft.SGD and weft.Adagrad, without weight_decay, take them, and so does torch.optim.SparseAdam; "
    "or use Embedding(sparse=False)"
)


def has_sparse(bound: BoundGroup) -> bool:
    """Whether a parameter of the group has a sparse grad now."""
    return any(p.grad is not None and p.grad.layout is not torch.strided for p in bound.params)


def manner(bound: BoundGroup) -> str:
    """What the group's chain does to a sparse gradient: "entries" or "dense"."""
    words = {_word(c.spec.fn) for c in bound.binding.calls}
    return "dense" if "dense" in words else "entries"


def refusal(bound: BoundGroup, grad: torch.Tensor) -> str:
    """Why the group's chain does not take a sparse gradient, in words; empty where it does."""
    if grad.layout is not torch.sparse_coo:
        return f"a chain takes sparse grads as torch.sparse_coo; {TAKEN_BY}"
    if bound.differentiable:
        return "a step under autograd wants dense grads"
    for call in bound.binding.calls:
        word = _word(call.spec.fn)
        if word is None:
            return f"{call.spec.where} does not take sparse gradients; {TAKEN_BY}"
        hyper = call.spec.args.get(word)
        if hyper and bound.group.get(hyper):
            return f"the {hyper} option is not compatible with sparse gradients; {TAKEN_BY}"
    return ""


def check_grads(groups: list[BoundGroup]) -> None:
    """Refuse grads that no chain can use, before the first write of a step."""
    for bound in groups:
        for i, p in enumerate(bound.params):
            _check_grad(bound, i, p)


def _check_grad(bound: BoundGroup, i: int, p: torch.Tensor) -> None:
    """Refuse a grad that no chain can use, before anything is written."""
    if p.grad is not None and p.grad.layout != torch.strided and (why := refusal(bound, p.grad)):
        raise StepError(
            f"parameter {bound.name_of(i)} has a sparse grad ({p.grad.layout}): {why}; "
            "see docs/limits.md#sparse-grads. No parameter has been stepped"
        )


def _word(cb: Any) -> str | None:
    while isinstance(cb, functools.partial):
        cb = cb.func
    return getattr(cb, "sparse", None)
