"""Paths of several optimizers on several surfaces, each at the best rate of the same search."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import did_you_mean
from weft.learner.extras import need, table
from weft.paths.surfaces import SURFACES, Surface
from weft.paths.walk import Trail, placed, walk
from weft.racing.contestants import Contestant, contestants
from weft.racing.progress import Progress
from weft.racing.rules import Rules
from weft.racing.search import Asked, lockstep, search

__all__ = ["Paths", "path"]

COLUMNS: tuple[str, ...] = ("optimizer", "surface", "lr", "steps_to_minimum", "distance", "height")


@dataclass(frozen=True)
class Paths:
    """What `weft.path` found; it prints as a table.

    Attributes:
        trails: optimizer -> surface -> its path at the best rate; None where all rates diverged.
        lrs: optimizer -> surface -> that rate.
        rules: of the search.
        steps: of each path.
    """

    trails: dict[str, dict[str, Trail | None]]
    lrs: dict[str, dict[str, float | None]]
    rules: Rules
    steps: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One for each optimizer and surface."""
        return [
            {
                "optimizer": who,
                "surface": name,
                "lr": self.lrs[who][name],
                "steps_to_minimum": None if trail is None else trail.arrived,
                "distance": None if trail is None else trail.surface.distance(trail.points[-1]),
                "height": None if trail is None else trail.height(trail.points[-1]),
            }
            for who, trails in self.trails.items()
            for name, trail in trails.items()
        ]

    def table(self) -> Any:
        """A rich table: an optimizer a row, a surface a column."""
        surfaces = tuple(next(iter(self.trails.values())))
        title = f"steps of {self.steps} until it is near the minimum for good"
        drawn = table(title, "optimizer", *surfaces, right=surfaces)
        drawn.columns[0].min_width, drawn.columns[0].overflow = 12, "fold"
        for who, trails in self.trails.items():
            drawn.add_row(who, *(cell(t, self.lrs[who][name]) for name, t in trails.items()))
        return drawn

    def __str__(self) -> str:
        into = io.StringIO()
        need("rich.console").Console(file=into, width=110, highlight=False).print(self.table())
        return into.getvalue().rstrip()

    def save(self, out: str | os.PathLike, gif: bool = False) -> list[Path]:
        """Write path.csv, path.json and path.png into a folder, and path.gif where that is wanted.

        Raises:
            ImportError: where matplotlib is missing; it says how to install it.
        """
        from weft.paths import draw

        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        names = ("path.csv", "path.json", "path.png", *(["path.gif"] if gif else []))
        paths = [folder / name for name in names]
        with paths[0].open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        paths[1].write_text(json.dumps(self.rows, indent=2) + "\n", encoding="utf-8")
        draw.picture(self, paths[2])
        if gif:
            draw.animation(self, paths[3])
        return paths


def cell(trail: Trail | None, lr: float | None) -> str:
    """Where a path came to, in words."""
    if trail is None:
        return "diverges"
    if trail.arrived is not None:
        return f"{trail.arrived}\nlr {lr:g}"
    return f"{trail.surface.distance(trail.points[-1]):.2g} away\nlr {lr:g}"


def path(
    given: Mapping[str, Any] | Iterable[str],
    on: Iterable[str | Surface] = tuple(SURFACES),
    *,
    steps: int = 200,
    lrs: int = 5,
    factor: float = 10**0.5,
    extend: int = 6,
    progress: bool | None = None,
) -> Paths:
    """Let optimizers walk down functions of two variables, each at its best rate, which stays.

    The best rate is the one with the fewest steps to the minimum, of a grid around its default that
    grows while the best is at its edge; of those that do not arrive, the one that ends lowest.

    Args:
        given: who, as `weft.race` takes it.
        on: surfaces, or names: "rosenbrock", "beale", "rastrigin", "ravine", "noisy".
        steps: of each path.
        lrs: how many rates the grid has.
        factor: between neighbours in it.
        extend: by how many it may grow.
        progress: whether to show it; None does on a terminal.

    Raises:
        ValueError: for a name that there is not.

    >>> import weft
    >>> found = weft.path(["sgd", "sgd(momentum=0.9)"], ["ravine"])
    >>> plain, heavy = (row["steps_to_minimum"] for row in found.rows)
    >>> plain > heavy
    True
    """
    who, surfaces = contestants(given), [as_surface(s) for s in on]
    rules = Rules(steps=steps, lrs=lrs, factor=factor, extend=extend, warmup=0.0)
    trails: dict[str, dict[str, Trail | None]] = {c.name: {} for c in who}
    best: dict[str, dict[str, float | None]] = {c.name: {} for c in who}
    with Progress(progress) as shown:
        for i, one in enumerate(who):
            n, later = len(surfaces), len(surfaces) * (len(who) - i - 1)
            shown.part(one.name, n, n, later, "surface")
            for surface in surfaces:
                lr, trail = best_of(one, surface, rules, steps)
                best[one.name][surface.name], trails[one.name][surface.name] = lr, trail
                shown.ran(1)
    return Paths(trails, best, rules, steps)


def as_surface(given: str | Surface) -> Surface:
    """A surface by its name, or itself."""
    if isinstance(given, Surface):
        return given
    if given not in SURFACES:
        hint = did_you_mean(given, SURFACES)
        raise ValueError(f"no surface is called {given!r}{hint}: {', '.join(SURFACES)}")
    return SURFACES[given]


def best_of(
    who: Contestant, surface: Surface, rules: Rules, steps: int
) -> tuple[float | None, Trail | None]:
    """The best rate of a search, and the path at it."""
    try:
        _, opt = placed(surface, who, None)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who.name}: {error}") from error
    trails: dict[float, Trail] = {}

    def walked(asked: dict[str, Asked]) -> dict[str, list[float]]:
        rates = [setting.lr for setting, _ in asked[who.name]]
        trails.update((lr, walk(surface, who, lr, steps)) for lr in rates)
        return {who.name: [trails[lr].score for lr in rates]}

    middle = float(opt.param_groups[0]["lr"])
    best = lockstep({who.name: search(middle, rules, steps)}, walked)[who.name].best
    return (None, None) if best is None else (best.lr, trails[best.lr])
