"""The training loop: a model, data, a loss, an optimizer, and callbacks around all of it."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from weft.learner.callbacks import EVENTS, ScheduleHypers, StopFit
from weft.learner.checkpoint import load_learner, save_learner
from weft.learner.data import as_loaders, batch_size, batches_in, split_batch, to_device
from weft.learner.hypers import Dials
from weft.learner.metrics import Averages, Metric
from weft.learner.modes import detached, switch
from weft.learner.opt import make_optimizer, needs_closure
from weft.learner.policies import Policies
from weft.learner.progress import progress_for
from weft.learner.recorder import Recorder
from weft.optimizer.optimizer import Optimizer
from weft.optimizers import AdamW

__all__ = ["Learner", "NonFiniteLoss"]

Rate = float | slice | Sequence[float]


class NonFiniteLoss(FloatingPointError):
    """The loss is nan or infinite. The step was not taken; the learner can still be used."""


class Learner(Policies):
    """A model, its data, a loss and an optimizer, with `fit` and its relatives.

    Args:
        dls: a pair of data loaders (train, valid), or what has `.train` and `.valid`; valid may be
            None. A batch is `(x, y)` or `(x1, ..., xn, y)`; it is moved to the model's device.
        model: called with the batch's inputs.
        loss_func: `loss_func(pred, y)`, a scalar tensor to minimise.
        opt_func: called as `opt_func(params, lr=lr)`; any `torch.optim.Optimizer` may come out.
        lr: the learning rate where a fit is not given one.
        metrics: functions `f(pred, y) -> number`, averaged over the validation set.
        cbs: learner callbacks, for every fit.
        moms: the momentum that `fit_one_cycle` goes through: start, middle, end.
        splitter: `splitter(model)` gives lists of parameters, early layers first, for
            discriminative rates and freezing.
        wd: the weight decay, where it should not be the optimizer's own.
        train_metrics: whether to compute the metrics on the training batches, too.
        progress: True, False, or None for a bar on a terminal and silence elsewhere.

    Raises:
        TypeError: for loaders or callbacks that cannot be used as such.

    During a fit, callbacks see and may change: `epoch`, `batch`, `n_epoch`, `n_batches`,
    `fraction_done`; `xs`, `y`, `pred`, `loss`; `loss_grad`, which is what is differentiated;
    `will_step`: set to False before the step, the batch's gradients are kept for the next one;
    `epoch_means`, the numbers of the epoch.

    >>> import torch, weft
    >>> from weft.learner import in_memory
    >>> seed = torch.manual_seed(1)
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> dls = in_memory((x, 2 * x), (x, 2 * x), batch_size=16)
    >>> learn = weft.Learner(dls, torch.nn.Linear(1, 1), torch.nn.functional.mse_loss, lr=0.1)
    >>> learn.fit_one_cycle(10)
    >>> learn.validate()["valid_loss"] < 0.1
    True
    """

    def __init__(
        self,
        dls: Any,
        model: nn.Module,
        loss_func: Callable[[Any, Any], Tensor],
        opt_func: Callable[..., torch.optim.Optimizer] = AdamW,
        lr: float | slice = 1e-3,
        metrics: Metric | Iterable[Metric] = (),
        cbs: Any = (),
        moms: tuple[float, float, float] = (0.95, 0.85, 0.95),
        splitter: Callable[[nn.Module], Sequence[Iterable[Tensor]]] | None = None,
        wd: float | None = None,
        *,
        train_metrics: bool = False,
        progress: bool | None = None,
    ):
        self.dls = as_loaders(dls)
        self.model, self.loss_func, self.lr, self.moms, self.wd = model, loss_func, lr, moms, wd
        self.metrics = [metrics] if callable(metrics) else list(metrics)
        self.train_metrics, self.progress = train_metrics, progress
        self.cbs = checked(cbs)
        self.opt = make_optimizer(opt_func, model, splitter, lr)
        self.dials = Dials(self.opt)
        self._closure_needed = needs_closure(self.opt)
        self.recorder = Recorder()
        self.frozen_to = 0
        self.epochs_done = 0  # of the last fit: where `start_epoch` takes up after a load
        self.interrupted = False  # whether Ctrl-C ended the last fit
        self._active: list[Any] = []
        self._scheduled: ScheduleHypers | None = None

    # ------------------------------------------------------------ training

    def fit(
        self,
        n_epoch: int,
        lr: Rate | None = None,
        *,
        wd: float | None = None,
        schedules: Mapping[str, Callable[[float], float | Sequence[float]]] | None = None,
        cbs: Any = (),
        start_epoch: int = 0,
    ) -> None:
        """Train for `n_epoch` epochs.

        Args:
            n_epoch: how many times to go through the training data.
            lr: a number; `slice(first, last)` for rates that grow geometrically from the first
                parameter group to the last; one number a group; None for the learner's own.
            wd: the weight decay; None for the learner's own.
            schedules: for each hyper a function of the fraction of training done. What they drive
                is put back when the fit is over.
            cbs: callbacks for this fit only.
            start_epoch: how many epochs to leave out, to take up a fit that was saved after them.

        Raises:
            NonFiniteLoss: where the loss is nan or infinite; names epoch, batch and rate.
        """
        self.dials.set("lr", self.lr if lr is None else lr)
        wd = self.wd if wd is None else wd
        if wd is not None:
            self.dials.set("wd", wd)
        scheduled = ScheduleHypers(schedules or {})
        extra = [*checked(cbs), self.recorder, *progress_for(self.progress)]
        self._scheduled = scheduled
        try:
            self.run(n_epoch, [scheduled, *self.cbs, *extra], start_epoch=start_epoch)
        finally:
            self._scheduled = None

    def run(
        self, n_epoch: int, cbs: Sequence[Any], *, start_epoch: int = 0, validate: bool = True
    ) -> None:
        """The bare loop, with exactly these callbacks: what `fit` and `lr_find` are made of.

        Args:
            n_epoch: up to which epoch to go.
            cbs: in the order in which they are called.
            start_epoch: the first epoch's number.
            validate: whether to go through the validation data after each epoch.
        """
        self.n_epoch, self.n_batches = n_epoch, batches_in(self.dls.train)
        self.epoch, self.batch, self.epochs_done = start_epoch, 0, start_epoch
        self.interrupted, self._active = False, list(cbs)
        self.opt.zero_grad()
        try:
            self._fire("before_fit")
            for epoch in range(start_epoch, n_epoch):
                self.epoch, self.batch = epoch, 0
                self._one_epoch(validate and self.dls.valid is not None)
        except StopFit:
            pass
        except KeyboardInterrupt:
            self.interrupted = True
            print(
                f"\ninterrupted in epoch {self.epoch}, batch {self.batch} of {self.n_batches}; the"
                " learner can be used as it is",
                file=sys.stderr,
            )
        finally:
            self.opt.zero_grad()
            try:
                self._fire("after_fit")
            finally:
                self._active = []

    @property
    def fraction_done(self) -> float:
        """How much of the fit lies before this batch, 0 to 1."""
        return (self.epoch * self.n_batches + self.batch) / (self.n_epoch * self.n_batches)

    def _fire(self, event: str) -> None:
        for cb in self._active:
            if (method := getattr(cb, event, None)) is not None:
                method(self)

    def _one_epoch(self, validate: bool) -> None:
        started = time.perf_counter()
        self.model.train()
        if not getattr(self.opt, "training", True):  # it was loaded so, or left so
            switch(self.opt, "train")
        averages = Averages(self.metrics if self.train_metrics else (), "train_")
        self._fire("before_epoch")
        for i, batch in enumerate(self.dls.train):
            self.batch = i
            self._one_batch(batch)
            averages.add(batch_size(self.xs), self.loss_value, self.pred, self.y)
        self.epoch_means = averages.means()
        if validate:
            self.epoch_means |= self.validate()
        self.epoch_means["seconds"] = time.perf_counter() - started
        self.epochs_done = self.epoch + 1
        self._fire("after_epoch")

    def _one_batch(self, batch: Any) -> None:
        self.xs, self.y = split_batch(to_device(batch, self.device))
        self.will_step = True
        self._fire("before_batch")
        if self._closure_needed:
            self._step_with_closure()
        else:
            self._evaluate()
            if self.will_step:
                self._step()
        if self.will_step:
            self.opt.zero_grad()
        self._fire("after_batch")

    def _evaluate(self) -> Tensor:
        """Forward and backward: what a closure does."""
        self.pred = self.model(*self.xs)
        self.loss = self.loss_grad = self.loss_func(self.pred, self.y)
        self._fire("after_loss")
        self.loss_value = float(self.loss.detach())
        if not math.isfinite(self.loss_value):
            raise NonFiniteLoss(self._non_finite())
        self.loss_grad.backward()
        self.pred, self.loss = detached(self.pred), self.loss.detach()
        self._fire("after_backward")
        return self.loss

    def _step(self) -> None:
        if isinstance(self.opt, Optimizer):
            self.opt.step(loss=self.loss)  # for chains that read it
        else:
            self.opt.step()

    def _step_with_closure(self) -> None:
        if not self.will_step:
            raise ValueError(
                f"{type(self.opt).__name__} evaluates the model itself at each step, so a callback"
                " cannot put the step off: leave GradientAccumulation out"
            )

        seen: list[tuple[Any, Tensor, float]] = []

        def closure() -> Tensor:
            self.opt.zero_grad()
            with torch.enable_grad():
                loss = self._evaluate()
            seen.append((self.pred, loss, self.loss_value))
            return loss

        self.opt.step(closure)  # type: ignore[call-overload,arg-type]
        # the first is the loss at the weights; the others were taken where the optimizer looked
        self.pred, self.loss, self.loss_value = seen[0]

    def _non_finite(self) -> str:
        rates = ", ".join(f"{lr:.3g}" for lr in self.dials.get("lr") if lr is not None)
        return (
            f"the loss is {self.loss_value} in epoch {self.epoch}, batch {self.batch} of"
            f" {self.n_batches}, with lr {rates}; this step was not taken. Try a lower rate"
            " (lr_find suggests one) or GradientClip, or look for bad values in the data"
        )

    # ------------------------------------------------------------ evaluating

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Model and optimizer in evaluation mode, no gradients; then as before.

        The optimizer's `eval()` puts averaged weights in place, where a wrapper keeps such.
        """
        modes = [(module, module.training) for module in self.model.modules()]
        was_training = getattr(self.opt, "training", True)
        self.model.eval()
        switch(self.opt, "eval")
        try:
            with torch.no_grad():
                yield
        finally:
            if was_training:
                switch(self.opt, "train")
            for module, training in modes:
                module.training = training

    def validate(self, dl: Iterable[Any] | None = None) -> dict[str, float]:
        """Loss and metrics over a loader.

        Args:
            dl: the loader; the validation data where None.

        Returns:
            `{"valid_loss": ..., metric: ..., ...}`.

        Raises:
            ValueError: where there is no validation data.
        """
        dl = self.dls.valid if dl is None else dl
        if dl is None:
            raise ValueError("this learner has no validation data: give validate() a loader")
        averages = Averages(self.metrics, "valid_")
        with self.evaluating():
            for batch in dl:
                xs, y = split_batch(to_device(batch, self.device))
                pred = self.model(*xs)
                averages.add(batch_size(xs), float(self.loss_func(pred, y)), pred, y)
        return averages.means()

    def predict(self, dl: Iterable[Any] | None = None) -> tuple[Tensor, Tensor]:
        """Predictions and targets over a loader, concatenated, on the CPU.

        Args:
            dl: the loader; the validation data where None.

        Raises:
            ValueError: where there is no validation data.
        """
        dl = self.dls.valid if dl is None else dl
        if dl is None:
            raise ValueError("this learner has no validation data: give predict() a loader")
        preds, targets = [], []
        with self.evaluating():
            for batch in dl:
                xs, y = split_batch(to_device(batch, self.device))
                preds.append(self.model(*xs).cpu())
                targets.append(y.cpu())
        return torch.cat(preds), torch.cat(targets)

    # ------------------------------------------------------------ keeping

    def save(self, path: str | os.PathLike) -> Path:
        """Write model, optimizer, generators and position: the older file stays until all is there.

        Args:
            path: the file; its folder is made.
        """
        return save_learner(self, path)

    def load(self, path: str | os.PathLike, with_opt: bool = True) -> "Learner":
        """Read what `save` wrote; going on from there gives the same bits.

        A fit that was saved in the middle, by a callback in `after_epoch`, is taken up by calling
        it again with `start_epoch=learn.epochs_done`.

        Args:
            path: the file.
            with_opt: with False, only the model's weights.

        Raises:
            FileNotFoundError: where there is no such file.
            ValueError: where the file is damaged.
            RuntimeError: where model or optimizer do not fit; the learner is then as before.
        """
        load_learner(self, path, with_opt)
        return self

    @contextmanager
    def hypers_at_rest(self) -> Iterator[None]:
        """The hypers as they will be when the fit is over, while this lasts."""
        rest = self._scheduled.rest if self._scheduled else {}
        now = {name: self.dials.get(name) for name in rest}
        self.dials.put_back(rest)
        try:
            yield
        finally:
            self.dials.put_back(now)

    @property
    def loaders(self) -> tuple[Any, ...]:
        """The training and the validation loader."""
        return tuple(self.dls)

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter is."""
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device


def checked(cbs: Any) -> list[Any]:
    """A list of callbacks, each with at least one event."""
    cbs = list(cbs) if isinstance(cbs, Iterable) else [cbs]
    for cb in cbs:
        if isinstance(cb, type) or not any(hasattr(cb, event) for event in EVENTS):
            what = f"the class {cb.__name__}: make one" if isinstance(cb, type) else repr(cb)
            raise TypeError(f"a learner callback has one of {', '.join(EVENTS)}; this is {what}")
    return cbs
