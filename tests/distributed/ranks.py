"""What all ranks run together: `python ranks.py MODULES RANK WORLD FOLDER` runs each function in the
modules' CASES, and says in FOLDER/RANK.json which went wrong. `run` starts them all."""

import datetime
import importlib
import json
import pathlib
import subprocess
import sys
import tempfile
import traceback

import torch
import torch.distributed as dist

HERE = pathlib.Path(__file__).parent
TOGETHER = 300  # seconds for all cases


def run(modules, world):
    """Run all cases of some modules, which share a start; what fails first is told."""
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            subprocess.Popen(
                [sys.executable, __file__, modules, str(rank), str(world), folder],
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(world)
        ]
        said = []
        try:
            for process in ranks:
                said.append(process.communicate(timeout=TOGETHER)[1])
        finally:
            for process in ranks:
                process.kill()
        for rank, words in enumerate(said):
            result = pathlib.Path(folder, f"{rank}.json")
            assert result.exists(), words
            for name, trace in json.loads(result.read_text()).items():
                raise AssertionError(f"{name} in rank {rank} of {world}:\n{trace}")


def main(modules, rank, world, folder):
    sys.path.insert(0, str(HERE))
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    failures = {}
    every = [importlib.import_module(name).CASES for name in modules.split(",")]
    for name, case in [item for cases in every for item in cases.items()]:
        try:
            case(rank, world)
        except Exception:
            failures[name] = traceback.format_exc()
            break  #  another rank may be waiting in a collective that this one has left
    pathlib.Path(folder, f"{rank}.json").write_text(json.dumps(failures))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
