"""One training run: a pure function of what is trained, how, from which seed, for how long."""

import hashlib
import json
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

import weft
from weft.errors import StepError, WeftWarning
from weft.learner.callbacks import StopFit
from weft.learner.checkpoint import rng_state, set_rng_state
from weft.learner.data import DataLoaders
from weft.learner.learner import Learner, NonFiniteLoss
from weft.racing.contestants import Contestant
from weft.racing.rules import shape
from weft.racing.search import Setting
from weft.racing.tasks import Built, Task, seed_all

__all__ = ["Job", "Record", "generators_apart", "of_a_matrix", "run"]


@dataclass(frozen=True)
class Job:
    """What a run is a function of.

    Attributes:
        task: what to train.
        contestant: with what.
        setting: its rate, warm-up and other hypers.
        seed: of initial weights, data order and dropout.
        steps: how many.
        schedule: how the rate falls: "cosine", "linear", or "constant".
        points: how often the validation loss is taken.
        device: as torch names it.
    """

    task: Task
    contestant: Contestant
    setting: Setting
    seed: int
    steps: int
    schedule: str = "cosine"
    points: int = 10
    device: str = "cpu"

    @property
    def key(self) -> str:
        """What tells a run from all others: two runs with one key are the same run."""
        values = {
            **self.task.identity,
            **self.contestant.identity,
            **asdict(self.setting),
            "hypers": [[n, _plain(v)] for n, v in self.setting.hypers],
            "weft": weft.__version__,
            **{n: getattr(self, n) for n in ("seed", "steps", "schedule", "points", "device")},
        }
        return json.dumps(values, sort_keys=True)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@dataclass
class Record:
    """What a run gave; a loss is None where it was not finite, or the run did not come so far.

    Attributes:
        start: validation loss at the initial weights.
        valid: validation loss at the end.
        test: loss on what was held out, at the end; the validation loss where nothing else was.
        seconds: of training, without validation; a first step, which may build kernels, counts as
            the mean of the others.
        diverged: whether the last validation loss is not finite, or above that of the start.
        curve: (step, training loss since the last point, validation loss).
        weights: a hash of the initial weights and the first batch.
        notes: what weft warned of.
    """

    start: float | None
    valid: float | None = None
    test: float | None = None
    seconds: float = 0.0
    diverged: bool = True
    curve: list[tuple[int, float | None, float | None]] = field(default_factory=list)
    weights: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def score(self) -> float:
        """What a search looks at: the validation loss, infinite where it diverged."""
        return math.inf if self.diverged or self.valid is None else self.valid


class Stream:
    """So many batches of a loader, which begins again where it ends."""

    def __init__(self, loader: Any, steps: int):
        self.loader, self.steps = loader, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self):
        left = self.steps
        while left:
            before = left
            for batch in self.loader:
                yield batch
                left -= 1
                if not left:
                    return
            if left == before:
                raise ValueError("the training loader is empty: fewer rows than one batch?")


class Watch:
    """A learner callback that takes the time and, at some steps, the validation loss."""

    def __init__(self, record: Record, valid: Any, steps: int, points: int):
        self.record, self.valid = record, valid
        self.marks = {max(1, round(steps * (i + 1) / points)) for i in range(points)}
        self.losses: list[float] = []
        self.seconds, self.began = 0.0, 0.0
        self.hashed = hashlib.sha256()

    def before_batch(self, learn: Learner) -> None:
        if learn.batch == 0:
            for tensor in (*learn.model.state_dict().values(), *learn.xs, learn.y):
                if isinstance(tensor, Tensor):
                    self.hashed.update(_bytes(tensor))
            self.record.weights = self.hashed.hexdigest()[:16]

    def after_batch(self, learn: Learner) -> None:
        step, now = learn.batch + 1, _now(learn)
        self.losses.append(learn.loss_value)
        if step > 1:
            self.seconds += now - self.began
        if step in self.marks:
            loss = finite(learn.validate(self.valid)["valid_loss"])
            mean = finite(sum(self.losses) / len(self.losses))
            self.record.curve.append((step, mean, loss))
            self.losses.clear()
            if loss is None:
                raise StopFit
        self.began = _now(learn)


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().tobytes()  # numpy has no bfloat16


def _now(learn: Learner) -> float:
    if learn.device.type == "cuda":
        torch.cuda.synchronize(learn.device)
    return time.perf_counter()


def finite(x: float | None) -> float | None:
    """A number, or None where it is not finite, as JSON has it."""
    return None if x is None or not math.isfinite(x) else x


@contextmanager
def generators_apart() -> Iterator[None]:
    """Afterwards every generator is as it was before."""
    before = rng_state()
    try:
        yield
    finally:
        set_rng_state(before)


def run(job: Job) -> Record:
    """Train once.

    Raises:
        Exception: what the task or the optimizer raises, with a note that says in which run.
    """
    with warnings.catch_warnings(record=True) as said, generators_apart():
        warnings.simplefilter("always", WeftWarning)
        try:
            record = _trained(job)
        except Exception as error:
            error.add_note(f"in the run of {job.contestant.name} at lr {job.setting.lr:g}")
            raise
    kept = {str(w.message) for w in said if issubclass(w.category, WeftWarning)}
    record.notes = sorted(kept)
    return record


def _trained(job: Job) -> Record:
    built = job.task.build(job.seed)
    built.model.to(job.device)
    hypers = dict(job.setting.hypers)
    learn = Learner(
        DataLoaders(Stream(built.train, job.steps)),
        built.model,
        built.loss,
        lambda params, lr: job.contestant.build(built.model, lr, **hypers),
        lr=job.setting.lr,
        progress=False,
    )
    rate = shape(job.schedule, job.setting.warmup)
    peaks = [group["lr"] for group in learn.opt.param_groups]
    seed_all(job.seed)  # of dropout: the same for all, whatever making the optimizer has drawn
    record = Record(finite(learn.validate(built.valid)["valid_loss"]))
    watch = Watch(record, built.valid, job.steps, job.points)
    try:
        half = 0.5 / job.steps  # a step's rate is that of its middle: neither end's is zero
        schedules = {"lr": lambda at: [peak * rate(at + half) for peak in peaks]}
        learn.fit(1, peaks, schedules=schedules, cbs=[watch])
    except NonFiniteLoss:
        return record
    except StepError as error:
        if not of_a_matrix(error):
            raise
        return record
    finally:
        record.seconds = watch.seconds / max(1, job.steps - 1) * job.steps
    if learn.interrupted:
        raise KeyboardInterrupt
    _judge(record, learn, built)
    return record


def of_a_matrix(error: StepError) -> bool:
    """Whether a step failed as a matrix that it decomposes is not finite: the run has diverged."""
    return isinstance(error.__cause__, torch.linalg.LinAlgError)


def _judge(record: Record, learn: Learner, built: Built) -> None:
    """Where the run ended, and whether that is worse than where it began."""
    record.valid = record.curve[-1][2]
    if record.valid is None or record.start is None or record.valid > record.start:
        return
    test = record.valid if built.test is None else learn.validate(built.test)["valid_loss"]
    record.test, record.diverged = finite(test), not math.isfinite(test)
