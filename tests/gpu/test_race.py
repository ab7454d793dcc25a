"""A race on the GPU."""

import pytest
import torch

import weft
from weft.racing.keep import Keep


def task(seed):
    x = torch.randn(40, 8)
    dls = weft.learner.in_memory((x, x.sum(1, keepdim=True)), (x, x.sum(1, keepdim=True)), 10, seed)
    return torch.nn.Linear(8, 1), dls, torch.nn.functional.mse_loss


def test_a_race_gives_what_it_gives_on_the_cpu(tmp_path):
    losses = {}
    for device in ("cpu", "cuda"):
        found = weft.race(
            task, ["sgd", "adamw"], steps=8, seeds=1, lrs=3, device=device, workers=1,
            out=tmp_path / device,
        )  # fmt: skip
        losses[device] = [row["loss"] for row in found.rows]
        assert len(Keep(tmp_path / device / "runs.jsonl")) > 6
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)
