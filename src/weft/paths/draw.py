"""Pictures of paths, still and moving."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from weft.learner.extras import need
from weft.learner.plotting import finish, new_figure
from weft.paths.surfaces import Surface

if TYPE_CHECKING:
    from weft.paths.several import Paths

__all__ = ["animation", "picture"]

FRAMES, FPS = 40, 10


def picture(paths: "Paths", path: Path) -> Any:
    """Each surface with all paths on it.

    Args:
        paths: of whom.
        path: the image file.
    """
    figure, lines = _begun(paths, path)
    for line, points in lines:
        line.set_data(*zip(*points, strict=True))
    return finish(figure, path)


def animation(paths: "Paths", path: Path) -> Path:
    """The same, step by step, as an animated GIF.

    Args:
        paths: of whom.
        path: the file.
    """
    figure, lines = _begun(paths, path)
    writer = need("matplotlib.animation").PillowWriter(fps=FPS)
    with writer.saving(figure, str(path), dpi=55):
        for frame in range(FRAMES + 1):
            # squared: a path does most of its turning early
            n = 1 + round(paths.steps * (frame / FRAMES) ** 2)
            for line, points in lines:
                line.set_data(*zip(*points[:n], strict=True))
            writer.grab_frame()
    return path


def _begun(paths: "Paths", path: Path) -> tuple[Any, list[tuple[Any, Any]]]:
    """The figure without its paths, and the lines that they go into."""
    names = list(next(iter(paths.trails.values())))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(path, figsize=(4.2 * columns, 3.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    lines = []
    for axis, name in zip(axes, names, strict=False):
        surface = None
        for i, (who, trails) in enumerate(paths.trails.items()):
            trail = trails[name]
            if trail is None:
                continue
            surface = trail.surface
            style = {"color": f"C{i}", "linewidth": 1.2, "marker": ".", "markersize": 2.5}
            (line,) = axis.plot([], [], label=who, **style)
            lines.append((line, trail.points))
        if surface is not None:
            _ground(axis, surface)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    legend = {line.get_label(): line for line, _ in lines}
    figure.legend(
        legend.values(), legend.keys(), loc="outside lower center", ncols=4, frameon=False
    )
    return figure, lines


def _ground(axis: Any, surface: Surface) -> None:
    """The surface itself: contours at equal factors of height, the start and the minimum."""
    x0, x1, y0, y1 = surface.window
    x, y = torch.linspace(x0, x1, 160), torch.linspace(y0, y1, 160)
    grid_x, grid_y = torch.meshgrid(x, y, indexing="xy")
    lowest = surface.f(*(torch.tensor(float(c)) for c in surface.minimum))
    height = torch.log10(surface.f(grid_x, grid_y) - lowest + 1e-2)
    axis.contourf(x, y, height, levels=14, cmap="Greys", alpha=0.35)
    axis.plot(*surface.start, "ko", markersize=5)
    axis.plot(*surface.minimum, "r*", markersize=10, zorder=5)
    title = f"{surface.name}, noise {surface.noise:g}" if surface.noise else surface.name
    axis.set(title=title, xlim=(x0, x1), ylim=(y0, y1), xticks=[], yticks=[])
