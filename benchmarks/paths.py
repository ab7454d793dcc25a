"""Every optimizer's path down two surfaces, at its best rate, for its page of the site; `make paths`.

Writes `docs/paths.json`: what the pages draw, as lines in a box of `SIZE`. Minutes; a rerun takes up only
optimizers that are new, so give `--all` where the paths themselves have changed.
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import contourpy
import torch

from weft.learner.extras import need
from weft.optimizers import algorithms
from weft.paths.several import best_of
from weft.paths.surfaces import SURFACES, Surface
from weft.racing.contestants import contestants
from weft.racing.rules import Rules

PATHS = Path(__file__).parents[1] / "docs" / "paths.json"
SIZE = 320, 240
NAMES = ("rosenbrock", "ravine")
STEPS, LEVELS, NEAR = 200, 9, 2.0  # NEAR: points of the box that two points of a line are apart


def placed(surface: Surface, x: float, y: float) -> tuple[float, float]:
    """A point of a surface in the box, y downwards; what is far outside stays just outside."""
    x0, x1, y0, y1 = surface.window
    at = (x - x0) / (x1 - x0) * SIZE[0], (y1 - y) / (y1 - y0) * SIZE[1]
    return min(max(at[0], -SIZE[0]), 2 * SIZE[0]), min(max(at[1], -SIZE[1]), 2 * SIZE[1])


def line(surface: Surface, points: Any) -> str:
    """An SVG path through points, without those that nobody would see."""
    shown: list[tuple[float, float]] = []
    every = [placed(surface, *point) for point in points]
    for x, y in every:
        if not shown or (x - shown[-1][0]) ** 2 + (y - shown[-1][1]) ** 2 >= NEAR**2:
            shown.append((x, y))
    shown.append(every[-1])
    return "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in shown)


def ground(surface: Surface) -> dict[str, Any]:
    """A surface: contours at equal factors of height, start and minimum."""
    x0, x1, y0, y1 = surface.window
    x, y = torch.linspace(x0, x1, 81), torch.linspace(y0, y1, 61)
    grid_x, grid_y = torch.meshgrid(x, y, indexing="xy")
    lowest = surface.f(*(torch.tensor(float(c)) for c in surface.minimum))
    height = torch.log10(surface.f(grid_x, grid_y) - lowest + 1e-2)
    made = contourpy.contour_generator(x.numpy(), y.numpy(), height.numpy())
    levels = torch.linspace(float(height.min()), float(height.max()), LEVELS + 1)[1:-1].tolist()
    return {
        "contours": "".join(
            line(surface, points) for level in levels for points in made.lines(level)
        ),
        "start": [round(c) for c in placed(surface, *surface.start)],
        "minimum": [round(c) for c in placed(surface, *surface.minimum)],
    }


def trails(name: str) -> dict[str, Any]:
    """One optimizer's paths; a surface is missing where every rate diverges."""
    (who,) = contestants([name])
    rules = Rules(steps=STEPS, warmup=0.0)
    found = {}
    for surface in (SURFACES[s] for s in NAMES):
        lr, trail = best_of(who, surface, rules, STEPS)
        if trail is not None:
            found[surface.name] = {
                "lr": lr, "arrived": trail.arrived, "line": line(surface, trail.points),
            }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="those that are there too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    known = json.loads(PATHS.read_text()) if PATHS.exists() and not options.all else {}
    out = {
        "size": SIZE, "steps": STEPS, "surfaces": {s: ground(SURFACES[s]) for s in NAMES},
        "trails": {n: t for n, t in known.get("trails", {}).items() if n in algorithms()},
    }  # fmt: skip
    missing = sorted(set(algorithms()) - set(out["trails"]))
    for name in need("rich.progress").track(missing, "paths"):
        out["trails"][name] = trails(name)
        PATHS.write_text(json.dumps(out, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
