"""The real fastai Learner, driven in its own virtual environment: test_fastai.py runs this there."""

import pickle
import warnings
from functools import partial

import numpy
import pytest
import torch
from fastai.basics import DataLoader, DataLoaders, Learner, load_learner, noop, params
from fastai.callback.all import (
    Callback,
    GradientAccumulation,
    GradientClip,
    ReduceLROnPlateau,
    SaveModelCallback,
)
from fastai.callback.schedule import valley
from fastai.optimizer import Adam as TheirAdam
from fastai.optimizer import Optimizer as Theirs
from torch import nn

import weft
from weft.callbacks import fastai


def sgd_cb(p, lr, **kwargs):
    p.data.add_(p.grad.data, alpha=-lr)


OPT_FUNCS = {
    "sgd_cb": partial(weft.Optimizer, cbs=[sgd_cb]),
    "sgd": weft.SGD,
    "momentum": partial(weft.SGD, momentum=0.9),
    "adamw": weft.AdamW,
    "lamb": weft.LAMB,
    "chain": weft.AdamW.chain() + weft.callbacks.cautious,
    "original": partial(
        weft.Optimizer,
        cbs=[
            fastai.weight_decay,
            fastai.average_grad,
            fastai.average_sqr_grad,
            fastai.step_stat,
            fastai.adam_step,
        ],
        dampening=True,
    ),
}
every = pytest.mark.parametrize("name", OPT_FUNCS)


@pytest.fixture(params=["eager", "auto"], autouse=True)
def engine(request, monkeypatch):
    monkeypatch.setenv("WEFT_ENGINE", request.param)
    request.node.add_marker(pytest.mark.filterwarnings("ignore::weft.WeftWarning"))
    return request.param


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


class Rows(list):
    def new_empty(self):  # what export asks of a dataset
        return Rows()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16))
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.body(x).relu())


def split(model):
    return [params(model.body), params(model.head)]


def three(model):
    return [params(model.body[0]), params(model.body[1]), params(model.head)]


def learner(opt_func, seed=0, **options):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(256, 8, generator=g)
    data = list(zip(x, (x.sum(1) > 0).long(), strict=True))
    train, valid = Rows(data[:192]), Rows(data[192:])
    dls = DataLoaders(DataLoader(train, bs=16), DataLoader(valid, bs=64))
    torch.manual_seed(seed)
    options = {"splitter": split, "lr": 0.01, **options}
    learn = Learner(dls, Net(), nn.functional.cross_entropy, opt_func=opt_func, **options)
    learn.remove_cbs([cb for cb in learn.cbs if cb.name == "progress"])
    learn.logger = noop
    return learn


def weights(learn):
    return [p.detach().clone() for p in learn.model.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def agree(ours, theirs, engine):
    """To the bit in the original loop; a kernel rounds a product and a sum as two operations."""
    if engine == "eager":
        assert same(weights(ours), weights(theirs))
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-4, atol=1e-6)


def first_and_last_loss(learn):
    losses = [float(v) for v in learn.recorder.losses]
    return losses[0], losses[-1]


@every
def test_one_cycle_learns(name):
    learn = learner(OPT_FUNCS[name])
    learn.fit_one_cycle(3, 0.05)
    first, last = first_and_last_loss(learn)
    assert last < first
    assert learn.recorder.hps["lr"][-1] < 0.01
    moms = learn.recorder.hps["mom"]
    assert moms[0] == pytest.approx(0.95)
    assert min(moms) == pytest.approx(0.85, abs=1e-3)


@every
def test_without_momentum(name):
    learn = learner(OPT_FUNCS[name])
    learn.fit_one_cycle(2, 0.05, moms=(0, 0, 0))
    first, last = first_and_last_loss(learn)
    assert last < first
    hyper = learn.opt.hypers[-1]
    assert hyper["mom"] == 0
    if "betas" in hyper:
        assert hyper["betas"][0] == 0


def test_one_step_is_the_originals(engine):
    ours, theirs = learner(OPT_FUNCS["sgd_cb"]), learner(partial(Theirs, cbs=[sgd_cb]))
    for learn in (ours, theirs):
        learn.fit_one_cycle(2, 0.1, moms=(0, 0, 0))
    agree(ours, theirs, engine)


def test_the_whole_of_adam_is_the_originals():
    """A cycle, decay but not of norms and biases, discriminative rates, freezing."""
    ours, theirs = (learner(f, wd=0.1) for f in (OPT_FUNCS["original"], TheirAdam))
    for learn in (ours, theirs):
        learn.opt_func = partial(learn.opt_func, eps=1e-5, mom=0.9, sqr_mom=0.99)
        learn.fine_tune(2, 0.02)
        learn.fit_flat_cos(1, slice(1e-3, 1e-2))
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-4, atol=1e-6)


@every
def test_fine_tune_freezes_and_spreads_rates(name):
    learn = learner(OPT_FUNCS[name], train_bn=False)
    seen = []

    class Watch(Callback):
        def after_batch(self):
            if self.training:
                body = self.learn.model.body[0].weight.detach().clone()
                seen.append((body, [h["lr"] for h in self.learn.opt.hypers]))

    learn.add_cb(Watch())
    before = learn.model.body[0].weight.detach().clone()
    learn.fine_tune(1, 0.02)
    frozen, thawed = seen[:12], seen[12:]
    assert all(torch.equal(body, before) for body, _ in frozen)
    assert not torch.equal(thawed[-1][0], before)
    assert all(low * 100 == pytest.approx(high) for _, (low, high) in thawed)


