"""What test_resume.py runs in two processes: training, saved in three formats, and gone on with."""

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

import weft
from weft.optimizers import algorithms

FORMATS = ("pt", "safetensors", "dcp")
HALF = 30


class Job:
    """A small net and its optimizer: matrices only, where the algorithm is for matrices."""

    def __init__(self, name, engine, seed=0):
        torch.manual_seed(seed)
        cls = algorithms()[name]
        self.model = net(bias=True)
        try:
            self.opt = cls(self.model.named_parameters(), engine=engine)
        except ValueError:  # for matrices only (a ChainError is a ValueError too)
            self.model = net(bias=False)
            self.opt = cls(self.model.named_parameters(), engine=engine)
        self.graph = "Hutchinson" in repr(self.opt._wrappers)

    def train(self, steps):
        for _ in range(steps):
            x = torch.randn(16, 4)
            y = x[:, :2] * x[:, 2:]

            def closure(x=x, y=y):
                self.opt.zero_grad()
                loss = nn.functional.mse_loss(self.model(x), y)
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*create_graph=True")
                    loss.backward(create_graph=self.graph)
                return loss

            self.opt.step(closure)
        return self

    def result(self):
        """All that must be the same bits: parameters, state, groups."""
        saved = self.opt.state_dict()
        return {
            "params": [p.detach().clone() for p in self.model.parameters()],
            "state": saved["state"],
            "groups": [
                {k: v for k, v in g.items() if k != "params"} for g in saved["param_groups"]
            ],
        }

    def save(self, path, form):
        if form == "dcp":
            model, opt = get_state_dict(self.model, self.opt)
            dcp.save({"model": model, "opt": opt, "rng": torch.get_rng_state()}, checkpoint_id=path)
        elif form == "pt":
            parts = {"model": self.model.state_dict(), "opt": self.opt.state_dict()}
            torch.save({**parts, "rng": torch.get_rng_state()}, path)
        else:
            weft.save_checkpoint(path, model=self.model, optimizer=self.opt)

    def load(self, path, form):
        if form == "dcp":
            if self.opt.needs_closure or any(b.binding.reads_loss for b in self.opt._bound):
                self.train(1)  # the step that this loader takes to make the state gives no loss
            model, opt = get_state_dict(self.model, self.opt)
            parts = {"model": model, "opt": opt, "rng": torch.get_rng_state()}
            dcp.load(parts, checkpoint_id=path)
            set_state_dict(
                self.model, self.opt, model_state_dict=parts["model"], optim_state_dict=parts["opt"]
            )
            torch.set_rng_state(parts["rng"])
        elif form == "pt":
            parts = torch.load(path, weights_only=True)
            self.model.load_state_dict(parts["model"])
            self.opt.load_state_dict(parts["opt"])
            torch.set_rng_state(parts["rng"])
        else:
            weft.load_checkpoint(path, model=self.model, optimizer=self.opt)
        return self


def net(bias):
    return nn.Sequential(nn.Linear(4, 6, bias=bias), nn.Tanh(), nn.Linear(6, 2, bias=bias))


def go_on(folder, engine, names):
    """The second process: load each checkpoint into fresh objects, train on, leave the result."""
    for name in names:
        for form in FORMATS:
            try:
                job = Job(name, engine, seed=1).load(folder / f"{name}.{form}", form)
                outcome = job.train(HALF).result()
            except Exception as e:
                outcome = {"error": f"{type(e).__name__}: {e}"[:600]}
            torch.save(outcome, folder / f"{name}.{form}.after")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    go_on(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
