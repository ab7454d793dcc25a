"""Going on from a file gives the same bits; a file that does not fit changes nothing."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import weft
from learner.helpers import STATEFUL, halves, same, weights


class SaveAt:
    """Saves in the middle of a fit."""

    def __init__(self, path, epoch):
        self.path, self.epoch = path, epoch

    def after_epoch(self, learn):
        if learn.epoch == self.epoch:
            learn.save(self.path)


class Noise:
    """Draws from every generator there is, as augmentations do."""

    def before_batch(self, learn):
        learn.xs = (learn.xs[0] + 0.1 * (random.random() + np.random.rand() + torch.rand(())),)


@pytest.mark.parametrize("opt_func", STATEFUL.values(), ids=STATEFUL)
def test_a_fit_is_taken_up_in_the_middle_bit_for_bit(make, tmp_path, opt_func):
    whole = make(opt_func, cbs=[Noise()])
    whole.fit_one_cycle(4, 0.05, cbs=[SaveAt(tmp_path / "learner.pt", 1)])
    whole.fit(1, 0.01)  # what comes after the fit must be the same, too

    resumed = make(opt_func, cbs=[Noise()])
    torch.manual_seed(99)
    resumed.load(tmp_path / "learner.pt")
    assert resumed.epochs_done == 2
    resumed.fit_one_cycle(4, 0.05, start_epoch=resumed.epochs_done)
    resumed.fit(1, 0.01)

    assert resumed.recorder.losses == whole.recorder.losses[12:]
    assert resumed.recorder.moms[-1] == whole.recorder.moms[-1]
    assert same(weights(resumed), weights(whole))


def test_between_fits_with_torchs_loader_and_the_global_generator(make, blobs, tmp_path):
    def loaders():
        data = torch.utils.data.TensorDataset(*blobs[0])
        return torch.utils.data.DataLoader(data, batch_size=16, shuffle=True), None

    learn = make()
    learn.dls = learn.dls.__class__(*loaders())
    learn.fit(1)
    learn.save(tmp_path / "new folder" / "learner.pt")
    learn.fit(1)
    other = make()
    other.dls = other.dls.__class__(*loaders())
    torch.manual_seed(99)
    other.load(tmp_path / "new folder" / "learner.pt").fit(1)
    assert other.recorder.losses == learn.recorder.losses[6:]


def test_frozen_layers_are_frozen_after_loading(make, tmp_path):
    learn = make(splitter=halves)
    learn.freeze()
    learn.fit(1)
    learn.save(tmp_path / "learner.pt")
    learn.fit(1)
    other = make(splitter=halves)
    other.load(tmp_path / "learner.pt")
    assert not other.model[0].weight.requires_grad
    other.fit(1)
    assert same(weights(learn), weights(other))


def test_only_the_weights(make, tmp_path):
    learn = make()
    learn.fit(1)
    learn.save(tmp_path / "learner.pt")
    other = make(torch.optim.SGD)
    state = torch.get_rng_state()
    other.load(tmp_path / "learner.pt", with_opt=False)
    assert same(weights(learn), weights(other))
    assert torch.equal(state, torch.get_rng_state())


def test_the_file_is_safe_to_load(make, tmp_path):
    learn = make(cbs=[Noise()])
    learn.fit(1)
    path = learn.save(tmp_path / "learner.pt")
    content = torch.load(path, weights_only=True)
    assert content["epochs_done"] == 1


def test_a_model_that_does_not_fit_leaves_the_learner_as_it_was(make, tmp_path):
    make(model=nn.Linear(2, 3)).save(tmp_path / "learner.pt")
    learn = make()
    before = weights(learn)
    with pytest.raises(RuntimeError, match="Missing key"):
        learn.load(tmp_path / "learner.pt")
    assert same(before, weights(learn))


def test_an_optimizer_that_does_not_fit_leaves_the_model_as_it_was(make, tmp_path):
    other = make(splitter=halves)
    other.fit(1)
    other.save(tmp_path / "learner.pt")
    learn = make()
    before = weights(learn)
    with pytest.raises(ValueError, match="parameter group"):
        learn.load(tmp_path / "learner.pt")
    assert same(before, weights(learn))


def test_files_that_are_no_learners(make, tmp_path):
    learn = make()
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        learn.load(tmp_path / "none.pt")
    path = learn.save(tmp_path / "learner.pt")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"learner\.pt is damaged"):
        learn.load(path)
    torch.save({"a": 1}, path)
    with pytest.raises(ValueError, match=r"learner\.pt is not a learner's file"):
        learn.load(path)


def test_a_save_that_fails_leaves_the_older_file_and_no_other(make, tmp_path, monkeypatch):
    learn = make()
    path = learn.save(tmp_path / "learner.pt")
    before = path.read_bytes()

    def full(content, file):
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        learn.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["learner.pt"]


@pytest.mark.parametrize(
    "opt_func",
    [weft.ScheduleFreeAdamW, weft.AdamW.chain() + weft.WeightEMA(decay=0.5)],
    ids=["schedule-free", "ema"],
)
def test_what_is_saved_while_evaluating_goes_on(make, tmp_path, opt_func):
    whole = make(opt_func)
    whole.fit(1)
    whole.opt.eval()
    whole.save(tmp_path / "learner.pt")
    evaluated = weights(whole)
    whole.validate()
    assert same(evaluated, weights(whole))  # validation leaves the mode as it was
    whole.opt.train()
    whole.fit(1)

    resumed = make(opt_func)
    resumed.load(tmp_path / "learner.pt")
    assert same(evaluated, weights(resumed))
    resumed.fit(1)
    assert same(weights(resumed), weights(whole))
