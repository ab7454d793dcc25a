"""Loggers: learner callbacks that keep losses, rates, metrics and norms where other tools find them."""

import csv
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weft.learner.extras import need

if TYPE_CHECKING:
    from weft.learner.learner import Learner

__all__ = ["CSVLogger", "CallLogger", "Logger", "TensorBoardLogger", "flat_stats"]


class Logger:
    """Base of the loggers: a row of numbers after each batch, and one after each epoch.

    A subclass says where rows go, in `write(step, numbers)`; steps count the batches over all fits.
    Norms are among the numbers where the optimizer collects them (`opt.collect_stats()`).

    Args:
        per_parameter: the norms of each parameter, too, as `grad_norm/weight`.

    >>> class Printed(Logger):
    ...     def write(self, step, numbers): print(step, sorted(numbers))
    """

    def __init__(self, per_parameter: bool = False):
        self.per_parameter, self.step = per_parameter, 0

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Keep a row; what is nan is not in it."""
        raise NotImplementedError

    def after_batch(self, learn: "Learner") -> None:
        self.step += 1
        row: dict[str, Any] = {"epoch": learn.epoch, "loss": learn.loss_value}
        row |= {"lr": learn.dials.get("lr")[-1], "mom": learn.dials.get("mom")[-1]}
        row |= flat_stats(norms_of(learn.opt), self.per_parameter)
        self.write(self.step, {k: v for k, v in row.items() if v is not None and not math.isnan(v)})

    def after_epoch(self, learn: "Learner") -> None:
        self.write(self.step, {"epoch": learn.epoch, **learn.epoch_means})


class CallLogger(Logger):
    """Hand every row to a function, as Weights & Biases, MLflow and the like have one.

    Args:
        log: called as `log(numbers, step=step)`: `CallLogger(wandb.log)`,
            `CallLogger(mlflow.log_metrics)`.
        per_parameter: the norms of each parameter, too.

    >>> CallLogger(lambda numbers, step: print(step, numbers)).write(3, {"loss": 0.5})
    3 {'loss': 0.5}
    """

    def __init__(self, log: Callable[..., Any], per_parameter: bool = False):
        super().__init__(per_parameter)
        self.log = log

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Call the function."""
        self.log(dict(numbers), step=step)


class CSVLogger(Logger):
    """Append every row to a CSV file, at once: what was written survives a crash.

    A row of a batch has step, epoch, loss, lr, mom, norms; a row of an epoch the epoch's means. A
    column that turns up later is added to the header, and left empty in the rows before. A file
    that is there already is gone on with.

    Args:
        path: the file; its folder is made.
        per_parameter: the norms of each parameter, too.

    >>> import tempfile; path = tempfile.mkdtemp() + "/log.csv"
    >>> logger = CSVLogger(path)
    >>> logger.write(1, {"loss": 0.5}); logger.write(2, {"loss": 0.25, "accuracy": 1.0})
    >>> print(open(path).read().strip())
    step,loss,accuracy
    1,0.5,
    2,0.25,1.0
    """

    def __init__(self, path: str | os.PathLike, per_parameter: bool = False):
        super().__init__(per_parameter)
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.columns: list[str] = []
        if self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
            self.columns = rows[0] if rows else []
            self.step = int(rows[-1][0]) if len(rows) > 1 else 0

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append a row."""
        row = {"step": step, **numbers}
        new = [name for name in row if name not in self.columns]
        if new:
            self._widen(new)
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([row.get(name, "") for name in self.columns])

    def _widen(self, new: list[str]) -> None:
        """Rewrite the file with more columns; it is there, whole, at any moment."""
        rows: list[list[str]] = []
        if self.columns:
            with open(self.path, newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:]
        self.columns = [*self.columns, *new]
        beside = self.path.with_name(self.path.name + ".new")
        with open(beside, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *(r + [""] * len(new) for r in rows)])
        os.replace(beside, self.path)


class TensorBoardLogger(Logger):
    """Write every row as scalars that TensorBoard shows: `tensorboard --logdir folder`.

    Args:
        folder: where the event files go.
        per_parameter: the norms of each parameter, too.

    Raises:
        ImportError: where tensorboard is missing; it says how to install it.
    """

    def __init__(self, folder: str | os.PathLike, per_parameter: bool = False):
        super().__init__(per_parameter)
        need("tensorboard", "tensorboard")  # torch's own message does not say how to get it
        self.folder, self._writer = Path(folder), None

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add each number as a scalar."""
        if self._writer is None:
            self._writer = need("torch.utils.tensorboard").SummaryWriter(str(self.folder))
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def after_fit(self, learn: "Learner") -> None:
        """Everything is on disk; a later fit opens a file of its own."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def flat_stats(
    stats: Mapping[Any, Mapping[str, float]], per_parameter: bool = True
) -> dict[str, float]:
    """What `opt.stats()` gives as one row, which loggers of all kinds take.

    In a loop of one's own: `wandb.log(flat_stats(opt.stats()), step=step)`.

    Args:
        stats: from `opt.stats()`.
        per_parameter: the norms of each parameter, too.

    >>> flat_stats({"weight": {"grad_norm": 1.0}, "global": {"grad_norm": 2.0}})
    {'grad_norm/weight': 1.0, 'grad_norm': 2.0}
    """
    row: dict[str, float] = {}
    for key, norms in stats.items():
        if key == "global":
            row |= norms
        elif per_parameter:
            row |= {f"{name}/{key}": value for name, value in norms.items()}
    return row


def norms_of(opt: Any) -> dict[Any, dict[str, float]]:
    """The norms of the last step, where an optimizer collects them."""
    return opt.stats() if getattr(opt, "collects_stats", False) else {}
