"""Pictures of a race."""

import math
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from weft.learner.plotting import finish, new_figure

if TYPE_CHECKING:
    from weft.racing.result import Outcome, Race

__all__ = ["curves", "sensitivity"]


def curves(race: "Race", path: Path) -> Any:
    """Validation loss over steps at each one's best setting: the median of seeds, and their range.

    Args:
        race: of whom.
        path: the image file.
    """
    figure, axis = _axis(path)
    for i, outcome in enumerate(race.outcomes):
        if points := _points(outcome):
            steps, losses = zip(*points, strict=True)
            label = f"{outcome.name}, lr {outcome.found.best.lr:g}" if outcome.found.best else ""
            axis.plot(steps, [median(some) for some in losses], color=f"C{i}", label=label)
            low, high = [min(some) for some in losses], [max(some) for some in losses]
            axis.fill_between(steps, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
    axis.set(xlabel="step", ylabel="validation loss", yscale="log", title=race.task)
    return _legend(figure, axis, path)


def _points(outcome: "Outcome") -> list[tuple[int, list[float]]]:
    """(step, losses of the seeds), as far as all of them came."""
    found: dict[int, list[float]] = {}
    for record in outcome.finals:
        for step, _, loss in [(0, None, record.start), *record.curve]:
            if loss is not None and loss > 0:
                found.setdefault(step, []).append(loss)
    return sorted((step, some) for step, some in found.items() if len(some) == len(outcome.finals))


def sensitivity(race: "Race", path: Path) -> Any:
    """Loss over the rate: of each rate the best of its settings, a cross where all diverged.

    Rates that successive halving dropped before the end are open circles.

    Args:
        race: of whom.
        path: the image file.
    """
    figure, axis = _axis(path)
    for i, outcome in enumerate(race.outcomes):
        best = _by_rate(outcome)
        kept = {lr: loss for lr, (_, loss) in best.items() if math.isfinite(loss)}
        whole = {lr: loss for lr, loss in kept.items() if best[lr][0] == race.steps}
        color = {"color": f"C{i}"}
        axis.plot(list(whole), list(whole.values()), "o-", label=outcome.name, **color)
        short = {lr: loss for lr, loss in kept.items() if lr not in whole}
        axis.plot(list(short), list(short.values()), "o", markerfacecolor="none", **color)
        gone = [lr for lr in best if lr not in kept]
        # in the axes' own height: a loss that there is not has no place on its scale
        height = [0.98 - 0.03 * i] * len(gone)
        axis.plot(gone, height, "x", transform=axis.get_xaxis_transform(), **color)
    axis.set(xlabel="learning rate", ylabel="validation loss", xscale="log", title=race.task)
    if any(math.isfinite(v) and v > 0 for o in race.outcomes for v in o.found.losses.values()):
        axis.set_yscale("log")
    return _legend(figure, axis, path)


def _by_rate(outcome: "Outcome") -> dict[float, tuple[int, float]]:
    """For each rate the most steps that it was run for, and the best loss after those."""
    found: dict[float, tuple[int, float]] = {}
    for setting, loss in outcome.found.losses.items():
        steps = outcome.found.steps[setting]
        before = found.get(setting.lr, (0, math.inf))
        if steps > before[0] or (steps == before[0] and loss < before[1]):
            found[setting.lr] = (steps, loss)
    return dict(sorted(found.items()))


def _axis(path: Path) -> tuple[Any, Any]:
    figure = new_figure(path, figsize=(7.5, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _legend(figure: Any, axis: Any, path: Path) -> Any:
    if axis.get_legend_handles_labels()[1]:
        axis.legend(frameon=False)
    return finish(figure, path)
