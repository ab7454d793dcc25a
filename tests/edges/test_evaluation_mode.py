"""Evaluation mode is part of the state: it is saved, it goes on after `train()`, and no step is taken in it."""

import copy
import io
import pickle

import pytest
import torch
from torch.distributed.checkpoint import state_dict as dcp

import weft
from weft.wrappers import AtAverage

SGD = weft.SGD.chain(momentum=0.9)


def closure_of(opt):
    def closure():
        opt.zero_grad()
        loss = sum(((p - i) ** 2).sum() for i, p in enumerate(opt.param_groups[0]["params"]))
        loss.backward(create_graph="hutchinson_every" in opt.param_groups[0])
        return loss

    return closure


AROUND = {
    "ema": SGD + weft.WeightEMA(decay=0.5),
    "ema with a warm-up": SGD + weft.WeightEMA(warmup=True),
    "swa": SGD + weft.SWA(start=2, every=2),
    "lawa": SGD + weft.LAWA(window=3, every=2),
    "gpa": SGD + weft.GPA(mu_x=0.5),
    "lookahead and ema": SGD + weft.Lookahead(k=2) + weft.WeightEMA(decay=0.5),
    "sam and ema": SGD + weft.WeightEMA(decay=0.5) + weft.SAM(),
    "schedule-free sgd": weft.ScheduleFreeSGD.chain(),
    "schedule-free adamw": weft.ScheduleFreeAdamW.chain(),
    "schedule-free radam": weft.ScheduleFreeRAdam.chain(),
    "splus": weft.SPlus.chain(),
}
WRAPPERS = [w for w in map(weft.wrappers.__dict__.get, weft.wrappers.__all__) if w is not AtAverage]


def parameters():
    g = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, generator=g)) for s in [(3, 2), (4,)]]


def make(name, params=None):
    return AROUND[name](params or parameters(), lr=0.05)


def steps(opt, n):
    for _ in range(n):
        opt.step(closure_of(opt))


def same(a, b):
    ours, theirs = (o.param_groups[0]["params"] for o in (a, b))
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def through_a_file(opt, name):
    file = io.BytesIO()
    params = opt.param_groups[0]["params"]
    torch.save((opt.state_dict(), [p.data for p in params]), file)
    file.seek(0)
    state, weights = torch.load(file, weights_only=True)
    fresh = make(name, [torch.nn.Parameter(w) for w in weights])
    fresh.load_state_dict(state)
    return fresh


def into_one_that_was_used(opt, name):
    """Its own mode is not to stay: it evaluates where the saved one trains, and trains otherwise."""
    other = make(name)
    steps(other, 3)
    if opt.training:
        other.eval()
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    with torch.no_grad():
        for p, q in zip(
            other.param_groups[0]["params"], opt.param_groups[0]["params"], strict=True
        ):
            p.copy_(q)
    return other


def without_the_mode(opt, name):
    """As older versions saved it, and torch.optim does."""
    state = copy.deepcopy(opt.state_dict())
    for group in state["param_groups"]:
        del group["train_mode"]
    fresh = make(name, copy.deepcopy(opt.param_groups[0]["params"]))
    fresh.load_state_dict(state)
    return fresh


HOW = {
    "a state dict through a file": through_a_file,
    "a state dict into one that was used": into_one_that_was_used,
    "an older state dict": without_the_mode,
    "pickle": lambda opt, name: pickle.loads(pickle.dumps(opt)),
    "deepcopy": lambda opt, name: copy.deepcopy(opt),
}


@pytest.mark.parametrize("evaluating", [True, False])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", AROUND)
def test_it_goes_on_as_if_it_had_not_been_saved(name, how, evaluating):
    opt, never_saved = make(name), make(name)
    for o in (opt, never_saved):
        steps(o, 8)
    trained = [p.detach().clone() for p in opt.param_groups[0]["params"]]
    if evaluating:
        opt.eval()
        assert not torch.equal(trained[0], opt.param_groups[0]["params"][0])
    other = HOW[how](opt, name)
    assert other.training is not evaluating
    if evaluating:
        with pytest.raises(weft.StepError, match=r"call opt\.train\(\)"):
            steps(other, 1)
    other.eval()
    other.train()
    steps(other, 4)
    steps(never_saved, 4)
    same(other, never_saved)
    other.eval()
    never_saved.eval()
    same(other, never_saved)


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda w: w.__name__)
def test_no_wrapper_steps_in_evaluation_mode(wrapper):
    opt = (SGD + wrapper())(parameters(), lr=0.05)
    opt.eval()  # before the first step there is nothing to swap, and yet it is a mistake
    before = [p.detach().clone() for p in opt.param_groups[0]["params"]]
    with pytest.raises(weft.StepError, match=r"call opt\.train\(\)"):
        steps(opt, 1)
    assert all(
        torch.equal(p, b) for p, b in zip(opt.param_groups[0]["params"], before, strict=True)
    )
    opt.train()
    steps(opt, 2)


