"""skorch: hypers by double underscore, groups by pattern, saving, cloning, pickling, searching."""

import pickle

import numpy
import pytest
import torch
from torch import nn

import weft

skorch = pytest.importorskip("skorch", reason="skorch is not installed: weft-optim[clients]")

x = numpy.random.default_rng(0).normal(size=(192, 8)).astype("float32")
y = numpy.sign(x.sum(1, keepdims=True)).astype("float32")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.body(x).tanh())


def net(optimizer, **options):
    torch.manual_seed(0)
    options = {"lr": 0.01, "max_epochs": 4, **options}
    return skorch.NeuralNetRegressor(
        Net, optimizer=optimizer, batch_size=16, train_split=None, verbose=0, **options
    )


def weights(fitted):
    return list(fitted.module_.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer__weight_decay": 0.1, "optimizer__betas": (0.8, 0.9)},
        {"optimizer__param_groups": [("head.*", {"lr": 0.1}), ("*bias", {"weight_decay": 0.0})]},
    ],
    ids=str,
)
def test_it_trains_as_torchs_own_does(options):
    ours, theirs = (net(c, **options).fit(x, y) for c in (weft.AdamW, torch.optim.AdamW))
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-4, atol=1e-5)


def test_a_chain_of_ones_own():
    fitted = net(weft.AdamW.chain() + weft.callbacks.cautious).fit(x, y)
    assert fitted.history[-1]["train_loss"] < fitted.history[0]["train_loss"]


def test_set_params_reaches_a_fitted_optimizer():
    fitted = net(weft.SGD, optimizer__momentum=0.9).fit(x, y)
    fitted.set_params(lr=0.0, optimizer__weight_decay=0.0)
    before = [p.detach().clone() for p in weights(fitted)]
    fitted.partial_fit(x, y)
    assert fitted.optimizer_.param_groups[0]["lr"] == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, weights(fitted), strict=True))


def test_saved_in_the_middle_it_resumes_exactly(tmp_path, engine):
    whole = net(weft.AdamW).fit(x, y)
    files = {"f_params": tmp_path / "p.pt", "f_optimizer": tmp_path / "o.pt"}
    whole.save_params(**files)
    whole.partial_fit(x, y)
    resumed = net(weft.AdamW).initialize()
    resumed.load_params(**files)
    resumed.partial_fit(x, y)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_it_clones_and_pickles():
    from sklearn.base import clone

    fitted = net(weft.Lion).fit(x, y)
    clone(fitted).fit(x, y)
    again = pickle.loads(pickle.dumps(fitted))
    fitted.partial_fit(x, y)
    again.partial_fit(x, y)
    assert all(torch.equal(a, b) for a, b in zip(weights(fitted), weights(again), strict=True))


def test_its_callbacks():
    from skorch.callbacks import Checkpoint, GradientNormClipping, LRScheduler

    callbacks = [
        GradientNormClipping(0.5),
        LRScheduler(
            torch.optim.lr_scheduler.OneCycleLR, max_lr=0.05, total_steps=48, step_every="batch"
        ),
        Checkpoint(monitor="train_loss_best", dirname="kept"),
    ]
    ours, theirs = (net(c, callbacks=callbacks).fit(x, y) for c in (weft.AdamW, torch.optim.AdamW))
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-4, atol=1e-5)
