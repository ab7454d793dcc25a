"""The loop: training, evaluating, stopping, freezing."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import weft
from learner.helpers import halves, same, weights
from weft.learner import InMemoryLoader, Learner, NonFiniteLoss, StopFit, accuracy, in_memory


def test_it_is_the_loop_that_one_would_write_by_hand(make, blobs):
    model = nn.Linear(2, 3)
    learn = make(torch.optim.SGD, lr=0.1, model=model)
    by_hand = nn.Linear(2, 3)
    by_hand.load_state_dict(model.state_dict())
    opt = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    loader = in_memory(*blobs, batch_size=16).train
    losses = []
    for _ in range(2):
        for x, y in loader:
            opt.zero_grad()
            loss = F.cross_entropy(by_hand(x), y)
            loss.backward()
            opt.step()
            losses.append(loss.item())
    learn.fit(2)
    assert learn.recorder.losses == losses
    assert same(weights(learn), by_hand.state_dict())


def test_it_learns(make):
    learn = make()
    learn.fit_one_cycle(8, 0.05)
    assert learn.validate()["accuracy"] > 0.9


def test_metrics_are_averaged_by_batch_size(make, blobs):
    learn = make(train_metrics=True)
    learn.dls = learn.dls._replace(valid=InMemoryLoader(blobs[1], batch_size=20))  # 20, 20, 8
    learn.fit(1)
    pred, y = learn.predict(InMemoryLoader(blobs[1], batch_size=48))
    row = learn.recorder.metrics[-1]
    assert row["valid_loss"] == pytest.approx(F.cross_entropy(pred, y).item(), rel=1e-5)
    assert row["accuracy"] == pytest.approx(accuracy(pred, y))
    assert row["train_loss"] == pytest.approx(sum(learn.recorder.losses) / 6)
    assert 0 <= row["train_accuracy"] <= 1
    assert list(row) == [
        "epoch",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "accuracy",
        "seconds",
    ]


def test_several_inputs_and_loaders_with_names():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, a, b):
            return self.layer(torch.stack([a, b], dim=1))[:, 0]

    a, b = torch.randn(32), torch.randn(32)
    dls = in_memory((a, b, a + 2 * b), (a, b, a + 2 * b), batch_size=8)
    named = SimpleNamespace(train=dls.train, valid=dls.valid)
    learn = Learner(named, Sum(), F.mse_loss, weft.Adam, 0.1, progress=False)
    learn.fit(12)
    assert learn.validate()["valid_loss"] < 0.05


def test_torchs_own_loaders_and_no_validation(blobs):
    data = torch.utils.data.TensorDataset(*blobs[0])
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    learn = Learner((loader, None), nn.Linear(2, 3), F.cross_entropy, progress=False)
    learn.fit(1)
    assert "valid_loss" not in learn.recorder.metrics[0]
    with pytest.raises(ValueError, match="no validation data"):
        learn.validate()


@pytest.mark.parametrize(
    ("dls", "match"),
    [
        (5, "pair"),
        (([], []), "empty"),
        (((b for b in ()), []), "no length"),
        (([torch.zeros(2)], []), r"a batch is \(x, y\)"),
    ],
)
def test_data_that_cannot_be_used(dls, match):
    with pytest.raises((TypeError, ValueError), match=match):
        Learner(dls, nn.Linear(2, 3), F.cross_entropy, progress=False).fit(1)


def test_a_model_without_parameters(blobs):
    with pytest.raises(ValueError, match="ReLU has no parameter"):
        Learner(in_memory(*blobs), nn.ReLU(), F.cross_entropy)


def test_the_splitter_must_not_forget_a_layer(make):
    with pytest.raises(ValueError, match=r"leaves out 3\.weight, 3\.bias"):
        make(splitter=lambda model: [model[0].parameters()])


# ------------------------------------------------------------ stopping


class PoisonAt:
    """Makes the loss of one batch nan."""

    def __init__(self, epoch, batch):
        self.at = (epoch, batch)

    def after_loss(self, learn):
        if (learn.epoch, learn.batch) == self.at:
            learn.loss = learn.loss * math.nan


def test_a_nan_loss_stops_before_the_step_and_says_where(make):
    learn = make()
    torch.manual_seed(5)  # of the dropout
    with pytest.raises(NonFiniteLoss, match=r"nan in epoch 1, batch 2 of 6, with lr 0\.05"):
        learn.fit(3, cbs=[PoisonAt(1, 2)])
    assert len(learn.recorder.losses) == 8
    assert len(learn.recorder.metrics) == 1
    assert all(p.grad is None for p in learn.model.parameters())

    class StopThere:
        def before_batch(self, learn):
            if (learn.epoch, learn.batch) == (1, 2):
                raise StopFit

    reference = make()
    torch.manual_seed(5)
    reference.fit(3, cbs=[StopThere()])
    assert same(weights(learn), weights(reference))
    learn.fit(1)  # it can be used on
    assert len(learn.recorder.metrics) == 2


def test_a_rate_that_is_too_high_is_an_error_not_a_silent_nan(make):
    learn = make(weft.SGD)
    learn.loss_func = lambda pred, y: F.cross_entropy(pred, y) + pred.pow(4).mean()
    with pytest.raises(NonFiniteLoss, match="Try a lower rate"):
        learn.fit(20, 1e6)


class InterruptAt:
    def __init__(self, event, epoch, batch):
        self.at = (epoch, batch)
        setattr(self, event, self.hit)

    def hit(self, learn):
        if (learn.epoch, learn.batch) == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("event", ["before_batch", "after_backward", "after_batch", "before_epoch"])
def test_ctrl_c_ends_the_fit_and_leaves_a_usable_learner(make, capsys, event):
    learn = make(partial(weft.SGD, momentum=0.8))
    batch = 0 if event == "before_epoch" else 3
    learn.fit_one_cycle(4, 0.1, cbs=[InterruptAt(event, 1, batch)])
    assert learn.interrupted
    assert f"interrupted in epoch 1, batch {batch} of 6" in capsys.readouterr().err
    assert learn.dials.get("mom") == [0.8]  # put back, though the schedule was in the middle
    seen = len(learn.recorder.losses)
    assert seen in (6, 9)
    assert len(learn.recorder.lrs) == len(learn.recorder.moms) == seen
    learn.fit_one_cycle(1, 0.1)
    assert not learn.interrupted
    assert len(learn.recorder.losses) == seen + 6


def test_ctrl_c_in_validation_leaves_training_mode(make):
    learn = make()

    def interrupting(pred, y):
        raise KeyboardInterrupt

    learn.metrics = [interrupting]
    learn.fit(1)
    assert learn.interrupted
    assert learn.model.training


def test_an_error_in_a_callback_is_raised_and_after_fit_is_called(make):
    ended = []

    class Broken:
        def after_backward(self, learn):
            raise ZeroDivisionError

        def after_fit(self, learn):
            ended.append(True)

    learn = make()
    with pytest.raises(ZeroDivisionError):
        learn.fit(1, cbs=[Broken()])
    assert ended == [True]
    learn.fit(1)


# ------------------------------------------------------------ modes


class Modes(torch.optim.SGD):
    """Says when it is told to train and to evaluate."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.calls = []

    def train(self):
        self.calls.append("train")

    def eval(self):
        self.calls.append("eval")


