"""What `weft bench` shows: progress, a table, a picture, JSON."""

import json
import os
import platform
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from weft.bench.suite import PARTS, Options, Row
from weft.learner.extras import need

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
    console.print(f"picture: {out}", soft_wrap=True)


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
    out = need("rich.table", "cli").Table(box=need("rich.box", "cli").SIMPLE, pad_edge=False)
    for name, justify in (("", "left"), ("measured", "right"), ("at most", "right"), ("", "left")):
        out.add_column(name, justify=justify)
    out.add_column("in numbers", style="dim")
    part = ""
    for row in rows:
        if part and row.part != part:
            out.add_section()
        part = row.part
        verdict = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[row.met]
        goal = "" if row.target is None else shown(row.target, row.unit)
        out.add_row(row.name, shown(row.value, row.unit), goal, verdict, row.detail)
    return out


def shown(value: float, unit: str) -> str:
    """A figure as people write it.

    >>> shown(0.253, "x"), shown(3.2e-05, "s"), shown(0.5, "s"), shown(2e10, "B/s")
    ('0.25x', '32 us', '0.5 s', '20 GB/s')
    """
    if unit == "x":
        return f"{value:.2f}x"
    if unit == "s":
        return f"{value * 1e6:.3g} us" if value < 1e-2 else f"{value:.3g} s"
    if unit in ("B", "B/s"):
        step = 1e9 if value >= 1e9 else 1e6
        return f"{value / step:.3g} {'GB' if step == 1e9 else 'MB'}{unit[1:]}"
    return f"{value:g} {unit}".strip()


def draw(rows: list[Row], figure: Any, out: Path) -> None:
    """Ratios and their targets, as bars."""
    shown_ = [r for r in rows if r.unit == "x" and r.target is not None and r.value == r.value]
    picture = figure.Figure(figsize=(8, 0.35 * len(shown_) + 1.2), layout="constrained")
    ax = picture.subplots()
    ax.barh(range(len(shown_)), [r.value for r in shown_], color="#4477aa", label="measured")
    targets = [r.target for r in shown_]
    ax.scatter(
        targets, range(len(shown_)), color="#cc3311", marker="|", s=200, label="at most", zorder=3
    )
    ax.set_yticks(range(len(shown_)), [r.name for r in shown_])
    ax.invert_yaxis()
    ax.axvline(1, color="gray", linewidth=0.8)
    ax.set_xlabel("time of a step, relative to the other")
    ax.legend(loc="lower right")
    picture.savefig(out, dpi=120)
