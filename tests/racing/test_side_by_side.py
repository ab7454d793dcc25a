"""Races in processes of their own: the same figures, and Ctrl-C."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import weft

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SCRIPT = """
import torch, weft

def halve(update):
    return {"update": update / 2}

def task(seed):
    x = torch.randn(200, 8)
    data = weft.learner.in_memory((x, x.sum(1, keepdim=True)), (x, x.sum(1, keepdim=True)), seed=seed)
    return torch.nn.Linear(8, 1), data, torch.nn.functional.mse_loss

task.steps = 40
mine = weft.SGD.chain(lr=0.1) + halve

if __name__ == "__main__":
    import sys
    found = weft.race(task, {"sgd": "sgd", "mine": mine}, seeds=2, lrs=3,
                      workers=int(sys.argv[1]), out=sys.argv[2])
    print(found.as_dict()["optimizers"])
"""


def timeless(path):
    """The runs of a file without what depends on the machine."""
    found = {}
    for line in path.read_text().splitlines():
        kept = json.loads(line)
        kept["record"].pop("seconds")
        found[json.dumps(kept["run"], sort_keys=True)] = kept["record"]
    return found


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(weft.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def test_two_at_a_time_give_what_one_gives(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for workers in ("1", "2"):
        command = [sys.executable, str(script), workers, str(tmp_path / workers)]
        ran = subprocess.run(
            command, capture_output=True, text=True, env=environment(), timeout=300, check=False
        )
        assert ran.returncode == 0, ran.stderr
    one, two = (timeless(tmp_path / workers / "runs.jsonl") for workers in "12")
    assert one == two
    assert len(one) > 10


def test_a_script_without_its_guard_says_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    command = [sys.executable, str(script), "2", str(tmp_path / "out")]
    ran = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=300, check=False
    )
    assert ran.returncode
    assert 'if __name__ == "__main__":' in ran.stderr.splitlines()[-1]


@pytest.fixture
def begun(tmp_path):
    """A race in two processes that has done two runs of many; its folder's runs.jsonl."""
    task = SCRIPT.replace("task.steps = 40", "task.steps = 2000")
    (tmp_path / "my.py").write_text(task)
    code = "from weft.cli.main import main; main()"
    command = [sys.executable, "-c", code, "race", "sgd", "mine=my.py:mine", "--task", "my.py:task"]
    command += ["--workers", "2", "--seeds", "1"]
    runs = tmp_path / "out/race/runs.jsonl"
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait(lambda: runs.is_file() and runs.read_text().count("\n") >= 2)
        assert process.poll() is None, process.stderr.read()
        yield process, runs
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait(until):
    deadline = time.monotonic() + 120
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def in_group(group):
    """The processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, own, *_ = stat.read_text().rpartition(")")[2].split()
            found += [stat.parent.name] if int(own) == group and state != "Z" else []
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks at /proc")
def test_a_race_that_is_killed_leaves_no_process_behind(begun):
    process, _ = begun
    assert len(in_group(process.pid)) >= 3
    process.kill()
    process.wait()
    wait(lambda: not in_group(process.pid))


def test_ctrl_c_keeps_what_is_done(begun):
    process, runs = begun
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "weft: interrupted: the same command goes on from here"
    assert "Traceback" not in said
    assert len(timeless(runs)) >= 2