@pytest.mark.parametrize("name", AROUND)
def test_what_is_frozen_while_evaluating_is_trained_again_where_it_was(name):
    opt = make(name)
    steps(opt, 5)
    params = opt.param_groups[0]["params"]
    trained = [p.detach().clone() for p in params]
    opt.eval()
    opt.zero_grad()
    for p in params:
        p.requires_grad_(False)
    opt.train()
    assert all(torch.equal(p, t) for p, t in zip(params, trained, strict=True))


@pytest.mark.parametrize("name", AROUND)
def test_what_is_frozen_for_training_is_evaluated_at_its_average(name):
    opt, thawed = make(name), make(name)
    for o in (opt, thawed):
        steps(o, 5)
        o.zero_grad()
    for p in opt.param_groups[0]["params"]:
        p.requires_grad_(False)
    opt.eval()
    thawed.eval()
    same(opt, thawed)


@pytest.mark.parametrize("name", AROUND)
def test_a_group_may_be_added_while_evaluating(name):
    opt = make(name)
    steps(opt, 3)
    trained = opt.param_groups[0]["params"][0].detach().clone()
    opt.eval()
    opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    with pytest.raises(weft.StepError, match=r"call opt\.train\(\)"):
        steps(opt, 1)
    opt.train()
    assert torch.equal(trained, opt.param_groups[0]["params"][0])
    steps(opt, 1)


def test_without_a_wrapper_the_modes_are_the_same():
    opt = weft.SGD(parameters(), lr=0.1)
    opt.eval()
    steps(opt, 1)
    assert opt.training
    assert "train_mode" not in opt.param_groups[0]


def model_and_opt(name):
    model = torch.nn.ParameterList(parameters())
    return model, make(name, list(model.parameters()))


@pytest.mark.parametrize("name", AROUND)
def test_a_checkpoint_that_is_saved_while_evaluating(name, tmp_path):
    (model, opt), (_, never_saved) = model_and_opt(name), model_and_opt(name)
    steps(opt, 4)
    steps(never_saved, 4)
    opt.eval()
    weft.save_checkpoint(tmp_path / "c.pt", model=model, optimizer=opt)
    fresh_model, fresh = model_and_opt(name)
    weft.load_checkpoint(tmp_path / "c.pt", model=fresh_model, optimizer=fresh)
    fresh.train()
    steps(fresh, 3)
    steps(never_saved, 3)
    same(fresh, never_saved)


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize("name", [n for n in AROUND if "sam" not in n])
def test_a_distributed_checkpoint_that_is_saved_while_evaluating(name, flat):
    options = dcp.StateDictOptions(flatten_optimizer_state_dict=flat)
    (model, opt), (_, never_saved) = model_and_opt(name), model_and_opt(name)
    steps(opt, 8)
    steps(never_saved, 8)
    opt.eval()
    saved = dcp.get_optimizer_state_dict(model, opt, options=options)
    twin, other = model_and_opt(name)
    if flat:  # such a state dict is read by the names that the optimizer has
        dcp.set_optimizer_state_dict(twin, other, saved, options=options)
        with pytest.raises(weft.StateError, match="saved in evaluation mode"):
            other.train()
        twin, other = model_and_opt(name)
        steps(other, 8)
        other.eval()
    dcp.set_optimizer_state_dict(twin, other, saved, options=options)
    twin.load_state_dict(model.state_dict())
    other.train()
    steps(other, 3)
    steps(never_saved, 3)
    same(other, never_saved)


def test_a_wrapper_of_the_users_own_is_asked_for_its_mode_alike():
    class Doubled(weft.Wrapper):
        def eval(self, opt):
            for p in self.params(opt):
                p.mul_(2)

        def train(self, opt):
            for p in self.params(opt):
                p.div_(2)

    def doubled(params):
        return (SGD + Doubled())(params, lr=0.1)

    opt = doubled(parameters())
    opt.eval()
    fresh = doubled(copy.deepcopy(opt.param_groups[0]["params"]))
    fresh.load_state_dict(opt.state_dict())
    fresh.eval()
    fresh.train()
    assert all(map(torch.equal, fresh.param_groups[0]["params"], parameters()))


def test_what_swaps_last_is_undone_first():
    class Kept(weft.Wrapper):
        """Evaluate at weights that are `by` larger; keep the others meanwhile."""

        by = 0.0

        def eval(self, opt):
            for p in self.params(opt):
                opt.state[p][self.key("weights")] = p.detach().clone()
                p.add_(self.by)

        def train(self, opt):
            for p in self.params(opt):
                p.copy_(opt.state[p].pop(self.key("weights")))

    class Outer(Kept):
        by = 1.0

    class Inner(Kept):
        by = 2.0

    opt = (SGD + Outer() + Inner())(parameters(), lr=0.1)
    opt.eval()
    opt.train()
    assert all(map(torch.equal, opt.param_groups[0]["params"], parameters()))
