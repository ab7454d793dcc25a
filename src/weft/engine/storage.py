"""How values are kept, and whose memory they are in."""

from typing import Any

import torch

from weft.contract.bind import Call
from weft.contract.declare import LOW, scalar_dtype

__all__ = [
    "KEPT",
    "LOW",
    "GivenGrad",
    "computed_in",
    "given_to",
    "memory_of",
    "one_number",
    "stored_shape",
    "widened",
]

KEPT = frozenset((torch.float32, torch.float64, *LOW))  # dtypes of parameters that kernels serve


def computed_in(dtype: torch.dtype) -> torch.dtype:
    """The dtype that a value is computed in which is kept in this one."""
    return torch.float32 if dtype in LOW else dtype


def given_to(device: torch.device, numbers: torch.Tensor) -> torch.Tensor:
    """Numbers of the host on a device, which nobody waits for."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)


class GivenGrad:
    """What one callback is given as the grad, and whether it wrote to it."""

    __slots__ = ("pristine", "value")

    def __init__(self, value: torch.Tensor, call: Call):
        self.value = value
        self.pristine = self.value.clone() if call.spec.writes_unseen else None

    @property
    def written(self) -> bool:
        """Whether it was worked on in place."""
        if self.value._version or self.pristine is None:
            return bool(self.value._version)
        return not torch.equal(self.value, self.pristine)


def widened(value: Any) -> Any:
    """A loss in float32, where it has 16 bits."""
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in LOW else value


def one_number(value: Any) -> torch.Tensor:
    """What the function of an `over_params` gave, as a 0-dim tensor."""
    value = value.full_tensor() if hasattr(value, "full_tensor") else value  # a DTensor
    if isinstance(value, int | float):
        return torch.tensor(float(value), dtype=scalar_dtype())
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.reshape(())
    shown = tuple(value.shape) if isinstance(value, torch.Tensor) else repr(value)
    raise ValueError(f"it returned {shown}, and one number a parameter is what can be combined")


def memory_of(t: torch.Tensor) -> Any:
    """What tensors that share memory have in common."""
    try:
        return t.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):  # a tensor without storage aliases nothing we hold
        return id(t)


def stored_shape(held: torch.Tensor, value: Any) -> Any:
    """The shape that `value` has once it is stored like `held`, complex pairs joined."""
    if not isinstance(value, torch.Tensor):
        return None
    return value.shape[:-1] if held.is_complex() else value.shape
