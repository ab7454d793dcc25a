"""The tables of the study on its page are those of the file that is committed with it."""

import importlib.util
import json

from site_pages import ROOT


def study():
    spec = importlib.util.spec_from_file_location("study", ROOT / "benchmarks" / "study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_what_the_study_found():
    found = json.loads((ROOT / "benchmarks" / "results" / "study.json").read_text())
    page = (ROOT / "docs" / "results.md").read_text()
    assert study().summary(found["tasks"]) in page
    assert study().summary(found["mixes"]).partition("\n\n")[0] in page
    assert f"mix: {study().best_mix(found['mixes'])} |" in page
    notes = [
        n for task in found["tasks"].values() for row in task["optimizers"] for n in row["notes"]
    ]
    assert not [n for n in notes if "(/" in n], "a path of one machine"
    for task in found["tasks"].values():
        assert {len(row["finals"]) for row in task["optimizers"]} == {3}


def test_what_is_not_reached_is_longest():
    row = {"loss": 0.5, "loss_low": 0.4, "loss_high": 0.6, "optimizer": "a"}
    tasks = {
        "x": {"optimizers": [{**row, "steps_ratio": 0.25}]},
        "y": {"optimizers": [{**row, "steps_ratio": None}]},
        "z": {"optimizers": [{**row, "steps_ratio": 0.5, "loss": None}]},
    }
    steps, losses = study().summary(tasks).split("\n\n")
    assert steps.splitlines()[-1] == "| a | 0.25x | not reached | 0.50x | 0.50x |"
    assert losses.splitlines()[-1] == "| a | 0.5 (0.4 to 0.6) | 0.5 (0.4 to 0.6) | diverges |"
