"""A rank that is killed or stuck in the middle of something: the others end with an error, in time."""

import os
from pathlib import Path

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from fault_cases import TIMEOUT, VICTIM, die, ends_in_time, hang
from local_cases import net, trained
from placed import close, matrices
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

import weft

__all__ = ["CASES", "FOLDER", "TIMEOUT"]

FOLDER = "WEFT_TEST_FOLDER"  # told by the test


def sharded(method=weft.Muon):
    model = net()
    fully_shard(model[0])
    fully_shard(model)
    return model, matrices(method)(model.parameters(), "fused")


def saved(model, opt, name, writer=dcp.FileSystemWriter):
    weights, states = get_state_dict(model, opt)
    dcp.save(
        {"model": weights, "opt": states}, storage_writer=writer(f"{os.environ[FOLDER]}/{name}")
    )


def dies_in_collective(name, fate=die, method=weft.Muon):
    def case(rank, world):
        model, opt = sharded(method)
        trained(model, opt)
        if rank == VICTIM:
            setattr(dist, name, fate)
        with ends_in_time():
            opt.step()

    return case


class DyingWriter(dcp.FileSystemWriter):
    """Its files are there in part when the rank dies."""

    def write_data(self, plan, planner):
        written = super().write_data(plan, planner)
        if dist.get_rank() == VICTIM:
            die()
        return written


def in_a_save(rank, world):
    model, opt = sharded()
    trained(model, opt)
    saved(model, opt, "first")
    trained(model, opt)
    with ends_in_time():
        saved(model, opt, "second", DyingWriter)


def goes_on(rank, world):
    """Those that are left load what was saved last, and go on as one process would."""
    assert not Path(os.environ[FOLDER], "second", ".metadata").exists()
    model, opt = sharded()
    weights, states = get_state_dict(model, opt)
    dcp.load({"model": weights, "opt": states}, checkpoint_id=f"{os.environ[FOLDER]}/first")
    set_state_dict(model, opt, model_state_dict=weights, optim_state_dict=states)
    trained(model, opt)
    alone = net()
    other = matrices(weft.Muon)(alone.parameters(), "fused")
    trained(alone, other)
    trained(alone, other)
    close(list(model.parameters()), list(alone.parameters()), opt, other, 1e-5)


CASES = {
    "in_a_transfer": dies_in_collective("all_to_all_single"),
    "in_a_reduction": dies_in_collective("all_reduce", method=weft.LAMB),
    "stuck": dies_in_collective("all_to_all_single", hang),
    "in_a_save": in_a_save,
    "goes_on": goes_on,
}
