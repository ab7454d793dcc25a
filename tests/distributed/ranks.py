"""What all ranks run together: each function in the CASES of some modules, in as many processes.

`python ranks.py MODULES WORLD FOLDER` imports them once, forks, and each rank says in
FOLDER/RANK.json which case went wrong. `run` starts that and reads it. A module may be followed by
`:CASE`, and say how long its collectives wait, as TIMEOUT.
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


def run(modules, world, dying=()):
    """Run all cases of some modules; what fails first is told. Some ranks are to die in the last."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, modules, str(world), folder]
        said = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=TOGETHER).stderr
        results = [pathlib.Path(folder, f"{rank}.json") for rank in range(world)]
        for rank, result in enumerate(results):
            for name, trace in json.loads(result.read_text()).items() if result.exists() else ():
                raise AssertionError(f"{name} in rank {rank} of {world}:\n{trace}")
        assert [rank for rank, r in enumerate(results) if not r.exists()] == list(dying), said


def main(modules, world, folder):
    sys.path.insert(0, str(HERE))
    cases, timeout = {}, 60
    for name in modules.split(","):
        name, _, only = name.partition(":")
        module = importlib.import_module(name)
        cases |= {only: module.CASES[only]} if only else module.CASES
        timeout = getattr(module, "TIMEOUT", timeout)
    torch.set_num_threads(1)
    ranks = []
    for rank in range(world):
        ranks.append(os.fork())
        if not ranks[-1]:
            try:
                one(rank, world, cases, folder, timeout)
            finally:
                os._exit(0)
    for pid in ranks:
        os.waitpid(pid, 0)


def one(rank, world, cases, folder, timeout):
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=timeout),
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
