"""Pictures of training. matplotlib is imported when the first one is drawn."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from weft.learner.extras import need
from weft.learner.smoothing import trend

if TYPE_CHECKING:
    from weft.learner.recorder import Recorder

__all__ = ["plot_history", "plot_lr_find"]


def new_figure(path: str | os.PathLike | None, **kwargs: Any) -> Any:
    """A figure; one for a file stays out of pyplot, which keeps every figure it makes."""
    module = "matplotlib.pyplot" if path is None else "matplotlib.figure"
    maker = need(module)
    return maker.figure(**kwargs) if path is None else maker.Figure(**kwargs)


def finish(figure: Any, path: str | os.PathLike | None) -> Any:
    """Write the figure where a path was given, making its folder."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    return figure


def plot_history(
    recorders: Mapping[str, "Recorder | Sequence[Recorder]"],
    path: str | os.PathLike | None = None,
    title: str = "",
) -> Any:
    """Loss, learning rate, momentum and, where recorded, norms of one or several recorders, by name.

    Args:
        recorders: name -> recorder, or those of several seeds, whose spread is drawn; the name ""
            gets no legend.
        path: an image file to write, or None for a pyplot figure.
        title: above everything.

    Returns:
        The figure.
    """
    every = {k: [*r] if isinstance(r, Sequence) else [r] for k, r in recorders.items()}
    normed = any(recorder.norms for several in every.values() for recorder in several)
    figure = new_figure(path, figsize=(10, 8.2 if normed else 6.2), layout="constrained")
    rooms = [["loss", "loss"], ["lr", "mom"], *([["norms", "norms"]] if normed else [])]
    axes = figure.subplot_mosaic(rooms, height_ratios=[1.7, 1, 1][: len(rooms)])
    for i, (name, seeds) in enumerate(every.items()):
        recorder, color = seeds[0], f"C{i}"
        batches = range(1, min(len(r.batches) for r in seeds) + 1)
        if len(recorders) == 1:
            axes["loss"].plot(batches, recorder.losses, color=color, alpha=0.25, linewidth=0.8)
        drawn = list(zip(*(trend(r.losses) for r in seeds), strict=False))
        axes["loss"].plot(batches, list(map(median, drawn)), color=color, label=name or "training")
        if len(seeds) > 1:
            band = (list(map(min, drawn)), list(map(max, drawn)))
            axes["loss"].fill_between(batches, *band, color=color, alpha=0.2, linewidth=0)
        if valid := recorder.valid_losses:
            label = "" if name else "validation"
            dots = {"color": color, "markersize": 4, "label": label}
            axes["loss"].plot(*zip(*valid, strict=True), "o", **dots)
        # wide below narrow: several optimizers often share a schedule
        under = {"color": color, "linewidth": 1.5 + 1.2 * (len(recorders) - 1 - i)}
        axes["lr"].plot(batches, recorder.lrs[: len(batches)], **under)
        if not all(math.isnan(mom) for mom in recorder.moms):
            axes["mom"].plot(batches, recorder.moms[: len(batches)], **under)
        for style, (norm, values) in zip(("-", "--", ":"), recorder.norms.items(), strict=False):
            words = f"{name} {norm}".strip().replace("_", " ")
            axes["norms"].plot(batches, values[: len(batches)], style, color=color, label=words)
    label_history(axes, several=len(recorders) > 1)
    if title:
        figure.suptitle(title)
    return finish(figure, path)


def label_history(axes: Any, several: bool) -> None:
    """Scales, labels and the legend of `plot_history`."""
    axes["loss"].set(ylabel="loss", yscale="log")
    if several:
        words = "training loss, smoothed (median and spread of seeds), and validation loss (dots)"
        axes["loss"].set_title(words, fontsize=10)
        axes["lr"].set_yscale("log")  # the rates of different optimizers differ by decades
        axes["lr"].set_ylim(bottom=1e-5)
    axes["loss"].legend(frameon=False)
    axes["lr"].set(xlabel="batch", ylabel="learning rate")
    axes["mom"].set(xlabel="batch", ylabel="momentum")
    if not axes["mom"].lines:
        axes["mom"].text(0.5, 0.5, "no momentum", ha="center", transform=axes["mom"].transAxes)
    if "norms" in axes:
        axes["norms"].set(xlabel="batch", ylabel="norm", yscale="log")
        axes["norms"].legend(frameon=False, fontsize=8)
    for axis in axes.values():
        axis.spines[["top", "right"]].set_visible(False)


def plot_lr_find(
    lrs: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float,
    path: str | os.PathLike | None = None,
) -> Any:
    """The loss against the learning rate, with the suggestion marked."""
    figure = new_figure(path, figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(lrs, losses, alpha=0.3, color="C0", linewidth=0.8)
    axis.plot(lrs, smoothed, color="C0")
    axis.axvline(suggestion, color="C1", linestyle="--", label=f"suggestion {suggestion:.2g}")
    axis.set(xscale="log", xlabel="learning rate", ylabel="loss")
    lowest = min(smoothed)
    highest = max(smoothed[: smoothed.index(lowest) + 1])  # the explosion would flatten the rest
    axis.set_ylim(lowest - 0.2 * (highest - lowest), highest + 0.5 * (highest - lowest) + 1e-12)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return finish(figure, path)