def test_the_optimizer_is_told_around_validation(make):
    learn = make(Modes)
    modes = []

    def mode(pred, y):
        modes.append((learn.model.training, torch.is_grad_enabled(), learn.opt.calls[-1]))
        return 0

    learn.metrics = [mode]
    learn.fit(2)
    assert learn.opt.calls == ["eval", "train"] * 2
    assert modes == [(False, False, "eval")] * 2
    assert learn.model.training


def test_validation_leaves_each_module_in_the_mode_it_was_in(make):
    learn = make()
    learn.model.train()
    learn.model[2].eval()  # a dropout that the user has switched off
    learn.validate()
    assert [module.training for module in learn.model] == [True, True, False, True]


def test_validation_draws_no_random_numbers_and_changes_nothing(make):
    learn = make()
    before, state = weights(learn), torch.get_rng_state()
    learn.validate()
    assert same(before, weights(learn))
    assert torch.equal(state, torch.get_rng_state())


# ------------------------------------------------------------ optimizers that ask for more


def test_an_optimizer_that_needs_a_closure_gets_one(make):
    learn = make(partial(torch.optim.LBFGS, max_iter=4), lr=0.5, model=nn.Linear(2, 3))
    learn.dls.train.batch_size = 96  # it is made for whole batches
    learn.fit(5)
    assert learn.validate()["valid_loss"] < 0.5


