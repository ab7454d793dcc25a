"""Lightning's Trainer and Fabric: closures, clipping, accumulation, precision, checkpoints."""

import logging

import pytest
import torch
from torch import nn

import weft

lightning = pytest.importorskip(
    "lightning", reason="lightning is not installed: weft-optim[clients]"
)
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error::weft.WeftWarning"),
]
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def batches(n=12):
    g = torch.Generator().manual_seed(0)
    xs = torch.randn(n, 16, 8, generator=g)
    return [(x, (x.sum(1, keepdim=True) > 0).float() * 2 - 1) for x in xs]


class Net(lightning.LightningModule):
    def __init__(self, opt_func, total=36, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
        self.opt_func, self.total, self.losses, self.lrs = opt_func, total, [], []

    def training_step(self, batch, _):
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def on_train_batch_end(self, *_):
        self.lrs.append(self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self):
        opt = self.opt_func(self.parameters())
        sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.02, total_steps=self.total)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": sched, "interval": "step"}}


def trainer(epochs=3, **options):
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )


def loader(n=12):
    return torch.utils.data.DataLoader(batches(n), batch_size=None)


def fit(model, epochs=3, ckpt_path=None, **options):
    t = trainer(epochs, **options)
    t.fit(model, loader(), ckpt_path=ckpt_path, weights_only=None)
    return t


OPTIMIZERS = {
    "adamw": (weft.AdamW, torch.optim.AdamW),
    "sgd": (
        lambda p: weft.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_clip_val": 0.05},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 3},
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
    ],
    ids=str,
)
def test_it_trains_as_torchs_own_does(name, options):
    ours, theirs = (Net(opt_func) for opt_func in OPTIMIZERS[name])
    fit(ours, **options)
    fit(theirs, **options)
    assert ours.lrs == theirs.lrs
    torch.testing.assert_close(ours.losses, theirs.losses, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resume_in_the_middle_is_exact(name, tmp_path, engine):
    make = OPTIMIZERS[name][0]
    whole, first, second = Net(make), Net(make), Net(make, seed=1)
    expected = fit(whole)
    fit(first, epochs=1).save_checkpoint(tmp_path / "one.ckpt")
    resumed = fit(second, ckpt_path=tmp_path / "one.ckpt")
    assert first.losses + second.losses == whole.losses
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
        for key, value in expected.optimizers[0].state[a].items():
            assert torch.equal(value, resumed.optimizers[0].state[b][key])


def test_a_closure_is_evaluated_as_often_as_a_wrapper_asks():
    model = Net(lambda p: (weft.SGD.chain(momentum=0.9) + weft.SAM(rho=0.05))(p, lr=0.1))
    fit(model, epochs=1)
    assert len(model.losses) == 24
    assert sum(model.losses[-4:]) < sum(model.losses[:4])


def test_its_finder_leaves_the_optimizer_as_it_was():
    from lightning.pytorch.tuner import Tuner

    class Tunable(Net):
        def configure_optimizers(self):
            return self.opt_func(self.parameters(), lr=self.lr)

    model = Tunable(weft.AdamW)
    model.lr = 1e-3
    before = [p.detach().clone() for p in model.parameters()]
    found = Tuner(trainer()).lr_find(model, loader(), num_training=30, update_attr=False)
    assert len(found.results["lr"]) == 30
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_stochastic_weight_averaging():
    from lightning.pytorch.callbacks import StochasticWeightAveraging

    model = Net(weft.AdamW)
    fit(model, epochs=4, callbacks=[StochasticWeightAveraging(1e-3, 0.5)])
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert model.losses[-1] < model.losses[0]


def test_two_optimizers_by_hand():
    class Two(Net):
        automatic_optimization = False

        def training_step(self, batch, i):
            opt = self.optimizers()[i % 2]
            self.toggle_optimizer(opt)
            loss = super().training_step(batch, i)
            opt.zero_grad()
            self.manual_backward(loss)
            opt.step()
            self.untoggle_optimizer(opt)

        def on_train_batch_end(self, *_):
            pass

        def configure_optimizers(self):
            return weft.SGD(self.net[0].parameters(), lr=0.05), weft.Lion(self.net[2].parameters())

    model = Two(None)
    fit(model)
    assert sum(model.losses[-4:]) < sum(model.losses[:4])


def test_fabric_saves_and_loads(tmp_path):
    def start(seed):
        torch.manual_seed(seed)
        fabric = lightning.Fabric(accelerator="cpu", devices=1)
        model = nn.Linear(8, 1)
        model, opt = fabric.setup(model, weft.AdamW(model.parameters(), lr=0.05))
        return fabric, model, opt

    def train(fabric, model, opt):
        for x, y in batches():
            opt.zero_grad()
            fabric.backward(nn.functional.mse_loss(model(x), y))
            opt.step()

    fabric, model, opt = start(0)
    train(fabric, model, opt)
    fabric.save(tmp_path / "f.ckpt", {"model": model, "opt": opt})
    train(fabric, model, opt)
    again = start(1)
    fabric.load(tmp_path / "f.ckpt", {"model": again[1], "opt": again[2]})
    train(*again)
    assert torch.equal(model.weight, again[1].weight)
