"""What all ranks run together: each function in the CASES of some modules, in as many processes.

`python ranks.py MODULES WORLD FOLDER` imports them once, forks, and each rank says in
FOLDER/RANK.json which case went wrong. `run` starts that and reads it.
"""

import datetime
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback

import torch
import torch.distributed as dist

HERE = pathlib.Path(__file__).parent
TOGETHER = 1500  # seconds for all cases


def run(modules, world):
    """Run all cases of some modules; what fails first is told."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, modules, str(world), folder]
        said = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=TOGETHER).stderr
        for rank in range(world):
            result = pathlib.Path(folder, f"{rank}.json")
            assert result.exists(), said
            for name, trace in json.loads(result.read_text()).items():
                raise AssertionError(f"{name} in rank {rank} of {world}:\n{trace}")


def main(modules, world, folder):
    sys.path.insert(0, str(HERE))
    cases = {}
    for name in modules.split(","):
        cases |= importlib.import_module(name).CASES
    torch.set_num_threads(1)
    ranks = []
    for rank in range(world):
        ranks.append(os.fork())
        if not ranks[-1]:
            try:
                one(rank, world, cases, folder)
            finally:
                os._exit(0)
    for pid in ranks:
        os.waitpid(pid, 0)


def one(rank, world, cases, folder):
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    failures = {}
    for name, case in cases.items():
        try:
            case(rank, world)
        except Exception:
            failures[name] = traceback.format_exc()
            break  # another rank may be waiting in a collective that this one has left
    pathlib.Path(folder, f"{rank}.json").write_text(json.dumps(failures))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
