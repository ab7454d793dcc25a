"""What the default of an argument declares: per-parameter state, or one value for a group."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = [
    "SCALAR_DTYPES",
    "Shared",
    "State",
    "copy_of_param",
    "ones",
    "scalar_dtype",
    "shared",
    "state",
    "zeros",
]


SCALAR_DTYPES = (torch.float32, torch.float64)


def scalar_dtype() -> torch.dtype:
    """The dtype of a number that is kept as a tensor, a count of steps say, as torch has it."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32


@dataclass(frozen=True)
class State:
    """Per-parameter state: how its first value is made, and its dtype where it is not the parameter's.

    `kept_in` may be a function: a dtype that is decided when the state is made.
    """

    init: Any
    kept_in: torch.dtype | Callable[[], torch.dtype] | None = None
    name: str = ""

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype that a state made now is kept in; None for the parameter's."""
        return self.kept_in() if callable(self.kept_in) else self.kept_in

    def make(self, p: torch.Tensor, *, graph: bool = False) -> Any:
        """The initial value for parameter `p`: a fresh tensor, or a number; `graph`: under autograd."""
        value = self.init(p.clone() if graph else p.detach()) if callable(self.init) else self.init
        if isinstance(value, torch.Tensor):
            floats = value.is_floating_point() and p.is_floating_point()
            dtype = self.dtype or (p.dtype if floats else value.dtype)
            return value.to(dtype, copy=not self.name)  # the user's may alias something kept
        if self.dtype is not None:
            return torch.tensor(value, dtype=self.dtype, device=p.device)
        return value

    @property
    def is_number(self) -> bool:
        """Whether the state is a Python value rather than a tensor."""
        return not (callable(self.init) or isinstance(self.init, torch.Tensor) or self.dtype)

    def __repr__(self) -> str:
        return f"weft.{self.name}" if self.name else f"weft.state({self.init!r})"

    def __reduce__(self):
        return self.name if self.name else (State, (self.init, self.kept_in))


@dataclass(frozen=True)
class Shared:
    """One value for all parameters of a group, updated once a step."""

    init: float


def _ones(p: torch.Tensor) -> torch.Tensor:
    return torch.full_like(p, 1 + 1j if p.is_complex() else 1)  # of a pair of reals, both


def _copy(p: torch.Tensor) -> torch.Tensor:
    return p.clone(memory_format=torch.preserve_format)


zeros: Any = State(torch.zeros_like, name="zeros")
ones: Any = State(_ones, name="ones")
copy_of_param: Any = State(_copy, name="copy_of_param")


def state(initial: Any, dtype: torch.dtype | Callable[[], torch.dtype] | None = None) -> Any:
    """Declare per-parameter state, as a callback's default.

    Args:
        initial: a number, or a function of the parameter that returns a tensor.
        dtype: of the state's tensors, or a function that gives it; the parameter's where it is
            not given.

    >>> import torch, weft
    >>> def rows(grad, row_sq=weft.state(lambda p: p.new_zeros(p.shape[:1]))):
    ...     return {"row_sq": row_sq + grad.square().sum(dim=1)}
    >>> p = torch.nn.Parameter(torch.ones(2, 3)); p.grad = torch.ones(2, 3)
    >>> opt = weft.Optimizer([p], [rows, weft.callbacks.descend], lr=0.)
    >>> opt.step(); opt.state[p]["row_sq"]
    tensor([3., 3.])
    """
    return State(initial, dtype)


def shared(initial: float) -> Any:
    """Declare one value for all parameters of a group, updated once a step, as a callback's default.

    It is kept in the parameter group under its name, as a number. The first parameter that returns
    it in a step decides its new value; the other parameters read the old one until they return it.

    >>> import weft
    >>> def tally(n=weft.shared(0.)): return {"n": n + 1}
    """
    return Shared(float(initial))
