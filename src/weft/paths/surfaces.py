"""Functions of two variables whose minimum is known."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SURFACES", "Surface"]


@dataclass(frozen=True)
class Surface:
    """A function of two variables.

    Attributes:
        name: in tables and pictures.
        f: of x and y, tensors of any equal shape, element by element.
        minimum: where it is lowest.
        start: where paths begin.
        window: x from, x to, y from, y to, of the picture.
        noise: the standard deviation of what is added to each gradient, the same for everyone.
        near: the distance from the minimum at which a path that stays has arrived.
    """

    name: str
    f: Callable[[Tensor, Tensor], Tensor]
    minimum: tuple[float, float]
    start: tuple[float, float]
    window: tuple[float, float, float, float]
    noise: float = 0.0
    near: float = 0.1

    def __call__(self, at: Tensor) -> Tensor:
        """The value at a tensor of two elements.

        >>> SURFACES["rosenbrock"](torch.tensor([1.0, 2.0]))
        tensor(100.)
        """
        x, y = at.flatten()
        return self.f(x, y)

    def distance(self, at: tuple[float, float]) -> float:
        """How far from the minimum.

        >>> SURFACES["ravine"].distance((3.0, 4.0))
        5.0
        """
        return math.dist(at, self.minimum)


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """(1 - x)^2 + 100 (y - x^2)^2: a curved valley with a flat floor."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(x: Tensor, y: Tensor) -> Tensor:
    """The sum of (1.5, 2.25, 2.625 - x + x y^k)^2 for k = 1, 2, 3: a plain between steep walls."""
    return sum(
        ((c - x + x * y**k) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))), torch.zeros_like(x)
    )


def rastrigin(x: Tensor, y: Tensor) -> Tensor:
    """20 + the sum of x^2 - 10 cos(2 pi x): a bowl with a dent at each pair of whole numbers."""
    return 20 + sum((u**2 - 10 * torch.cos(2 * math.pi * u) for u in (x, y)), torch.zeros_like(x))


def ravine(x: Tensor, y: Tensor) -> Tensor:
    """(x^2 + 50 y^2) / 2: fifty times as steep across as along."""
    return (x**2 + 50 * y**2) / 2


def bowl(x: Tensor, y: Tensor) -> Tensor:
    """(x^2 + 4 y^2) / 2."""
    return (x**2 + 4 * y**2) / 2


SURFACES = {
    s.name: s
    for s in (
        Surface("rosenbrock", rosenbrock, (1, 1), (-1.2, 1), (-1.8, 1.8, -0.8, 2.2)),
        Surface("beale", beale, (3, 0.5), (1, 1.5), (-0.5, 4.5, -1.5, 2)),
        Surface("rastrigin", rastrigin, (0, 0), (2.3, -1.7), (-3, 3, -3, 3)),
        Surface("ravine", ravine, (0, 0), (-4, 1), (-4.5, 2, -1.6, 1.6)),
        Surface("noisy", bowl, (0, 0), (-4, 2), (-4.8, 2.2, -1.8, 2.6), noise=0.5, near=0.3),
    )
}
