"""Resume is exact: 60 steps, or 30, saved, loaded in a new process, and 30 more: the same bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import resume_job
import torch
from resume_job import FORMATS, HALF, Job

import weft
from weft.optimizers import algorithms

ROOT = Path(__file__).parents[2]

# one of each kind: moments, factors, matrices, shared values, wrappers, what draws numbers
SOME = [
    "adafactor",
    "adahessian",
    "adamw",
    "lamb",
    "lion",
    "muon",
    "nadam",
    "prodigy",
    "radam",
    "ranger",
    "rprop",
    "schedulefreeadamw",
    "sgd",
    "shampoo",
    "soap",
]

pytestmark = pytest.mark.filterwarnings("ignore")


def differences(a, b, path=""):
    """Where two results are not the same bits and types, in words."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{path} has {sorted(map(str, a))}, then {sorted(map(str, b))}"]
        return [d for k in a for d in differences(a[k], b[k], f"{path}/{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return [f"{path} has {len(a)} entries, then {len(b)}"]
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{path}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape:
            return [f"{path} is {a.dtype} {tuple(a.shape)}, then {b.dtype} {tuple(b.shape)}"]
        same = torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
        return [] if same else [f"{path} differs by {(a - b).abs().max().item()}"]
    return [] if type(a) is type(b) and (a == b or a != a) else [f"{path} is {a!r}, then {b!r}"]


def check(names, engine, folder):
    whole, broken = {}, {}
    for name in names:
        try:
            job = Job(name, engine).train(HALF)
            for form in FORMATS:
                job.save(folder / f"{name}.{form}", form)
            whole[name] = job.train(HALF).result()
        except Exception as e:
            broken[name] = f"{type(e).__name__}: {e}"[:600]
    torch.save(whole, folder / "whole.pt")
    done = subprocess.run(
        [sys.executable, resume_job.__file__, str(folder), engine, *whole],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for name, expected in whole.items():
        for form in FORMATS:
            after = torch.load(folder / f"{name}.{form}.after", weights_only=True)
            found = [after["error"]] if "error" in after else differences(expected, after)
            if found:
                broken[f"{name} by {form}"] = found[:3]
    assert not broken, "\n".join(f"{k}: {v}" for k, v in broken.items())


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_some_resume_exactly(engine, tmp_path):
    check([name for name in SOME if name in algorithms()], engine, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("engine", ["eager", "auto", "fused"])
def test_all_resume_exactly(engine, part, tmp_path):
    names = list(algorithms())[part::4]
    if engine == "fused":
        names = [name for name in names if fuses(name)]
    check(names, engine, tmp_path)


def fuses(name):
    """Whether this optimizer runs fused, rather than saying why not."""
    try:
        Job(name, "fused").train(1)
    except weft.StepError as e:
        return "cannot run fused" not in str(e)
    return True
