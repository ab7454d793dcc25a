"""Pictures of a race."""

import math
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from weft.learner.plotting import finish, new_figure

if TYPE_CHECKING:
    from weft.racing.result import Outcome, Race

__all__ = ["picture"]


def picture(race: "Race", path: Path) -> Any:
    """Validation loss over steps at each one's best setting, and over the rate.

    Args:
        race: of whom.
        path: the image file.
    """
    figure = new_figure(path, figsize=(13, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    curves(race, left)
    sensitivity(race, right)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(frameon=False)
    if any(loss > 0 for o in race.outcomes for _, some in _points(o) for loss in some):
        left.set_yscale("log")  # of both
    figure.suptitle(race.task)
    return finish(figure, path)


def curves(race: "Race", axis: Any) -> None:
    """Loss over steps: the median of seeds, and their range."""
    for i, outcome in enumerate(race.outcomes):
        if points := _points(outcome):
            steps, losses = zip(*points, strict=True)
            label = f"{outcome.name}, lr {outcome.found.best.lr:g}" if outcome.found.best else ""
            axis.plot(steps, [median(some) for some in losses], color=f"C{i}", label=label)
            low, high = [min(some) for some in losses], [max(some) for some in losses]
            axis.fill_between(steps, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
    axis.set(xlabel="step", ylabel="validation loss")


def _points(outcome: "Outcome") -> list[tuple[int, list[float]]]:
    """(step, losses of the seeds), as far as all of them came."""
    found: dict[int, list[float]] = {}
    for record in outcome.finals:
        for step, _, loss in [(0, None, record.start), *record.curve]:
            if loss is not None and loss > 0:
                found.setdefault(step, []).append(loss)
    return sorted((step, some) for step, some in found.items() if len(some) == len(outcome.finals))


def sensitivity(race: "Race", axis: Any) -> None:
    """Loss over the rate: of each rate the best of its settings, a cross where all diverged.

    Rates that successive halving dropped before the end are open circles.
    """
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
    axis.set(xlabel="learning rate", xscale="log")


def _by_rate(outcome: "Outcome") -> dict[float, tuple[int, float]]:
    """For each rate the most steps that it was run for, and the best loss after those."""
    found: dict[float, tuple[int, float]] = {}
    for setting, loss in outcome.found.losses.items():
        steps = outcome.found.steps[setting]
        before = found.get(setting.lr, (0, math.inf))
        if steps > before[0] or (steps == before[0] and loss < before[1]):
            found[setting.lr] = (steps, loss)
    return dict(sorted(found.items()))
