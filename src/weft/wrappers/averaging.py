"""Averages of the weights, to evaluate with."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from weft.errors import StateError
from weft.wrapper import Wrapper

__all__ = [
    "LAWA",
    "SWA",
    "WeightEMA",
]

LOST = (
    "the state that was loaded was saved in evaluation mode, and the weights to train with are not in "
    "it: load all of the state dict, or save in training mode; see docs/limits.md#evaluation-mode"
)


class Averaged(Wrapper):
    """Base of what keeps an average of the weights: `opt.eval()` swaps it in, `opt.train()` back.

    A subclass says in `collect` what becomes of the average after each step. A checkpoint that is
    saved in evaluation mode holds both, and goes on after `opt.train()`.
    """

    numbers: ClassVar = {"step": 0}
    role: ClassVar = "other weights to evaluate with"

    def around_step(self, opt: Any, closure: Any) -> Any:
        """Step, then let the average follow."""
        self.begin(opt)
        loss = opt.step(closure)
        step = self.get(opt, "step") + 1
        self.set(opt, "step", step)
        self.collect(opt, step)
        return loss

    def begin(self, opt: Any) -> None:
        """What has to be kept before the first step."""

    def collect(self, opt: Any, step: int) -> None:
        """Let the average follow the weights after step `step`."""
        raise NotImplementedError

    def average(self, opt: Any, p: torch.Tensor) -> torch.Tensor | None:
        """What parameter `p` is evaluated at; None for its own value."""
        return opt.state[p].get(self.key("average"))

    def eval(self, opt: Any) -> None:
        """Put the averages in place, keeping the weights to train with."""
        for p in stepped(opt):
            average = self.average(opt, p)
            if average is not None:
                opt.state[p][self.key("weights")] = p.detach().clone()
                p.copy_(average)

    def train(self, opt: Any) -> None:
        """Put the weights to train with back.

        Raises:
            StateError: where the state that was loaded has none.
        """
        key = self.key("weights")
        if any(key not in opt.state[p] and self.average(opt, p) is not None for p in stepped(opt)):
            raise StateError(LOST)
        for p in stepped(opt):
            if key in opt.state[p]:
                p.copy_(opt.state[p].pop(key))


def stepped(opt: Any) -> Iterator[torch.Tensor]:
    """All parameters that have state, frozen or not: they may be frozen between `eval` and `train`."""
    return (p for g in opt.param_groups for p in g["params"] if p in opt.state)


def start_at_weights(wrapper: Averaged, opt: Any) -> None:
    """Let the averages that there are none of yet be the weights."""
    for p in wrapper.params(opt):
        if wrapper.key("average") not in opt.state[p]:
            opt.state[p][wrapper.key("average")] = p.detach().clone()


class WeightEMA(Averaged):
    r"""An exponential moving average of the weights.

        ema <- d * ema + (1 - d) * p,   from the weights before the first step

    Args:
        decay: d.
        warmup: let d be at most (1 + t) / (10 + t) in step t.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.WeightEMA(weft.SGD([p], lr=0.1), decay=0.5)
    >>> opt.step(); opt.eval(); p.data
    tensor([0.9500, 0.9500])

    Polyak and Juditsky, 1992. Keras starts from zero with a correction; torch's AveragedModel at the
    first weights that it is given.
    """

    hypers: ClassVar = {"decay": 0.999, "warmup": False}

    def begin(self, opt: Any) -> None:
        """The average starts at the first weights."""
        start_at_weights(self, opt)

    def collect(self, opt: Any, step: int) -> None:
        """One step of the average."""
        decay = self.get(opt, "decay")
        if self.get(opt, "warmup"):
            decay = min(decay, (1 + step) / (10 + step))
        for p in self.params(opt):
            opt.state[p][self.key("average")].lerp_(p.detach(), 1 - decay)


class SWA(Averaged):
    r"""Stochastic weight averaging: the plain mean of the weights at regular steps.

        n <- n + 1;   swa <- swa + (p - swa) / n      at the steps start, start + every, ...

    Args:
        start: the first step whose weights count.
        every: how many steps apart.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SWA(weft.SGD([p], lr=0.1))
    >>> opt.step(); opt.step(); opt.eval(); p.data
    tensor([0.8500, 0.8500])

    Izmailov et al., 2018, arXiv:1803.05407. Batch norm's statistics belong to other weights:
    `torch.optim.swa_utils.update_bn` makes them anew.
    """

    hypers: ClassVar = {"start": 1, "every": 1}
    bounds: ClassVar = {"every": ">= 1"}
    numbers: ClassVar = {"step": 0, "n": 0}

    def begin(self, opt: Any) -> None:
        """What was frozen so far has been where it is."""
        start_at_weights(self, opt)

    def collect(self, opt: Any, step: int) -> None:
        """Take the weights into the mean, if it is their turn."""
        since = step - self.get(opt, "start")
        if since < 0 or since % self.get(opt, "every"):
            return
        n = self.get(opt, "n") + 1
        self.set(opt, "n", n)
        for p in self.params(opt):
            opt.state[p][self.key("average")].lerp_(p.detach(), 1 / n)

    def average(self, opt: Any, p: torch.Tensor) -> torch.Tensor | None:
        """The mean, if it is one of any weights."""
        return super().average(opt, p) if self.get(opt, "n") else None


class LAWA(Averaged):
    r"""Latest weight averaging: the mean of the last few checkpoints.

    Args:
        window: how many checkpoints.
        every: how many steps apart they are.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.LAWA(weft.SGD([p], lr=0.1), window=2)
    >>> opt.step(); opt.step(); opt.eval(); p.data
    tensor([0.8500, 0.8500])

    Kaddour, 2022, arXiv:2209.14981. It keeps `window` copies of the weights.
    """

    hypers: ClassVar = {"window": 6, "every": 1}
    bounds: ClassVar = {"window": ">= 1", "every": ">= 1"}

    def begin(self, opt: Any) -> None:
        """What was frozen so far has been where it is."""
        window, key = self.get(opt, "window"), self.key("checkpoints")
        for p in self.params(opt):
            if key not in opt.state[p]:
                opt.state[p][key] = p.detach().expand(window, *p.shape).clone()

    def collect(self, opt: Any, step: int) -> None:
        """Keep a checkpoint in the place of the oldest, if it is time for one."""
        every, window = self.get(opt, "every"), self.get(opt, "window")
        if step % every:
            return
        slot = (step // every - 1) % window
        for p in self.params(opt):
            opt.state[p][self.key("checkpoints")][slot] = p

    def average(self, opt: Any, p: torch.Tensor) -> torch.Tensor | None:
        """The mean of the checkpoints that there are."""
        held = min(self.get(opt, "step") // self.get(opt, "every"), self.get(opt, "window"))
        kept = opt.state[p].get(self.key("checkpoints"))
        return None if kept is None or not held else kept[:held].mean(dim=0)
