"""What `weft bench` shows: progress, a table, a picture, JSON."""

import json
import os
import platform
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from weft.bench.suite import PARTS, Options, Row
from weft.learner.extras import need
from weft.learner.extras import table as styled

__all__ = ["run"]


def run(options: Options, threads: int | None, out: Path, as_json: bool) -> None:
    """The whole command.

    Raises:
        ImportError: where a package is missing; it says how to install it.
        OSError: where the picture cannot be written.
    """
    rich, plt = need("rich.progress", "cli"), need("matplotlib.figure")
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads or os.cpu_count() or 1)
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # of the children
    console = need("rich.console", "cli").Console(stderr=as_json, highlight=False)
    about = described()
    console.print(", ".join(f"{k} {v}" for k, v in about.items()))
    rows: list[Row] = []
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="weft-inductor-") as folder,
        warnings.catch_warnings(),
        rich.Progress(*columns(rich), console=console, transient=True) as bar,
    ):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        warnings.simplefilter("ignore")
        task = bar.add_task("", total=len(PARTS))
        for part in PARTS:
            bar.update(task, description=(part.__doc__ or part.__name__).split(":")[0].rstrip("."))
            for row in part(options):
                rows.append(row)
                bar.update(task, description=row.name)
            bar.advance(task)
    draw(rows, plt, out)
    if as_json:
        print(json.dumps({"machine": about, "rows": [r.as_dict() for r in rows]}, indent=2))
    else:
        console.print(table(rows))
    minutes = (time.monotonic() - begin) / 60
    console.print(f"{minutes:.1f} minutes; picture: {out}", soft_wrap=True)


def columns(rich: Any) -> list[Any]:
    """What the progress bar shows."""
    return [rich.SpinnerColumn(), rich.BarColumn(), rich.TextColumn("{task.description}")]


def described() -> dict[str, str]:
    """What the figures depend on."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        "of cores": str(os.cpu_count()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset"),
        "load before": load,
    }


def table(rows: list[Row]) -> Any:
    """The rows, with targets and verdicts."""
    columns = ("what", "measured", "at most", "met", "in numbers")
    out = styled("", *columns, right=("measured", "at most"), extra="cli")
    part = ""
    for row in rows:
        if part and row.part != part:
            out.add_section()
        part = row.part
        verdict = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[row.met]
        goal = "" if row.target is None else shown(row.target, row.unit)
        out.add_row(row.name, shown(row.value, row.unit), goal, verdict, row.detail)
    return out


def shown(value: float | None, unit: str) -> str:
    """A figure as people write it.

    >>> shown(0.253, "x"), shown(3.2e-05, "s"), shown(0.5, "s"), shown(2e10, "B/s")
    ('0.25x', '32 us', '0.5 s', '20 GB/s')
    """
    if value is None:
        return "-"
    if unit == "x":
        return f"{value:.2f}x"
    if unit == "s":
        return f"{value * 1e6:.3g} us" if value < 1e-2 else f"{value:.3g} s"
    if unit in ("B", "B/s"):
        step = 1e9 if value >= 1e9 else 1e6
        return f"{value / step:.3g} {'GB' if step == 1e9 else 'MB'}{unit[1:]}"
    return f"{value:g} {unit}".strip()


def draw(rows: list[Row], figure: Any, out: Path) -> None:
    """Every row: ratios as bars with their targets, and the rest by its share of the target."""
    ratios = [r for r in rows if r.unit == "x"]
    rest = [r for r in rows if r.unit != "x"]
    heights = [len(ratios) + 3, len(rest) + 3]
    picture = figure.Figure(figsize=(11, 0.3 * sum(heights)), layout="constrained")
    upper, lower = picture.subplots(2, height_ratios=heights)
    bars(upper, ratios, [(r.value, r.target) for r in ratios])
    upper.set_xlabel("time of a step, relative to the other")
    bars(lower, rest, [(r.value / r.target if r.value and r.target else None, 1) for r in rest])
    lower.set_xlabel("relative to the target; no bar where there is none")
    picture.savefig(out, dpi=120)


def bars(ax: Any, rows: list[Row], lengths: list[tuple[float | None, float | None]]) -> None:
    """A bar for each row, with its figure; red where a target is missed."""
    colors = ["#cc3311" if r.met is False else "#4477aa" for r in rows]
    ax.barh(range(len(rows)), [length or 0 for length, _ in lengths], color=colors)
    for i, (row, (length, target)) in enumerate(zip(rows, lengths, strict=True)):
        ax.text(length or 0, i, f" {shown(row.value, row.unit)}", va="center", fontsize=7)
        if row.target is not None:
            ax.plot([target] * 2, [i - 0.4, i + 0.4], color="black")
    ax.set_yticks(range(len(rows)), [r.name for r in rows], fontsize=7)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.axvline(1, color="gray", linewidth=0.8)
