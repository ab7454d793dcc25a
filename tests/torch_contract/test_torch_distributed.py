"""DDP, ZeroRedundancyOptimizer, FSDP2 and distributed checkpoints, in two processes on gloo."""

import json
import pathlib
import subprocess
import sys

import pytest
import torch
from contract_problems import advance, equal_states, parameters, snapshot
from torch.distributed.checkpoint import state_dict as dcp

import weft

WORK = pathlib.Path(__file__).with_name("distributed_work.py")


@pytest.mark.processes
def test_two_processes(tmp_path):
    both = [
        subprocess.Popen(
            [sys.executable, str(WORK), str(rank), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = []
    try:
        for process in both:
            errors.append(process.communicate(timeout=120)[1])
    finally:
        for process in both:
            process.kill()
    for rank, said in enumerate(errors):
        result = tmp_path / f"{rank}.json"
        assert result.exists(), said
        for name, trace in json.loads(result.read_text()).items():
            pytest.fail(f"{name} in process {rank}:\n{trace}")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = parameters((4, 3), (3, 2), dtype=torch.float32)


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop", "Lion", "LAMB", "Ranger", "Muon"])
def test_distributed_checkpoints_of_one_process(name, flat):
    """Its names are the parameters' own; an optimizer that has not stepped is initialised."""
    options = dcp.StateDictOptions(flatten_optimizer_state_dict=flat)
    extra = {"momentum": 0.9} if name == "SGD" else {}
    model, twin = Net(), Net()
    opt, other = (getattr(weft, name)(m.parameters(), lr=0.1, **extra) for m in (model, twin))
    advance(opt, list(model.parameters()), 3)
    saved = dcp.get_optimizer_state_dict(model, opt, options=options)
    if flat:
        assert any(key.startswith("state.a.") for key in saved)
    before = [p.detach().clone() for p in twin.parameters()]
    dcp.set_optimizer_state_dict(twin, other, saved, options=options)
    for p, held in zip(twin.parameters(), before, strict=True):
        assert torch.equal(p, held)
    equal_states(opt, other)


def test_getting_the_state_of_an_optimizer_that_has_not_stepped():
    model = Net()
    opt = weft.AdamW(model.parameters(), lr=torch.tensor(0.1))
    before, groups = [p.detach().clone() for p in model.parameters()], snapshot(opt)["param_groups"]
    saved = dcp.get_optimizer_state_dict(model, opt)
    assert set(saved["state"]) == {"a", "b"}
    assert set(saved["state"]["a"]) == {"step", "exp_avg", "exp_avg_sq"}
    assert opt.state_dict()["param_groups"] == groups
    for p, held in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, held)
        assert p.grad is None
