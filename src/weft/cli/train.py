"""What `weft train` shows: progress, the grid, the table, JSON, the picture."""

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from weft.cli.digits import CONTESTANTS, Comparison, Job, compare, total_batches
from weft.learner.data import Digits, load_digits
from weft.learner.extras import need
from weft.learner.extras import table as styled
from weft.learner.plotting import plot_history
from weft.racing.field import check_device

__all__ = ["run"]

QUICK = Job(epochs=3, seeds=(0,), grid_epochs=2, grid_rows=640)


def run(
    data: Path | None,
    epochs: int,
    seeds: int,
    workers: int | None,
    out: Path,
    as_json: bool,
    quick: bool,
    device: str,
) -> None:
    """The whole command.

    Raises:
        ValueError: where there is no such `device`.
        DataError: where `data` cannot be used.
        ImportError: where a package is missing; it says how to install it.
        OSError: where the picture cannot be written.
    """
    for module in ("rich", "matplotlib"):
        need(module, "demo")  # before a minute of training, not after it
    check_writable(out)
    check_device(device)
    digits = load_digits(data)
    job = QUICK if quick else Job(epochs=epochs, seeds=tuple(range(seeds)))
    workers = 1 if workers is None and device != "cpu" else workers
    job = replace(job, device=device, workers=workers or job.workers)
    digits = few(digits) if quick else digits
    # with --json, stdout is for the machine that reads it
    console = need("rich.console").Console(stderr=as_json, highlight=False)
    console.print(
        f"{digits.name}: {len(digits.train[0]):,} to train, {len(digits.test[0]):,} held out;"
        f" {job.epochs} epochs, batches of {job.batch_size}, {count(len(job.seeds), 'seed')}"
    )
    results = watched(digits, job, console)
    picture = draw(results, digits, out)
    if as_json:
        print(json.dumps(as_dict(results, digits, job, picture), indent=2))
    else:
        console.print(table(results, len(job.seeds)))
    console.print(f"picture: {picture}", soft_wrap=True)


def check_writable(out: Path) -> None:
    """Make the folder of the picture, or raise."""
    if out.is_dir():
        raise IsADirectoryError(
            f"--out {out} is a folder: give the picture a name, such as train.png"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make {out.parent} for the picture: {error.strerror}") from error


def few(digits: Digits) -> Digits:
    """The first few hundred digits."""
    (x, y), (test_x, test_y) = digits.train, digits.test
    return digits._replace(train=(x[:640], y[:640]), test=(test_x[:256], test_y[:256]))


def watched(digits: Digits, job: Job, console: Any) -> list[Comparison]:
    """Do the job, with a bar on a terminal and a line for each optimizer."""
    rich = need("rich.progress")
    bar = rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    total = total_batches(digits, job, CONTESTANTS)
    task = bar.add_task(f"{job.workers} runs at a time", total=total)
    with bar, warnings.catch_warnings():
        # the original's callback is kept to the letter, and torch's note about it said elsewhere
        warnings.filterwarnings("ignore", message="This overload of add_ is deprecated")
        return list(
            compare(
                digits,
                job,
                CONTESTANTS,
                on_batches=lambda n: bar.advance(task, n),
                on_grid=lambda result: console.print(grid_line(result), soft_wrap=True),
            )
        )


def grid_line(result: Comparison) -> str:
    """The grid of one optimizer, and what was chosen from it.

    >>> grid_line(Comparison("Adam", {1e-3: 0.25, 1e-2: 0.5, 1.0: math.inf}, 1e-3))
    'Adam: loss .250 at lr 0.001, .500 at lr 0.01, diverged at lr 1; takes 0.001'
    """
    tried = ", ".join(
        f"{f'{loss:.3f}'.removeprefix('0') if math.isfinite(loss) else 'diverged'} at lr {lr:g}"
        for lr, loss in result.grid.items()
    )
    return f"{result.name}: loss {tried}; takes {result.lr:g}"


def table(results: Sequence[Comparison], n_seeds: int) -> Any:
    """The final figures."""
    how = f"medians of {n_seeds} seeds" if n_seeds > 1 else "one seed"
    figures = ("lr", "validation loss", "vs plain SGD", "accuracy", "seconds")
    drawn = styled(f"on the held-out digits, {how}", "optimizer", *figures, right=figures)
    base = results[0].medians["valid_loss"]
    for result in results:
        medians = result.medians
        drawn.add_row(
            result.name,
            f"{result.lr:g}",
            f"{medians['valid_loss']:.4f}",
            f"{medians['valid_loss'] / base:.2f}x",
            f"{medians['accuracy']:.2%}",
            f"{medians['seconds']:.1f}",
        )
    return drawn


def as_dict(
    results: Sequence[Comparison], digits: Digits, job: Job, picture: Path
) -> dict[str, Any]:
    """Everything that was found, in JSON's types; a run that diverged has null for its loss."""
    finite = lambda x: x if math.isfinite(x) else None
    return {
        "data": digits.name,
        "train_rows": len(digits.train[0]),
        "held_out_rows": len(digits.test[0]),
        "epochs": job.epochs,
        "seeds": list(job.seeds),
        "picture": str(picture),
        "optimizers": [
            {
                "name": result.name,
                "grid": [{"lr": lr, "loss": finite(loss)} for lr, loss in result.grid.items()],
                "lr": result.lr,
                **{name: finite(value) for name, value in result.medians.items()},
                "runs": [
                    {
                        "seed": seed,
                        "valid_loss": finite(run.valid_loss),
                        "accuracy": run.accuracy,
                        "seconds": run.seconds,
                    }
                    for seed, run in zip(job.seeds, result.runs, strict=True)
                ],
            }
            for result in results
        ],
    }


def draw(results: Sequence[Comparison], digits: Digits, out: Path) -> Path:
    """The picture: all seeds of each optimizer."""
    recorders = {f"{r.name}, lr {r.lr:g}": [run.recorder for run in r.runs] for r in results}
    plot_history(recorders, out, title=f"One cycle on {digits.name}")
    return out


def count(n: int, noun: str) -> str:
    """A number and its noun.

    >>> count(1, "seed"), count(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{n} {noun}{'' if n == 1 else 's'}"
