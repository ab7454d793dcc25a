"""What happened in training: losses, hypers and metrics, to look at, plot and keep."""

import csv
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from weft.learner.loggers import norms_of
from weft.learner.smoothing import smooth

if TYPE_CHECKING:
    from weft.learner.learner import Learner

NORMS = ("param_norm", "grad_norm", "update_norm")

__all__ = ["BatchRecord", "Recorder"]


class BatchRecord(NamedTuple):
    """One training batch; `lr` and `mom` are those of the last parameter group.

    The norms are over all parameters, nan where the optimizer does not collect them.
    """

    epoch: int
    batch: int
    loss: float
    lr: float
    mom: float  # nan where the optimizer has no momentum
    param_norm: float = math.nan
    grad_norm: float = math.nan
    update_norm: float = math.nan


class Recorder:
    """The history of a learner, over all its fits.

    Attributes:
        batches: one `BatchRecord` for each training batch.
        metrics: one dict for each epoch: epoch, train_loss, valid_loss, metrics by name, seconds.

    >>> recorder = Recorder()
    >>> recorder.batches.append(BatchRecord(0, 0, loss=0.5, lr=0.1, mom=0.9))
    >>> recorder.losses, recorder.lrs, recorder.moms
    ([0.5], [0.1], [0.9])
    """

    def __init__(self) -> None:
        self.batches: list[BatchRecord] = []
        self.metrics: list[dict[str, float]] = []
        self._epoch_ends: list[int] = []  # how many batches there were when each epoch was over

    @property
    def losses(self) -> list[float]:
        """The training loss of each batch, as it came."""
        return [record.loss for record in self.batches]

    @property
    def smooth_losses(self) -> list[float]:
        """The training loss, averaged over the last fifty batches or so."""
        return smooth(self.losses, beta=0.98)

    @property
    def lrs(self) -> list[float]:
        """The learning rate of each batch."""
        return [record.lr for record in self.batches]

    @property
    def moms(self) -> list[float]:
        """The momentum of each batch; nan where the optimizer has none."""
        return [record.mom for record in self.batches]

    @property
    def norms(self) -> dict[str, list[float]]:
        """The norms of each batch by name, where any were collected; nan where none were."""
        columns = {name: [getattr(r, name) for r in self.batches] for name in NORMS}
        return {
            name: values for name, values in columns.items() if not all(map(math.isnan, values))
        }

    @property
    def valid_losses(self) -> list[tuple[int, float]]:
        """(batches done, validation loss) for each epoch that was validated."""
        return [
            (end, row["valid_loss"])
            for end, row in zip(self._epoch_ends, self.metrics, strict=True)
            if "valid_loss" in row
        ]

    def clear(self) -> None:
        """Forget everything."""
        self.__init__()

    # ------------------------------------------------------------ events

    def after_batch(self, learn: "Learner") -> None:
        # one append of one record: an interrupt cannot leave the columns of different lengths
        lr, mom = learn.dials.get("lr")[-1], learn.dials.get("mom")[-1]
        self.batches.append(
            BatchRecord(
                learn.epoch,
                learn.batch,
                learn.loss_value,
                math.nan if lr is None else lr,
                math.nan if mom is None else mom,
                **norms_of(learn.opt).get("global", {}),
            )
        )

    def after_epoch(self, learn: "Learner") -> None:
        self._epoch_ends.append(len(self.batches))
        self.metrics.append({"epoch": learn.epoch, **learn.epoch_means})

    # ------------------------------------------------------------ to look at and to keep

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Draw the loss, the learning rate and the momentum over the batches; norms, where recorded.

        Args:
            path: an image file to write; with None the figure belongs to pyplot, so that notebooks
                show it.

        Returns:
            A matplotlib figure.

        Raises:
            ImportError: where matplotlib is missing; it says how to install it.
        """
        from weft.learner.plotting import plot_history

        return plot_history({"": self}, path)

    def to_csv(self, path: str | os.PathLike) -> Path:
        """Write a row for each batch; the last row of an epoch also has the epoch's metrics.

        Args:
            path: the file to write.

        Returns:
            The path.
        """
        columns = [name for name in BatchRecord._fields if name not in NORMS or name in self.norms]
        names = list(dict.fromkeys(name for row in self.metrics for name in row))
        names = [name for name in names if name not in columns]
        at_end = dict(zip(self._epoch_ends, self.metrics, strict=True))
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*columns, *names])
            for i, record in enumerate(self.batches):
                epoch = at_end.get(i + 1, {})
                values = [getattr(record, name) for name in columns]
                fields = ["" if isinstance(v, float) and math.isnan(v) else v for v in values]
                writer.writerow([*fields, *(epoch.get(name, "") for name in names)])
        return Path(path)
