"""fastai's Learner, in the virtual environment of its own that `make` builds in .venv-fastai.

It is of its own because it brings torchvision and 1.7 GB; what it asks of an optimizer is in
in_fastai.py, which runs there with this checkout's weft.
"""

import os
import subprocess
from pathlib import Path

import pytest

from clients.test_examples import run

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-fastai" / "bin" / "python"

pytestmark = pytest.mark.skipif(
    not (ROOT / ".venv-fastai" / ".ready").exists(),
    reason="fastai has a virtual environment of its own, not built yet: make .venv-fastai/.ready",
)


def test_the_real_learner_drives_weft():
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "tests/clients/in_fastai.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_its_example_learns(tmp_path):
    assert run(PYTHON, "fastai", tmp_path) > 0.9
