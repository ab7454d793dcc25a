"""Averages of the weights, to evaluate with."""

from typing import Any, ClassVar

import torch

from weft.wrapper import Wrapper

__all__ = ["LAWA", "SWA", "Averaged", "WeightEMA"]


class Averaged(Wrapper):
    """Base of what keeps an average of the weights: `opt.eval()` swaps it in, `opt.train()` back.

    A subclass says in `collect` what becomes of the average after each step. A checkpoint is saved
    in training mode.
    """

    numbers: ClassVar = {"step": 0}

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
        return opt.state[p].get(self.key("average")) if p in opt.state else None

    def eval(self, opt: Any) -> None:
        """Put the averages in place, keeping the weights to train with."""
        for p in self.params(opt):
            average = self.average(opt, p)
            if average is not None:
                opt.state[p][self.key("weights")] = p.detach().clone()
                p.copy_(average)

    def train(self, opt: Any) -> None:
        """Put the weights to train with back."""
        for p in self.params(opt):
            weights = opt.state[p].pop(self.key("weights"), None) if p in opt.state else None
            if weights is not None:
                p.copy_(weights)


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
        for p in self.params(opt):
            if self.key("average") not in opt.state[p]:
                opt.state[p][self.key("average")] = p.detach().clone()

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

    def collect(self, opt: Any, step: int) -> None:
        """Take the weights into the mean, if it is their turn."""
        since = step - self.get(opt, "start")
        if since < 0 or since % self.get(opt, "every"):
            return
        n = self.get(opt, "n") + 1
        self.set(opt, "n", n)
        for p in self.params(opt):
            own = opt.state[p]
            if n == 1 or self.key("average") not in own:
                own[self.key("average")] = p.detach().clone()
            else:
                own[self.key("average")].lerp_(p.detach(), 1 / n)


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

    def collect(self, opt: Any, step: int) -> None:
        """Keep a checkpoint in the place of the oldest, if it is time for one."""
        every, window = self.get(opt, "every"), self.get(opt, "window")
        if step % every:
            return
        slot = (step // every - 1) % window
        for p in self.params(opt):
            own, key = opt.state[p], self.key("checkpoints")
            if key not in own:
                own[key] = p.new_zeros((window, *p.shape))
            own[key][slot] = p

    def average(self, opt: Any, p: torch.Tensor) -> torch.Tensor | None:
        """The mean of the checkpoints that there are."""
        held = min(self.get(opt, "step") // self.get(opt, "every"), self.get(opt, "window"))
        kept = opt.state[p].get(self.key("checkpoints")) if p in opt.state else None
        return None if kept is None else kept[:held].mean(dim=0)
