"""The table of a race, and the lines below it."""

import io
from typing import TYPE_CHECKING, Any

from weft.learner.extras import need, table

if TYPE_CHECKING:
    from weft.racing.result import Race

__all__ = ["WIDTH", "notes", "report", "text"]

WIDTH = 110  # where no terminal says what there is


def report(race: "Race") -> Any:
    """A rich table."""
    rules = race.rules
    seeds = f"median of {rules.seeds} seeds" if rules.seeds > 1 else "one seed"
    words = ["optimizer", *(["others"] if rules.tries else [])]
    figures = ("best lr", "loss", "over seeds", "steps to\nbaseline", "seconds\nto it", "diverged")
    drawn = table(f"{race.task}: {race.steps} steps, {seeds}", *words, *figures, right=figures)
    drawn.columns[0].overflow = "fold"  # of a long name, all of it
    for row in race.rows:
        to, ratio = row["steps_to_baseline"], row["steps_ratio"]
        drawn.add_row(
            row["optimizer"],
            *([row["others"]] if rules.tries else []),
            _number(row["lr"], "g"),
            _number(row["loss"], ".4g"),
            f"{_number(row['loss_low'], '.3g')} to {_number(row['loss_high'], '.3g')}",
            f"{to} ({ratio:.2g}x)" if to is not None else _never(race),
            _number(row["seconds_to_baseline"], ".3g"),
            f"{row['diverged']} of {row['runs']}",
        )
    return drawn


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _never(race: "Race") -> str:
    longest = max(race.rules.horizons, default=1.0)
    return f"not in {round(longest * race.steps)}"


def notes(race: "Race") -> list[str]:
    """What has to be known to read the table."""
    rules = race.rules
    at_a_time = f"{race.workers} runs at a time" if race.workers > 1 else "one run at a time"
    return [
        f"search: {rules.in_words()}; then a {rules.schedule} to zero after a warm-up",
        f"steps to the baseline's loss, {race.baseline}'s: the shortest of runs of {_list(race)} steps,"
        " each with a schedule of its own",
        f"seconds: of training alone, {at_a_time}",
        *(f"{o.name}: {note}" for o in race.outcomes for note in o.notes),
    ]


def _list(race: "Race") -> str:
    return ", ".join(str(max(1, round(h * race.steps))) for h in sorted(race.rules.horizons))


def text(race: "Race", width: int = WIDTH) -> str:
    """Table and notes as plain text."""
    into = io.StringIO()
    console = need("rich.console").Console(file=into, width=width, highlight=False)
    console.print(report(race))
    for note in notes(race):
        console.print(note, markup=False, soft_wrap=True)
    return into.getvalue().rstrip()
