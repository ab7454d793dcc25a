"""The study: twelve optimizers and one mix on five tasks, all with the same search; `make study`.

AdamW has the widest search: besides the common one, of rates and warm-up, it is tuned in a race of its own
over more rates, decay and betas, and that setting is the baseline whose final loss the others are to
reach. The mix is the best of some on two of the tasks; the other three are its test. Hours on a few cores;
what has been run is kept in `out/study`, and the same command goes on from there. Ends with
`benchmarks/results/study.json` and the tables for `docs/results.md`.
"""

import argparse
import json
import os
import platform
import re
from itertools import pairwise
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

import weft
from weft.learner.data import InMemoryLoader, embedded_digits, in_memory, split

RESULTS = Path(__file__).parent / "results" / "study.json"
# of a full run; fewer than the task has where more would take a machine of two cores days
STEPS = {
    "tabular": None,
    "digits": None,
    "autoencoder": 300,
    "text": 150,
    "fashion": 100,
}
BASELINE = "adamw, tuned widest"


def schedule_free_muon() -> weft.Chain:
    """Muon's orthogonal step on schedule-free's z, as large as one of Adam's."""
    block = weft.callbacks
    return weft.chain(
        block.average, block.newton_schulz, block.scale_to_rms, block.decay_update,
        block.warmup_rate, block.iterate_weight, block.schedule_free, weft.AtAverage(),
        lr=0.0025, momentum=0.9, weight_decay=0.0,
    )  # fmt: skip


# matrix methods have AdamW for what is no hidden matrix
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
}
MIXES = {
    **{words: words for words in (
        "normuon+cautious/adamw+cautious", "muon/nadamw", "muon/nadamw+cautious",
        "muon+cautious/nadamw+cautious",
    )},
    "schedule-free muon": {"hidden": schedule_free_muon(), "*": "schedulefreeadamw"},
}  # fmt: skip
FOUND_ON = ("autoencoder", "text")
COMMON = {"warmup": (0.05, 0.2)}
WIDE = {
    **COMMON, "weight_decay": (0.0, 0.1), "betas": ((0.9, 0.95), (0.9, 0.999), (0.95, 0.99)),
}  # fmt: skip


def autoencoder(seed: int) -> Any:
    """Digits of 14 x 14 through a layer of 16 and back; the mean squared error of a pixel."""
    data = embedded_digits()
    (train, valid), test = split(data.train, 800), data.test

    def flat(rows: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        small = nn.functional.avg_pool2d(rows[0], 2).flatten(1)
        return small, small

    sizes = (196, 96, 16, 96, 196)
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))[:-1]
    loaders = (*in_memory(flat(train), flat(valid), 64, seed), InMemoryLoader(flat(test), 256))
    return model, loaders, nn.functional.mse_loss


OWN = {"autoencoder": autoencoder}


def tuned_adamw(task: Any, out: Path, quick: dict[str, Any]) -> str:
    """The best AdamW of the widest search, in words."""
    options = {"lrs": 9, "factor": 2.0, "tries": WIDE, "halving": True, **quick}
    found = weft.race(task, ["adamw"], out=out / "widest", **options)
    best = found.outcomes[0].found.best
    if best is None:
        raise RuntimeError(f"every setting of AdamW diverged on {task}")
    hypers = {"lr": best.lr, **{k: v for k, v in best.hypers if k != "warmup"}}
    return f"adamw({', '.join(f'{k}={v!r}' for k, v in hypers.items())})"


def studied(name: str, out: Path, quick: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """One task: everything that came out, in JSON's types."""
    task, out = OWN.get(name, name), out / name
    chosen = {"steps": STEPS.get(name), "points": 5, **quick}
    given = {BASELINE: tuned_adamw(task, out, chosen), **given}
    race = weft.race(task, given, baseline=BASELINE, out=out, tries=COMMON, **chosen)
    race.save()
    return race.as_dict()


def best_mix(tried: dict[str, Any]) -> str:
    """The mix with the fewest steps to the baseline's loss over the tasks that it is looked for on.

    Of several, the one whose losses at the full number of steps are lowest beside the baseline's.
    """

    def order(name: str) -> tuple[float, float]:
        steps, losses = 0.0, 0.0
        for found in tried.values():
            rows = {row["optimizer"]: row for row in found["optimizers"]}
            ratio, loss = rows[name]["steps_ratio"], rows[name]["loss"]
            steps += inf if ratio is None else ratio
            losses += inf if loss is None else loss / rows[BASELINE]["loss"]
        return steps, losses

    return min(MIXES, key=order)


def summary(tasks: dict[str, Any]) -> str:
    """Two Markdown tables: steps to the tuned AdamW's final loss, relative to its own; and final losses."""
    rows = {
        task: {row["optimizer"]: row for row in found["optimizers"]}
        for task, found in tasks.items()
    }
    names = list(next(iter(rows.values())))
    steps = [[name, *_ratios([of[name]["steps_ratio"] for of in rows.values()])] for name in names]
    losses = [[name, *(_loss(of[name]) for of in rows.values())] for name in names]
    return f"{_table([*tasks, 'median'], steps)}\n\n{_table(list(tasks), losses)}"


def _table(heads: list[str], lines: list[list[str]]) -> str:
    head = f"| | {' | '.join(heads)} |\n{'|---' * (len(heads) + 1)}|\n"
    return head + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _ratios(ratios: list[float | None]) -> list[str]:
    """Of each task, and their median; what is not reached is longest."""
    every = [inf if r is None else r for r in ratios]
    return ["not reached" if r == inf else f"{r:.2f}x" for r in (*every, median(every))]


def _loss(row: dict[str, Any]) -> str:
    if row["loss"] is None:
        return "diverges"
    return f"{row['loss']:.3g} ({row['loss_low']:.3g} to {row['loss_high']:.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=STEPS)
    parser.add_argument("--out", type=Path, default=Path("out/study"))
    parser.add_argument("--quick", action="store_true", help="a few steps: does it work?")
    options = parser.parse_args()
    quick: dict[str, Any] = {"steps": 8, "seeds": 1, "lrs": 1, "extend": 0} if options.quick else {}
    mixes = {task: studied(task, options.out, quick, MIXES) for task in FOUND_ON}
    mix = best_mix(mixes)
    print(f"\nthe mix: {mix}\n\n{summary(mixes)}", flush=True)
    tasks: dict[str, Any] = {}
    for task in options.tasks:
        given = {**WORDS, f"mix: {mix}": MIXES[mix]}
        tasks[task] = studied(task, options.out, quick, given)
        print(f"\n{task} done\n\n{summary(tasks)}", flush=True)
        machine = {"torch": torch.__version__, "python": platform.python_version()}
        machine |= {"cores": str(os.cpu_count())}
        if not options.quick:  # what a trial finds is nothing to keep
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            told = json.dumps({"machine": machine, "mixes": mixes, "tasks": tasks}, indent=1) + "\n"
            RESULTS.write_text(re.sub(r"[^\s(\"]*/(?=src/weft/)", "", told))  # notes name files


if __name__ == "__main__":
    main()
