"""A progress bar and a line for each epoch."""

import sys
from typing import TYPE_CHECKING, Any

from weft.learner.extras import need

if TYPE_CHECKING:
    from weft.learner.learner import Learner

__all__ = ["EpochLines", "ProgressBar", "progress_for"]


def progress_for(progress: bool | None) -> list[Any]:
    """The callbacks that show progress.

    Args:
        progress: True for lines and, on a terminal, a bar; False for silence; None for both on a
            terminal or in a notebook, and silence where the output goes to a file or a pipe.

    Raises:
        ImportError: with True, where rich is missing.

    >>> progress_for(False)
    []
    """
    if progress is False:
        return []
    try:
        console = need("rich.console").Console()
    except ImportError:
        if progress:
            raise
        return [EpochLines()] if sys.stdout.isatty() else []
    if console.is_terminal or console.is_jupyter:
        return [ProgressBar(console)]
    return [EpochLines()] if progress else []


def header(means: dict[str, float]) -> str:
    return "".join(f"{name:>13}" for name in ["epoch", *means])


def line(epoch: int, means: dict[str, float]) -> str:
    """An epoch as a line of a table.

    >>> line(3, {"train_loss": 0.123456})
    '            3       0.1235'
    """
    return f"{epoch:>13}" + "".join(f"{value:>13.4g}" for value in means.values())


class EpochLines:
    """Print a line for each epoch, as plain text."""

    def __init__(self) -> None:
        self._header = ""

    def write(self, text: str) -> None:
        print(text, flush=True)

    def after_epoch(self, learn: "Learner") -> None:
        title = header(learn.epoch_means)
        if title != self._header:
            self._header = title
            self.write(title)
        self.write(line(learn.epoch, learn.epoch_means))

    def after_fit(self, learn: "Learner") -> None:
        self._header = ""


class ProgressBar(EpochLines):
    """A live bar for the batches of the fit, below a line for each epoch.

    Args:
        console: the rich console to draw on.
    """

    def __init__(self, console: Any):
        super().__init__()
        self._console, self._bar, self._task = console, None, None

    def write(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def before_fit(self, learn: "Learner") -> None:
        rich = need("rich.progress")
        self._bar = rich.Progress(
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.TaskProgressColumn(),
            rich.TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        total = learn.n_epoch * learn.n_batches
        self._task = self._bar.add_task("", total=total, completed=learn.epoch * learn.n_batches)
        self._bar.start()

    def after_batch(self, learn: "Learner") -> None:
        if self._bar is not None and self._task is not None:
            text = f"epoch {learn.epoch + 1}/{learn.n_epoch}  loss {learn.loss_value:.4g}"
            self._bar.update(self._task, advance=1, description=text)

    def after_fit(self, learn: "Learner") -> None:
        super().after_fit(learn)
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
