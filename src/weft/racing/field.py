"""A race: the same search for everyone, then seeds, then how soon the baseline's loss is reached."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from weft.errors import did_you_mean
from weft.racing.contestants import Contestant, Traits, contestants
from weft.racing.keep import Keep
from weft.racing.pool import Pool, cores
from weft.racing.progress import Progress
from weft.racing.result import Outcome, Race
from weft.racing.rules import Rules, as_rules
from weft.racing.run import Job, Record, generators_apart
from weft.racing.search import Found, Setting, lockstep, reach, search
from weft.racing.tasks import Task, as_task

__all__ = ["race"]


def race(
    task: Any,
    given: Mapping[str, Any] | Iterable[str],
    *,
    baseline: str | None = None,
    out: str | os.PathLike = "out/race",
    workers: int | None = None,
    progress: bool | None = None,
    **rules: Any,
) -> Race:
    """Train several optimizers on one task, each at its best setting of the same search.

    All have the same initial weights, batches and dropout for each seed. A setting is chosen on the
    validation data; results are on what the task holds out besides, where it does. How soon one
    reaches the baseline's final loss is measured by shorter runs, each with its schedule fitted to
    it. What has been run is kept in `out`: the same call again takes it from there.

    Args:
        task: "digits", "fashion", "text", "tabular", "bert"; `"my.py:task"`; or a function
            `task(seed)` that gives a model, batches (train, valid[, test]) and `loss(pred, y)`.
        given: name -> chain, words as `weft.create` takes them, class, function of parameters and
            lr, or a mapping as `weft.route` takes it; or only words.
        baseline: whose final loss is to be reached; the first's where None.
        out: the folder of runs.jsonl; `Race.save` writes the rest there.
        workers: runs at a time, in processes of one thread; as many as there are cores where None,
            on a GPU one; 1 is in this process.
        progress: whether to show it; None does on a terminal.
        **rules: what `weft.racing.Rules` has: steps, seeds, lrs, tries, halving, schedule, ...

    Returns:
        What came out, which prints as a table.

    Raises:
        ValueError: for who or what cannot be raced; before anything has been run.

    >>> import tempfile, torch, weft
    >>> def task(seed):
    ...     x = torch.randn(64, 3)
    ...     data = weft.learner.in_memory((x, x.sum(1, keepdim=True)), (x, x.sum(1, keepdim=True)))
    ...     return torch.nn.Linear(3, 1), data, torch.nn.functional.mse_loss
    >>> found = weft.race(task, ["sgd", "adam"], steps=20, seeds=1, workers=1, lrs=3,
    ...                   factor=10, out=tempfile.mkdtemp())
    >>> [row["optimizer"] for row in found.rows]
    ['sgd', 'adam']
    """
    who, stated, what = contestants(given), as_rules(rules), as_task(task)
    names = [c.name for c in who]
    if baseline is not None and baseline not in names:
        raise ValueError(
            f"the baseline {baseline!r} does not race{did_you_mean(baseline, names)}:"
            f" {', '.join(names)} do"
        )
    if workers is None:
        workers = 1 if stated.device != "cpu" else cores()
    with Pool(workers) as pool, Progress(progress) as shown:
        field = Field(what, who, stated, Keep(Path(out, "runs.jsonl")), pool, shown)
        outcomes = field.outcomes(baseline or names[0])
    return Race(what.name, field.steps, stated, baseline or names[0], outcomes, Path(out), workers)


class Field:
    """Everyone in a race, and what has been run."""

    def __init__(
        self,
        task: Task,
        who: Sequence[Contestant],
        rules: Rules,
        keep: Keep,
        pool: Pool,
        progress: Progress,
    ):
        self.task, self.rules, self.keep = task, rules, keep
        self.pool, self.progress = pool, progress
        self.who = {c.name: c for c in who}
        self.steps = task.steps if rules.steps is None else rules.steps
        self.runs: dict[str, dict[str, Record]] = {name: {} for name in self.who}
        self._weights: dict[int, str] = {}
        check_device(rules.device)
        with generators_apart():
            model = task.build(0).model
            self.traits: dict[str, Traits] = {n: c.traits(model) for n, c in self.who.items()}
        for name in rules.tries:
            if name != "warmup" and not any(name in t.hypers for t in self.traits.values()):
                raise ValueError(f"nobody has a hyper {name!r} to try values of")

    def outcomes(self, baseline: str) -> list[Outcome]:
        """Search, seeds, shorter runs."""
        searches = {
            name: search(t.lr, self.rules, self.steps, t.hypers) for name, t in self.traits.items()
        }
        found = lockstep(searches, self._searched)
        best = {name: f.best for name, f in found.items() if f.best is not None}
        full = {name: (setting, self.steps) for name, setting in best.items()}
        finals = self._seeds("seeds at the best", full, self._steps_after(finals=False))
        target = typical(finals[baseline]) if baseline in finals else None
        soonest: dict[str, int | None] = {}
        if target is not None:
            lengths = [max(1, round(h * self.steps)) for h in self.rules.horizons]
            reaching = {n: reach(lengths, self.steps) for n in best if n != baseline}
            soonest = lockstep(reaching, lambda asked: self._reached(asked, best, target))
            soonest[baseline] = self.steps
        return [
            self._outcome(name, found[name], finals.get(name, []), soonest.get(name))
            for name in self.who
        ]

    def _outcome(self, name: str, found: Found, finals: list[Record], n: int | None) -> Outcome:
        seconds = None
        if n is not None and found.best is not None:
            there = [self.keep[self._job(name, found.best, s, n).key] for s in self._seed_list()]
            seconds = median(r.seconds for r in there)
        runs = list(self.runs[name].values())
        return Outcome(name, found, finals, n, seconds, runs, self.traits[name].scheduled)

    # ------------------------------------------------------------ what is asked for

    def _searched(self, asked: dict[str, list[tuple[Setting, int]]]) -> dict[str, list[float]]:
        jobs = {n: [self._job(n, s, 0, k) for s, k in some] for n, some in asked.items()}
        words = "search" if not any(self.runs.values()) else "search, further"
        records = self._run(words, jobs, self._steps_after(finals=True))
        return {n: [r.score for r in some] for n, some in records.items()}

    def _seeds(
        self, words: str, settings: dict[str, tuple[Setting, int]], later: int
    ) -> dict[str, list[Record]]:
        jobs = {
            n: [self._job(n, setting, seed, steps) for seed in self._seed_list()]
            for n, (setting, steps) in settings.items()
        }
        return self._run(words, jobs, later)

    def _reached(
        self, asked: dict[str, int], best: dict[str, Setting], target: float
    ) -> dict[str, bool]:
        runs = self._seeds("shorter runs", {n: (best[n], k) for n, k in asked.items()}, later=0)
        return {n: (t := typical(some)) is not None and t <= target for n, some in runs.items()}

    def _seed_list(self) -> range:
        return range(1, 1 + self.rules.seeds)

    def _steps_after(self, finals: bool) -> int:
        """About how many steps come after the search: bisection tries some horizons."""
        tried = len(self.rules.horizons).bit_length() - 1
        return round(len(self.who) * self.rules.seeds * self.steps * (finals + 0.5 * tried))

    def _job(self, name: str, setting: Setting, seed: int, steps: int) -> Job:
        rules = self.rules
        schedule = rules.schedule if self.traits[name].scheduled else "constant"
        who = self.who[name]
        return Job(
            self.task, who, setting, seed, steps, schedule, min(rules.points, steps), rules.device
        )

    # ------------------------------------------------------------ running

    def _run(self, words: str, jobs: dict[str, list[Job]], later: int) -> dict[str, list[Record]]:
        """Records of jobs, of which those that are kept are not run again."""
        new = {j.key: j for some in jobs.values() for j in some if j.key not in self.keep}
        if new:
            self.progress.part(words, len(new), sum(j.steps for j in new.values()), later)
        for job, record in self.pool.run(list(new.values())):
            self._check_same_start(job, record)
            self.keep.add(job.key, record)
            self.progress.ran(job.steps)
        for name, some in jobs.items():
            for job in some:
                self._check_same_start(job, self.keep[job.key])
                self.runs[name][job.key] = self.keep[job.key]
        return {name: [self.keep[j.key] for j in some] for name, some in jobs.items()}

    def _check_same_start(self, job: Job, record: Record) -> None:
        if record.weights and self._weights.setdefault(job.seed, record.weights) != record.weights:
            raise ValueError(
                f"{self.task.name}({job.seed}) does not begin alike each time: other initial weights"
                " or another first batch. Let it depend on nothing but the seed, then remove"
                f" {self.keep.path}"
            )


def check_device(name: str) -> None:
    """Refuse a device that there is not, before anything has been run."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error


def typical(records: Sequence[Record]) -> float | None:
    """The median of the held-out losses, None where most diverged."""
    losses = sorted(float("inf") if r.test is None else r.test for r in records)
    middle = median(losses)
    return middle if middle < float("inf") else None
