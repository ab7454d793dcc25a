"""What `weft race` shows: progress, the table, JSON, where the files are."""

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weft.learner.extras import need
from weft.racing import race
from weft.racing.report import WIDTH, notes, report

__all__ = ["run", "values"]


def run(
    names: Sequence[str],
    task: str,
    rules: dict[str, Any],
    tries: Sequence[str],
    baseline: str | None,
    workers: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """The whole command.

    Raises:
        ValueError: for who or what cannot be raced.
        ImportError: where a package is missing; it says how to install it.
    """
    need("matplotlib")  # before the runs, not after them
    console = need("rich.console", "cli").Console(stderr=as_json, highlight=False)
    if not console.is_terminal:  # a file has no width, and rich takes 80 for it
        console.width = max(console.width, WIDTH)
    rules = {**rules, "tries": dict(values(words) for words in tries)}
    found = race(task, names, baseline=baseline, out=out, workers=workers, progress=True, **rules)
    paths = found.save()
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        console.print(report(found))
        for note in notes(found):
            console.print(note, markup=False, soft_wrap=True)
    console.print("written: " + ", ".join(map(str, paths)), soft_wrap=True)


def values(words: str) -> tuple[str, tuple[Any, ...]]:
    """A hyper and the values to try, from `name=value,value`.

    Raises:
        ValueError: where the words are not such.

    >>> values("betas=(0.9,0.99),(0.95,0.95)")
    ('betas', ((0.9, 0.99), (0.95, 0.95)))
    """
    name, _, given = words.partition("=")
    try:
        found = ast.literal_eval(f"({given},)")
        if name.isidentifier() and given:
            return name, found
    except (SyntaxError, ValueError):
        pass
    raise ValueError(f"--try {words}: name a hyper and its values, such as weight_decay=0,0.1")
