"""The commands `weft race` and `weft path`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from weft.cli.fail import fail

__all__ = ["path", "race"]


def race(
    names: Annotated[
        list[str],
        typer.Argument(help='Who races: adamw, "adamw+cautious", fast=my.py:chain, muon/adamw.'),
    ],
    task: Annotated[
        str, typer.Option(help="digits, fashion, text, tabular, bert, or your own: my.py:task.")
    ] = "digits",
    steps: Annotated[int | None, typer.Option(min=1, help="Of a full run; the task's own.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each at its best setting.")] = 3,
    lrs: Annotated[int, typer.Option(min=1, help="Rates in a grid around its own default.")] = 5,
    factor: Annotated[float, typer.Option(help="Between neighbours in a grid.")] = 10**0.5,
    tries: Annotated[
        list[str] | None,
        typer.Option("--try", help="Another hyper to search: weight_decay=0,0.1; warmup=0,0.1."),
    ] = None,
    halving: Annotated[bool, typer.Option("--halving", help="Successive halving.")] = False,
    schedule: Annotated[
        str, typer.Option(help="To zero, after the warm-up: cosine, linear.")
    ] = "cosine",
    warmup: Annotated[float, typer.Option(help="The fraction of a run that is warm-up.")] = 0.05,
    baseline: Annotated[
        str | None, typer.Option(help="Whose final loss is to be reached; the first's.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; as many as there are cores.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs, table and pictures.")] = Path(
        "out/race"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
) -> None:
    """Race optimizers on one task, each at the best setting of the same search.

    The same initial weights and batches for all; a grid of rates around each one's default, which
    grows while its best is at the edge; then seeds, and shorter runs that measure how soon the
    baseline's final loss is reached. Interrupt it when you like: the same command goes on.

    Examples:

    - `weft race adamw sgd lion --task digits`

    - `weft race adamw "adamw+cautious" muon/adamw --task text --try weight_decay=0,0.1`

    - `weft race adamw mine=my.py:chain --task my.py:task --halving`
    """
    from weft.cli.race import run

    rules = {
        "steps": steps, "seeds": seeds, "lrs": lrs, "factor": factor, "halving": halving,
        "schedule": schedule, "warmup": warmup, "device": device,
    }  # fmt: skip
    try:
        run(names, task, rules, tries or [], baseline, workers, out, as_json)
    except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
        fail("; ".join([str(error), *getattr(error, "__notes__", ())]))
    except KeyboardInterrupt:
        fail("interrupted: the same command goes on from here", code=130)


def path(
    names: Annotated[list[str], typer.Argument(help="Who walks, as `weft race` takes it.")],
    on: Annotated[
        list[str] | None,
        typer.Option(help="rosenbrock, beale, rastrigin, ravine or noisy; all of them."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each path.")] = 200,
    gif: Annotated[bool, typer.Option("--gif", help="An animated GIF as well.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of table and picture.")] = Path("out/path"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
) -> None:
    """Draw the paths of optimizers down functions of two variables, and count their steps.

    Each at the best rate of a grid around its default, which stays all the way.

    Examples:

    - `weft path sgd "sgd(momentum=0.9)" adam`

    - `weft path adam lion --on rosenbrock --on beale --gif`
    """
    from weft.paths import SURFACES
    from weft.paths import path as walk

    try:
        found = walk(names, on or list(SURFACES), steps=steps, progress=None if as_json else True)
        paths = found.save(out, gif)
    except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", code=130)
    typer.echo(json.dumps(found.rows, indent=2) if as_json else str(found))
    typer.echo("written: " + ", ".join(map(str, paths)), err=as_json)
