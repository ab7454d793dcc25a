"""What came out of a race: rows, a table, files, pictures."""

import csv
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from weft.racing.rules import Rules
from weft.racing.run import Record, finite
from weft.racing.search import Found, Setting

__all__ = ["COLUMNS", "Outcome", "Race"]

COLUMNS: tuple[str, ...] = (
    "optimizer", "lr", "others", "loss", "loss_low", "loss_high", "steps", "steps_to_baseline",
    "steps_ratio", "seconds", "seconds_to_baseline", "runs", "diverged", "rates_added", "at_edge",
)  # fmt: skip


@dataclass
class Outcome:
    """What came out for one contestant.

    Attributes:
        name: whose.
        found: what the search gave.
        finals: the runs at the best setting, a seed each.
        soonest: the fewest steps of those tried that reach the baseline's loss; None for none.
        seconds: of runs of so many steps, the median.
        runs: all of them, the search's too.
        scheduled: whether its rate fell to zero.
    """

    name: str
    found: Found
    finals: list[Record]
    soonest: int | None
    seconds: float | None
    runs: list[Record]
    scheduled: bool

    @property
    def losses(self) -> list[float]:
        """The held-out losses of the seeds, infinite where one diverged, the best first."""
        return sorted(math.inf if r.test is None else r.test for r in self.finals)

    @property
    def notes(self) -> list[str]:
        """What a reader of the table has to know besides."""
        notes, added = [], self.found.added
        if added:
            notes.append(
                f"the best rate was at the edge of the grid, which grew by {', '.join(map(_g, added))}"
                + (": it still is" if self.found.at_edge else "")
            )
        elif self.found.at_edge:
            notes.append("the best rate is at the edge of the grid")
        if self.found.best is None:
            notes.append("every setting diverged")
        if not self.scheduled:
            notes.append("schedule-free: its rate stays after the warm-up")
        return notes + sorted({note for run in self.runs for note in run.notes})


def _g(x: float) -> str:
    return f"{x:.3g}"


@dataclass
class Race:
    """The outcome of `weft.race`; it prints as a table.

    Attributes:
        task: its name.
        steps: of a full run.
        rules: as stated.
        baseline: whose loss is to be reached.
        outcomes: one for each contestant.
        out: the folder.
        workers: how many runs there were at a time, which seconds depend on.
    """

    task: str
    steps: int
    rules: Rules
    baseline: str
    outcomes: list[Outcome]
    out: Path
    workers: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One for each contestant; None where there is nothing, for all of it diverged."""
        return [self._row(o) for o in self.outcomes]

    def _row(self, o: Outcome) -> dict[str, Any]:
        best, losses = o.found.best, o.losses or [math.inf]
        return {
            "optimizer": o.name,
            "lr": None if best is None else best.lr,
            "others": "" if best is None else best.others(list(self.rules.tries)),
            "loss": finite(median(losses)),
            "loss_low": finite(losses[0]),
            "loss_high": finite(losses[-1]),
            "steps": self.steps,
            "steps_to_baseline": o.soonest,
            "steps_ratio": None if o.soonest is None else o.soonest / self.steps,
            "seconds": median(r.seconds for r in o.finals) if o.finals else None,
            "seconds_to_baseline": o.seconds,
            "runs": len(o.runs),
            "diverged": sum(r.diverged for r in o.runs),
            "rates_added": len(o.found.added),
            "at_edge": o.found.at_edge,
        }

    def __str__(self) -> str:
        from weft.racing.report import text

        return text(self)

    def as_dict(self) -> dict[str, Any]:
        """Everything, in JSON's types."""
        rules = asdict(self.rules) | {"steps": self.steps}
        return {
            "task": self.task,
            "baseline": self.baseline,
            "workers": self.workers,
            "rules": {k: _plain(v) for k, v in rules.items()},
            "optimizers": [
                {
                    **row,
                    "notes": o.notes,
                    "search": [_tried(s, o.found) for s in o.found.losses],
                    "finals": [asdict(r) for r in o.finals],
                }
                for row, o in zip(self.rows, self.outcomes, strict=True)
            ],
        }

    def save(self) -> list[Path]:
        """Write race.json, race.csv and race.png into the folder.

        Raises:
            ImportError: where matplotlib is missing; it says how to install it.
        """
        from weft.racing import draw

        self.out.mkdir(parents=True, exist_ok=True)
        paths = [self.out / name for name in ("race.json", "race.csv", "race.png")]
        paths[0].write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
        with paths[1].open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        draw.picture(self, paths[2])
        return paths


def _tried(setting: Setting, found: Found) -> dict[str, Any]:
    hypers = {k: _plain(v) for k, v in setting.hypers}
    loss = finite(found.losses[setting])
    lr, warmup, steps = setting.lr, setting.warmup, found.steps[setting]
    return {"lr": lr, "warmup": warmup, **hypers, "steps": steps, "loss": loss}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value
