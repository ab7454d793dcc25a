"""One path: an optimizer's steps down a surface."""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import nn

from weft.errors import ChainError, StepError
from weft.learner.modes import switch
from weft.learner.opt import needs_closure
from weft.paths.surfaces import Surface
from weft.racing.contestants import Contestant
from weft.racing.run import of_a_matrix

__all__ = ["Trail", "walk"]


@dataclass(frozen=True)
class Trail:
    """A path.

    Attributes:
        surface: where.
        points: the start, and where each step led, as far as that is finite.
        steps: how many were to be taken.
    """

    surface: Surface
    points: tuple[tuple[float, float], ...]
    steps: int

    @property
    def diverged(self) -> bool:
        """Whether it left all numbers, or ended higher than it began."""
        begin, end = self.points[0], self.points[-1]
        return len(self.points) <= self.steps or self.height(end) > self.height(begin)

    def height(self, at: tuple[float, float]) -> float:
        """How high a point is above the minimum."""
        value, lowest = (self.surface(torch.tensor(p)) for p in (at, self.surface.minimum))
        return float(value - lowest)

    @property
    def arrived(self) -> int | None:
        """After how many steps it was near the minimum, for good; None where it is not.

        >>> from weft.paths.surfaces import SURFACES
        >>> Trail(SURFACES["ravine"], ((1, 0), (0, 0), (1, 0), (0.05, 0), (0, 0)), 4).arrived
        3
        """
        outside = [
            i for i, at in enumerate(self.points) if self.surface.distance(at) > self.surface.near
        ]
        first = outside[-1] + 1 if outside else 0
        return first if first < len(self.points) and not self.diverged else None

    @property
    def score(self) -> float:
        """What a search looks at: steps to the minimum; without those, all of them and how high it is."""
        if self.diverged:
            return math.inf
        if self.arrived is not None:
            return float(self.arrived)
        return self.steps + self.height(self.points[-1])


class Point(nn.Module):
    """Two numbers as a parameter: a vector, or a matrix of one column."""

    def __init__(self, start: tuple[float, float], shape: tuple[int, ...]):
        super().__init__()
        self.at = nn.Parameter(torch.tensor(start, dtype=torch.float32).reshape(shape))


def walk(surface: Surface, who: Contestant, lr: float, steps: int, seed: int = 0) -> Trail:
    """Take so many steps at a rate that stays.

    Args:
        surface: down which.
        who: takes them.
        lr: the rate.
        steps: how many.
        seed: of the noise, and of an optimizer that draws numbers.

    >>> from weft.paths.surfaces import SURFACES
    >>> walk(SURFACES["ravine"], Contestant("plain", "sgd"), 0.02, 1).points
    ((-4, 1), (-3.9200000762939453, 0.0))
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        point, opt = placed(surface, who, lr)
        noise = torch.Generator().manual_seed(seed)
        points = [surface.start]
        for _ in range(steps):
            shift = surface.noise * torch.randn(2, generator=noise)
            try:
                take_step(surface, opt, point.at, shift)
            except StepError as error:
                if not of_a_matrix(error):
                    raise
                break
            switch(opt, "eval")  # a method that averages is judged by its average
            x, y = point.at.flatten().tolist()
            switch(opt, "train")
            if not (math.isfinite(x) and math.isfinite(y)):
                break
            points.append((x, y))
    return Trail(surface, tuple(points), steps)


def placed(
    surface: Surface, who: Contestant, lr: float | None
) -> tuple[Point, torch.optim.Optimizer]:
    """A point at the start of a surface, and its optimizer."""
    point = Point(surface.start, (2,))
    try:
        return point, who.build(point, lr)
    except ChainError:
        point = Point(surface.start, (2, 1))  # one for matrices only; or the name is wrong
        return point, who.build(point, lr)


def take_step(
    surface: Surface, opt: torch.optim.Optimizer, at: nn.Parameter, shift: torch.Tensor
) -> None:
    """One step on the gradient, shifted by noise."""

    def closure() -> torch.Tensor:
        with torch.enable_grad():
            loss = surface(at) + (shift * at.flatten()).sum()
        (at.grad,) = torch.autograd.grad(loss, [at], create_graph=needs)
        return loss.detach()

    needs = needs_closure(opt)
    if needs:
        opt.step(closure)  # type: ignore[call-overload,arg-type]
    else:
        loss = closure()
        opt.step(loss=loss) if hasattr(opt, "explain") else opt.step()  # type: ignore[call-arg]
