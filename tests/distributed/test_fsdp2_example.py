"""The example: a run that is resumed on another number of ranks goes on where it was."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def losses(folder, ranks, *options):
    """Step -> loss, as the example prints them."""
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
            str(ranks), str(ROOT / "examples" / "fsdp2.py"), *options,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        int(step): float(loss) for step, loss in re.findall(r"step +(\d+)  loss (\S+)", done.stdout)
    }


@pytest.mark.processes
@pytest.mark.slow
def test_curves_join(tmp_path):
    whole = losses(tmp_path, 1, "--steps", "40")
    begun = losses(tmp_path, 2, "--steps", "20", "--save", "saved")
    resumed = losses(tmp_path, 3, "--steps", "40", "--load", "saved")
    assert begun[10] == pytest.approx(whole[10], abs=1e-3)
    assert resumed.keys() == {20, 30, 39}
    for step, loss in resumed.items():
        assert loss == pytest.approx(whole[step], abs=1e-3)
    assert resumed[39] < whole[0] - 1.5
