"""Schedule-free methods' two points: one to train at, one to evaluate at."""

from typing import Any, ClassVar

import torch

from weft.callbacks.schedulefree import average_point
from weft.wrappers.averaging import Averaged

__all__ = ["AtAverage"]


class AtAverage(Averaged):
    r"""Evaluate a schedule-free chain at its average: `opt.eval()` puts x in place, `opt.train()` y.

        x = z + (y - z) / b,   y the parameter, b what `schedule_free` kept

    It goes with the callback `schedule_free`; weft.ScheduleFreeSGD and its kin have it.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.ScheduleFreeSGD([p], lr=0.5)
    >>> opt.step(); opt.step(); opt.eval(); p.data
    tensor([0.2500, 0.2500])

    Defazio et al., 2024, arXiv:2405.15682.
    """

    numbers: ClassVar = {}

    def around_step(self, opt: Any, closure: Any) -> Any:
        """The step alone: the chain keeps what its average is made of."""
        return opt.step(closure)

    def average(self, opt: Any, p: torch.Tensor) -> torch.Tensor | None:
        """x, where parameter `p` has been stepped."""
        own = opt.state[p]
        if "z" not in own:
            return None
        return average_point(p.detach(), own["z"], own["averaged"], own.get("x"))
