"""Learner callbacks: when they are called, and the two that come with weft."""

import pytest
import torch
from torch import nn

import weft
from learner.helpers import same, weights
from weft.learner import GradientAccumulation, GradientClip
from weft.learner.callbacks import EVENTS


class Log:
    """Writes down each event."""

    def __init__(self):
        self.events = []
        for event in EVENTS:
            setattr(self, event, lambda learn, event=event: self.events.append(event))


def test_the_events_in_their_order(make):
    learn, log = make(), Log()
    learn.fit(2, cbs=[log])
    batch = ["before_batch", "after_loss", "after_backward", "after_batch"]
    epoch = ["before_epoch", *batch * 6, "after_epoch"]
    assert log.events == ["before_fit", *epoch * 2, "after_fit"]


def test_what_cannot_be_a_callback(make):
    with pytest.raises(TypeError, match="one of before_fit"):
        make(cbs=[object()])
    with pytest.raises(TypeError, match="class Log"):
        make().fit(1, cbs=[Log])


def test_a_single_callback_needs_no_list(make):
    log = Log()
    make(cbs=log).fit(1)
    assert log.events


def test_a_callback_may_change_the_batch_and_what_is_differentiated(make):
    class Penalty:
        def before_batch(self, learn):
            learn.xs = (learn.xs[0] * 0,)

        def after_loss(self, learn):
            learn.loss_grad = learn.loss + 1e3 * learn.model.weight.pow(2).sum()

    learn = make(weft.SGD, lr=1e-4, model=nn.Linear(2, 3), cbs=[Penalty()])
    before = learn.model.weight.detach().clone()
    learn.fit(1)
    # the inputs were zero: only the penalty, 6 times, moved the weight
    assert torch.allclose(learn.model.weight, before * (1 - 2e-1) ** 6, rtol=1e-5)
    assert max(learn.recorder.losses) < 5  # and the loss that is recorded has no penalty in it


def test_accumulating_is_the_larger_batch(make, blobs):
    def learner(batch_size, **kwargs):
        learn = make(weft.SGD, lr=0.1, model=nn.Linear(2, 3), **kwargs)
        learn.dls.train.batch_size = batch_size
        return learn

    small, large = learner(16, cbs=[GradientAccumulation(2)]), learner(32)
    torch.manual_seed(0)
    small.model.load_state_dict(large.model.state_dict())
    small.fit(2)
    large.fit(2)
    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(small.model.parameters(), large.model.parameters(), strict=True)
    )


def test_the_rest_of_an_epoch_is_averaged_over_what_it_has(make):
    class Steps:
        def __init__(self):
            self.steps, self.scales = [], []

        def after_backward(self, learn):
            self.steps.append(learn.will_step)
            self.scales.append(round(float(learn.loss / learn.loss_grad.detach())))

    learn, steps = make(), Steps()
    learn.fit(1, cbs=[GradientAccumulation(4), steps])  # 6 batches: 4, and 2
    assert steps.steps == [False, False, False, True, False, True]
    assert steps.scales == [4, 4, 4, 4, 2, 2]


def test_accumulating_everything_and_one_by_one(make):
    one, plain = make(cbs=[GradientAccumulation(1)]), make()
    for learn in (one, plain):
        torch.manual_seed(2)
        learn.fit(1)
    assert same(weights(one), weights(plain))
    learn = make(cbs=[GradientAccumulation(100)])
    learn.fit(2)
    steps = {int(s["step"]) for s in learn.opt.state.values()}
    assert steps == {2}


def test_accumulation_and_an_optimizer_that_evaluates_itself(make):
    learn = make(torch.optim.LBFGS, cbs=[GradientAccumulation(2)])
    with pytest.raises(ValueError, match="leave GradientAccumulation out"):
        learn.fit(1)


@pytest.mark.parametrize("order", [1, -1])
def test_the_norm_is_clipped_once_the_sum_is_whole(make, order):
    norms = []

    class Norms:
        def after_backward(self, learn):
            grads = [p.grad.flatten() for p in learn.model.parameters()]
            norms.append((learn.will_step, torch.cat(grads).norm().item()))

    cbs = [GradientAccumulation(2), GradientClip(1e-3)][::order]
    make(cbs=cbs).fit(1, cbs=[Norms()])
    assert all(norm == pytest.approx(1e-3, rel=1e-3) for stepping, norm in norms if stepping)
    assert all(norm > 1e-2 for stepping, norm in norms if not stepping)


def test_small_gradients_are_left_alone(make):
    clipped, plain = make(cbs=[GradientClip(1e6)]), make()
    for learn in (clipped, plain):
        torch.manual_seed(2)
        learn.fit(1)
    assert same(weights(clipped), weights(plain))
