"""The search for a rate: useful, and without a trace."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import weft
from learner.helpers import STATEFUL, same, weights
from weft.learner import Learner, in_memory


def full_state(learn):
    """Everything that training depends on, flat."""
    flat = dict(weights(learn))
    state = learn.opt.state_dict()
    for i, values in state["state"].items():
        flat |= {f"{i}.{k}": torch.as_tensor(v).clone() for k, v in values.items()}
    for i, group in enumerate(state["param_groups"]):
        flat |= {
            f"group {i}.{k}": torch.tensor(v)
            for k, v in group.items()
            if k != "params" and isinstance(v, int | float | tuple)
        }
    flat["rng"] = torch.get_rng_state()
    flat["shuffling"] = learn.dls.train.generator.get_state()
    return flat


@pytest.mark.parametrize("opt_func", STATEFUL.values(), ids=STATEFUL)
@pytest.mark.parametrize("trained", [False, True])
def test_it_leaves_no_trace(make, opt_func, trained):
    learn, untouched = make(opt_func), make(opt_func)
    for each in (learn, untouched):
        torch.manual_seed(3)
        if trained:
            each.fit_one_cycle(1)
    torch.manual_seed(4)
    learn.model.eval()
    before = full_state(learn)
    learn.lr_find(num_it=20)
    assert same(full_state(learn), before)
    assert not learn.model.training
    assert len(learn.recorder.losses) == (6 if trained else 0)
    for each in (learn, untouched):
        torch.manual_seed(4)
        each.fit(1)
    assert learn.recorder.losses == untouched.recorder.losses
    assert same(weights(learn), weights(untouched))


def test_running_statistics_and_buffers_outside_the_state_dict_are_put_back(make):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()), persistent=False)

        def forward(self, x):
            self.calls += 1
            return x

    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), Counting(), nn.Linear(8, 3))
    learn = make(model=model)
    before = weights(learn)
    learn.lr_find(num_it=10)
    assert same(before, weights(learn))
    assert model[2].calls == 0


def test_rates_are_exponential_and_the_search_stops_when_the_loss_explodes(make):
    learn = make(weft.SGD, model=nn.Linear(2, 3))
    found = learn.lr_find(1e-4, 1e4, num_it=80)
    ratios = {round(b / a, 9) for a, b in zip(found.lrs, found.lrs[1:], strict=False)}
    assert ratios == {round((1e8) ** (1 / 80), 9)}
    assert len(found.losses) == len(found.lrs) < 80
    assert len(learn.lr_find(1e-4, 1e4, num_it=80, stop_div=False).lrs) >= len(found.lrs)


def test_the_suggestion_trains(make):
    learn = make(weft.SGD)
    found = learn.lr_find(1e-5, 100)
    assert 1e-3 < found.suggestion < 10
    start = learn.validate()["valid_loss"]
    learn.fit(3, found.suggestion)
    assert learn.validate()["valid_loss"] < 0.5 * start


def test_data_with_nan_in_it_is_said_not_guessed():
    x = torch.full((32, 2), float("nan"))
    dls = in_memory((x, torch.zeros(32, 1)))
    learn = Learner(dls, nn.Linear(2, 1), F.mse_loss, progress=False)
    found = learn.lr_find()
    assert "no finite loss" in repr(found)
    with pytest.raises(ValueError, match="no finite loss"):
        _ = found.suggestion


def test_rates_must_go_up(make):
    with pytest.raises(ValueError, match=r"cannot go up from 1 to 0\.1"):
        make().lr_find(1, 0.1)


def test_plot(make, tmp_path):
    path = tmp_path / "found.png"
    make().lr_find(num_it=20).plot(path)
    assert path.read_bytes()[:4] == b"\x89PNG"
