"""accelerate: accumulation, clipping, and save_state in the middle."""

import pytest
import torch
from torch import nn

import weft

accelerate = pytest.importorskip(
    "accelerate", reason="accelerate is not installed: weft-optim[clients]"
)


def data():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(192, 8, generator=g)
    return torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True).sign())


OPTIMIZERS = {
    "adamw": (lambda p: weft.AdamW(p, lr=0.01), lambda p: torch.optim.AdamW(p, lr=0.01)),
    "sgd": (
        lambda p: weft.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ),
}


class Run:
    def __init__(self, opt_func, accumulate=1, seed=0):
        torch.manual_seed(seed)
        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 1))
        opt = opt_func(model.parameters())
        sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.02, total_steps=60)
        loader = torch.utils.data.DataLoader(data(), batch_size=16)
        prepared = self.accelerator.prepare(model, opt, loader, sched)
        self.model, self.opt, self.loader, self.sched = prepared
        torch.manual_seed(seed)

    def train(self, epochs):
        for _ in range(epochs):
            for x, y in self.loader:
                with self.accelerator.accumulate(self.model):
                    self.accelerator.backward(nn.functional.mse_loss(self.model(x), y))
                    if self.accelerator.sync_gradients:
                        self.accelerator.clip_grad_norm_(self.model.parameters(), 0.5)
                    self.opt.step()
                    self.sched.step()
                    self.opt.zero_grad()
        return [p.detach().clone() for p in self.model.parameters()]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_it_trains_as_torchs_own_does(name, accumulate):
    ours, theirs = (Run(f, accumulate).train(3) for f in OPTIMIZERS[name])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_save_state_in_the_middle_is_exact(name, accumulate, tmp_path, engine):
    make = OPTIMIZERS[name][0]
    whole = Run(make, accumulate)
    whole.train(2)
    whole.accelerator.save_state(tmp_path)
    expected = whole.train(2)
    resumed = Run(make, accumulate, seed=1)
    resumed.accelerator.load_state(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed.train(2), strict=True))
    states = [r.opt.state_dict()["state"] for r in (whole, resumed)]
    for i, state in states[0].items():
        assert all(torch.equal(v, states[1][i][k]) for k, v in state.items())


def test_train_and_eval_reach_the_optimizer():
    run = Run(lambda p: (weft.AdamW.chain() + weft.WeightEMA(decay=0.9))(p, lr=0.01))
    run.train(1)
    raw = run.model[0].weight.clone()
    run.opt.eval()
    assert not torch.equal(raw, run.model[0].weight)
    run.opt.train()
    assert torch.equal(raw, run.model[0].weight)
