"""The study: twelve optimizers and one mix on five tasks, all with the same search; `make study`.

AdamW has the widest search: besides the common one, of rates, decay and warm-up, it is tuned in a
race of its own over more rates and betas, and that setting is the baseline whose final loss the others
are to reach. Hours on a few cores; what has been run is kept in `out/study`, and the same command goes
on from there. Ends with `benchmarks/results/study.json` and the table for `docs/results.md`.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from statistics import median
from typing import Any

import torch

import weft

RESULTS = Path(__file__).parent / "results" / "study.json"
TASKS = ("digits", "fashion", "text", "tabular", "bert")
BASELINE = "adamw, tuned widest"
# matrix methods have AdamW for what is no hidden matrix; the mix was chosen on digits and tabular
WORDS = {
    "adamw": "adamw",
    "nadamw": "nadamw",
    "lion": "lion",
    "ademamix": "ademamix",
    "mars": "mars",
    "adopt": "adopt",
    "soap": "soap/adamw",
    "klsoap": "klsoap/adamw",
    "muon": "muon/adamw",
    "normuon": "normuon/adamw",
    "schedulefree": "schedulefreeadamw",
    "prodigy": "prodigy",
    "mix: normuon, cautious": "normuon+cautious/adamw+cautious",
}
COMMON = {"weight_decay": (0.0, 0.1), "warmup": (0.05, 0.2)}
WIDE = {**COMMON, "betas": ((0.9, 0.95), (0.9, 0.999), (0.95, 0.99))}


def tuned_adamw(task: str, out: Path, quick: dict[str, Any]) -> str:
    """The best AdamW of the widest search, in words."""
    options = {"lrs": 9, "factor": 2.0, "tries": WIDE, **quick}
    found = weft.race(task, ["adamw"], out=out / "widest", **options)
    best = found.outcomes[0].found.best
    if best is None:
        raise RuntimeError(f"every setting of AdamW diverged on {task}")
    hypers = {"lr": best.lr, **{k: v for k, v in best.hypers if k != "warmup"}}
    return f"adamw({', '.join(f'{k}={v!r}' for k, v in hypers.items())})"


def studied(task: str, out: Path, quick: dict[str, Any]) -> dict[str, Any]:
    """One task: everything that came out, in JSON's types."""
    given = {BASELINE: tuned_adamw(task, out, quick), **WORDS}
    race = weft.race(task, given, baseline=BASELINE, out=out, tries=COMMON, **quick)
    race.save()
    return race.as_dict()


def summary(tasks: dict[str, Any]) -> str:
    """A Markdown table: steps to the tuned AdamW's final loss, relative to its own, by task."""
    names = [row["optimizer"] for row in next(iter(tasks.values()))["optimizers"]]
    lines = [f"| | {' | '.join(tasks)} | median |", "|---" * (len(tasks) + 2) + "|"]
    for name in names:
        ratios = [
            next(r["steps_ratio"] for r in found["optimizers"] if r["optimizer"] == name)
            for found in tasks.values()
        ]
        cells = ["not reached" if r is None else f"{r:.2f}x" for r in ratios]
        middle = median(float("inf") if r is None else r for r in ratios)
        cells.append("not reached" if middle == float("inf") else f"{middle:.2f}x")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--out", type=Path, default=Path("out/study"))
    parser.add_argument("--quick", action="store_true", help="a few steps: does it work?")
    options = parser.parse_args()
    quick: dict[str, Any] = {"steps": 8, "seeds": 1, "lrs": 1, "extend": 0} if options.quick else {}
    tasks: dict[str, Any] = {}
    for task in options.tasks:
        tasks[task] = studied(task, options.out / task, quick)
        print(f"\n{task} done\n\n{summary(tasks)}", flush=True)
        machine = {"torch": torch.__version__, "python": platform.python_version()}
        machine |= {"cores": str(os.cpu_count())}
        if not options.quick:  # what a trial finds is nothing to keep
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            RESULTS.write_text(json.dumps({"machine": machine, "tasks": tasks}, indent=1) + "\n")


if __name__ == "__main__":
    main()