class LooksAhead(torch.optim.SGD):
    """Evaluates at the weights, and again where a step would lead: as SAM does."""

    needs_closure = True

    def step(self, closure=None):
        loss = closure()
        super().step()
        closure()
        return loss


def test_what_says_that_it_needs_a_closure_gets_one_and_the_first_loss_counts(make):
    evaluated = []

    class Evaluations:
        def after_backward(self, learn):
            evaluated.append(learn.loss_value)

    learn = make(LooksAhead, cbs=[Evaluations()])
    learn.fit(1)
    assert len(evaluated) == 12
    assert learn.recorder.losses == evaluated[::2]


def test_a_chain_that_reads_the_loss_gets_it(make):
    seen = []

    def reads_loss(p, lr, loss):
        seen.append(float(loss))
        p.data.add_(p.grad, alpha=-lr)

    learn = make(partial(weft.Optimizer, cbs=[reads_loss], engine="eager"), model=nn.Linear(2, 3))
    learn.fit(1)
    assert seen[::2] == pytest.approx(learn.recorder.losses)  # weight and bias, each batch


@pytest.mark.filterwarnings("ignore:This overload of add_ is deprecated")
def test_the_original_verbatim(blobs):
    def sgd_cb(p, lr, **kwargs):
        p.data.add_(-lr, p.grad.data)

    opt_func = partial(weft.Optimizer, cbs=[sgd_cb])
    learn = weft.Learner(
        in_memory(*blobs, batch_size=16),
        nn.Linear(2, 3),
        loss_func=F.cross_entropy,
        opt_func=opt_func,
        progress=False,
    )
    learn.fit_one_cycle(3, 0.1, moms=(0, 0, 0))
    learn.fit(3, 0.1)
    assert learn.validate()["valid_loss"] < 0.6


# ------------------------------------------------------------ freezing


@pytest.mark.parametrize("opt_func", [weft.AdamW, torch.optim.AdamW])
def test_frozen_groups_stand_still_and_their_state_is_forgotten(make, opt_func):
    learn = make(opt_func, splitter=halves)
    learn.fit(1)
    learn.freeze()
    assert not learn.opt.state_dict()["state"]
    before = weights(learn)
    learn.fit(1)
    after = weights(learn)
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["3.weight"], after["3.weight"])
    learn.unfreeze()
    learn.fit(1)
    assert not torch.equal(after["0.weight"], learn.model[0].weight)


def test_freezing_needs_groups(make):
    with pytest.raises(ValueError, match="splitter"):
        make().freeze()
    with pytest.raises(ValueError, match="only 2"):
        make(splitter=halves).freeze_to(2)


def test_fine_tune_trains_the_head_and_then_all(make):
    learn = make(splitter=halves)
    first = []

    class First:
        def before_batch(self, learn):
            first.append((learn.frozen_to, learn.dials.get("lr")))

    learn.fine_tune(2, 0.04, cbs=[First()])
    frozen = [rates for frozen_to, rates in first if frozen_to == 1]
    assert len(frozen) == 6
    assert len(first) == 18
    assert max(rates[1] for rates in frozen) == pytest.approx(0.04, rel=0.2)
    assert first[-1][1][1] / first[-1][1][0] == pytest.approx(100)
    assert max(rates[1] for _, rates in first[6:]) == pytest.approx(0.02, rel=0.05)
