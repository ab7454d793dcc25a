"""Making the learner's optimizer, and what it asks of the loop."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weft.optimizer.optimizer import Optimizer

__all__ = ["make_optimizer", "needs_closure"]


def make_optimizer(
    opt_func: Callable[..., torch.optim.Optimizer],
    model: nn.Module,
    splitter: Callable[[nn.Module], Sequence[Iterable[Tensor]]] | None,
    lr: float | slice,
) -> torch.optim.Optimizer:
    """Call `opt_func(params, lr=lr)` with the model's parameters.

    Args:
        opt_func: an optimizer class, a chain, a partial of either, or any function.
        model: its parameters that require a grad are trained.
        splitter: gives lists of parameters; without it there is one flat list.
        lr: a number, or a slice, of which the last rate is used here.

    Raises:
        ValueError: where the model has no parameter to train, or the splitter leaves some out.

    >>> opt = make_optimizer(torch.optim.SGD, nn.Linear(2, 1), None, 0.1)
    >>> opt.param_groups[0]["lr"]
    0.1
    """
    rate = lr.stop if isinstance(lr, slice) else lr
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError(f"{type(model).__name__} has no parameter that requires a grad")
    if splitter is None:
        return opt_func(trainable, lr=rate)
    groups = [list(group) for group in splitter(model)]
    known = {id(p) for group in groups for p in group}
    named = model.named_parameters()
    if left_out := [name for name, p in named if p.requires_grad and id(p) not in known]:
        raise ValueError(f"the splitter leaves out {', '.join(left_out)}: never to be trained")
    if is_torch_class(opt_func):
        return opt_func([{"params": group} for group in groups], lr=rate)
    return opt_func(groups, lr=rate)


def is_torch_class(opt_func: Any) -> bool:
    """Whether this is a class of torch's kind, which takes dicts and no list of lists.

    >>> is_torch_class(functools.partial(torch.optim.SGD, momentum=0.9))
    True
    """
    while isinstance(opt_func, functools.partial):
        opt_func = opt_func.func
    return (
        isinstance(opt_func, type)
        and issubclass(opt_func, torch.optim.Optimizer)
        and not issubclass(opt_func, Optimizer)
    )


def needs_closure(opt: Any) -> bool:
    """Whether `opt.step` has to be given a closure: LBFGS, and what says `needs_closure`.

    >>> w = [nn.Parameter(torch.zeros(1))]
    >>> needs_closure(torch.optim.LBFGS(w)), needs_closure(torch.optim.SGD(w, lr=0.1))
    (True, False)
    """
    if getattr(opt, "needs_closure", False):
        return True
    # torch wraps `step` in a method of its own, but keeps the original's signature
    parameters = inspect.signature(type(opt).step).parameters
    closure = parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