@every
def test_discriminative_rates_over_three_groups(name):
    learn = learner(OPT_FUNCS[name], splitter=three)
    learn.freeze()
    assert learn.opt.frozen_idx == 2
    learn.fit_one_cycle(1, slice(1e-2))
    learn.freeze_to(1)
    learn.unfreeze()
    assert learn.opt.frozen_idx == 0
    learn.fit(1, slice(1e-4, 1e-2))
    assert [h["lr"] for h in learn.opt.hypers] == pytest.approx([1e-4, 1e-3, 1e-2])
    learn.fit_one_cycle(1, numpy.array([1e-4, 1e-3, 1e-2]))


@every
def test_norms_and_biases_are_trained_though_frozen_and_do_not_decay(name):
    learn = learner(OPT_FUNCS[name], wd=0.5)
    learn.freeze()
    norm = learn.model.body[1]
    assert norm.weight.requires_grad
    assert not learn.model.body[0].weight.requires_grad
    states = [learn.opt.state[p] for p in (norm.weight, norm.bias, learn.model.head.bias)]
    assert all(state["do_wd"] is False for state in states)

    if name in ("sgd_cb", "sgd", "momentum", "lamb"):
        return  # these do not decay, or scale by the size of a parameter
    learn.unfreeze()
    learn.opt.set_hypers(lr=0.1, wd=0.5)
    for p in learn.model.parameters():
        p.grad = torch.zeros_like(p)
    before = weights(learn)
    learn.opt.step()
    for p, was in zip(learn.model.parameters(), before, strict=True):
        if p.ndim == 2:
            torch.testing.assert_close(p.detach(), was * 0.95)
        else:
            assert torch.equal(p, was)


@every
def test_saved_with_the_optimizer_it_resumes_exactly(name):
    whole = learner(OPT_FUNCS[name])
    whole.fit(2, 0.01)
    whole.save("here", with_opt=True)
    whole.fit(1, 0.01)
    again = learner(OPT_FUNCS[name], seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # what load says when the optimizer's fails
        again.load((whole.path / whole.model_dir / "here").absolute(), with_opt=True)
    again.fit(1, 0.01)
    assert same(weights(whole), weights(again))
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        ours, theirs = whole.opt.state[a], again.opt.state[b]
        assert ours.keys() == theirs.keys()
        assert all(torch.as_tensor(ours[k]).equal(torch.as_tensor(theirs[k])) for k in ours)


@every
def test_the_finder_leaves_no_trace(name):
    learn, other = learner(OPT_FUNCS[name]), learner(OPT_FUNCS[name])
    torch.manual_seed(3)
    learn.fit(1, 0.01)
    found = learn.lr_find(suggest_funcs=(valley,), show_plot=False)
    assert all(0 < v < 10 for v in found)
    learn.fit(1, 0.01)
    other.fit(1, 0.01)
    other.fit(1, 0.01)
    assert same(weights(learn), weights(other))


@every
def test_clipping_and_accumulation(name):
    learn = learner(OPT_FUNCS[name], cbs=[GradientAccumulation(64), GradientClip(0.1)])
    steps = []
    learn.create_opt()
    learn.opt.register_step_post_hook(lambda opt, *_: steps.append(1))
    learn.fit(2, 0.01)
    assert len(steps) == 6
    assert all(bool(p.isfinite().all()) for p in learn.model.parameters())


def test_accumulated_and_clipped_as_the_originals_is(engine):
    made = [partial(weft.Optimizer, cbs=[sgd_cb]), partial(Theirs, cbs=[sgd_cb])]
    ours, theirs = (learner(f, cbs=[GradientAccumulation(32), GradientClip(0.2)]) for f in made)
    for learn in (ours, theirs):
        learn.fit(2, 0.1)
    agree(ours, theirs, engine)


def test_callbacks_that_write_into_the_hypers():
    learn = learner(weft.AdamW)
    learn.fit(3, 0.01, cbs=[ReduceLROnPlateau("valid_loss", min_delta=9.0), SaveModelCallback()])
    assert learn.opt.hypers[-1]["lr"] < 0.01
    assert learn.opt.param_groups[-1]["lr"] == learn.opt.hypers[-1]["lr"]


@every
def test_export_and_load(name):
    learn = learner(OPT_FUNCS[name])
    learn.fit(1, 0.01)
    learn.export("kept.pkl")
    again = load_learner(learn.path / "kept.pkl")
    assert same(weights(learn), weights(again))
    assert same(weights(learn), weights(pickle.loads(pickle.dumps(learn))))


@every
def test_a_summary_and_a_second_fit_with_a_fresh_optimizer(name):
    learn = learner(OPT_FUNCS[name])
    learn.fit(1, 0.01)
    first = learn.opt
    assert bool(first)
    learn.fit(1, 0.01, reset_opt=True)
    assert learn.opt is not first
