"""What the default of an argument declares: per-parameter state, or one value for a group."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = [
    "SCALAR_DTYPES",
    "Shared",
    "State",
    "as_dtype",
    "copy_of_param",
    "kept_dtype",
    "ones",
    "scalar_dtype",
    "shared",
    "start",
    "state",
    "zeros",
]

LOW = (torch.bfloat16, torch.float16)


SCALAR_DTYPES = (torch.float32, torch.float64)


def scalar_dtype() -> torch.dtype:
    """The dtype of a number that is kept as a tensor, a count of steps say, as torch has it."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32


def as_dtype(value: Any) -> torch.dtype | None:
    """A `state_dtype`, which a config may spell: "float32".

    Raises:
        TypeError: for what is no dtype of fractions.
    """
    dtype = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if value is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        return dtype
    raise TypeError(f"state_dtype is a dtype such as torch.float32, not {value!r}")


def kept_dtype(
    dtype: torch.dtype, ndim: int, p: torch.dtype, p_ndim: int, chosen: torch.dtype | None
) -> torch.dtype:
    """What a state is kept in that declares no dtype.

    Args:
        dtype, ndim: the value's, and how many dimensions it has.
        p, p_ndim: the parameter's.
        chosen: the group's `state_dtype`.
    """
    if not (dtype.is_floating_point and p.is_floating_point):
        return dtype
    kept = chosen or p
    one = ndim == 0 and p_ndim > 0  # a number of one parameter costs nothing in float32
    return torch.float32 if one and kept in LOW else kept


@dataclass(frozen=True)
class State:
    """Per-parameter state: how its first value is made, and its dtype where it is not the parameter's.

    `kept_in` may be a function: a dtype that is decided when the state is made.
    """

    init: Any
    kept_in: torch.dtype | Callable[[], torch.dtype] | None = None
    name: str = ""
    least: torch.dtype | None = None

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype that a state made now is kept in; None for the parameter's."""
        return self.kept_in() if callable(self.kept_in) else self.kept_in

    def make(
        self, p: torch.Tensor, chosen: torch.dtype | None = None, *, graph: bool = False
    ) -> Any:
        """The initial value for parameter `p`: a fresh tensor, or a number.

        `chosen`: the group's `state_dtype`; `graph`: under autograd.
        """
        value = self.init(p.clone() if graph else p.detach()) if callable(self.init) else self.init
        if isinstance(value, torch.Tensor):
            declared = self.dtype_beside(p.dtype)
            dtype = declared or kept_dtype(value.dtype, value.ndim, p.dtype, p.ndim, chosen)
            return value.to(dtype, copy=not self.name)  # the user's may alias something kept
        if self.dtype is not None:
            return torch.tensor(value, dtype=self.dtype, device=p.device)
        return value

    def dtype_beside(self, dtype: torch.dtype) -> torch.dtype | None:
        """The dtype that is declared, for a parameter of this one; None for the parameter's own."""
        return self.dtype if self.least is None else torch.promote_types(dtype, self.least)

    @property
    def made_by_callback(self) -> bool:
        """Whether nothing is made ahead: the callback gets None, and returns the first value."""
        return self.init is None

    @property
    def outgrows_16_bits(self) -> bool:
        """Whether what is measured by it is less, at first, than 16 bits can tell."""
        return self.name == "start"

    @property
    def is_number(self) -> bool:
        """Whether the state is a Python value rather than a tensor."""
        a_tensor = callable(self.init) or isinstance(self.init, torch.Tensor)
        return not (a_tensor or self.dtype or self.least)

    def __repr__(self) -> str:
        return f"weft.{self.name}" if self.name else f"weft.state({self.init!r})"

    def __reduce__(self):
        return self.name if self.name else (State, (self.init, self.kept_in, "", self.least))


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
start: Any = State(_copy, name="start")  # where the parameter began, to measure how far it has come


def state(
    initial: Any,
    dtype: torch.dtype | Callable[[], torch.dtype] | None = None,
    *,
    least: torch.dtype | None = None,
) -> Any:
    """Declare per-parameter state, as a callback's default.

    Args:
        initial: a number, or a function of the parameter that returns a tensor; None for a tensor
            that the callback makes itself, when it is given None.
        dtype: of the state's tensors, or a function that gives it; the parameter's where it is
            not given.
        least: instead, a dtype that the parameter's is widened to where it is narrower: with
            torch.float32 the state of a bfloat16 parameter is float32, of a float64 one float64.

    >>> import torch, weft
    >>> def rows(grad, row_sq=weft.state(lambda p: p.new_zeros(p.shape[:1]))):
    ...     return {"row_sq": row_sq + grad.square().sum(dim=1)}
    >>> p = torch.nn.Parameter(torch.ones(2, 3)); p.grad = torch.ones(2, 3)
    >>> opt = weft.Optimizer([p], [rows, weft.callbacks.descend], lr=0.)
    >>> opt.step(); opt.state[p]["row_sq"]
    tensor([3., 3.])
    """
    return State(initial, dtype, least=least)


def shared(initial: float) -> Any:
    """Declare one value for all parameters of a group, updated once a step, as a callback's default.

    It is kept in the parameter group under its name, as a number. The first parameter that returns
    it in a step decides its new value; the other parameters read the old one until they return it.

    >>> import weft
    >>> def tally(n=weft.shared(0.)): return {"n": n + 1}
    """
    return Shared(float(initial))
