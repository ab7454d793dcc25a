"""The optimizer as an object: hooks, closures, printing, copies, pickles, names, groups."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from contract_problems import (
    CASES,
    IDS,
    advance,
    equal_states,
    give_grads,
    mixed,
    parameters,
    same,
)
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

import weft


def descend_by_mean(grad, update, p, lr):
    return {"p": p - lr * (update + grad) / 2}


# ---------------------------------------------------------------- hooks


@pytest.mark.parametrize("make", [weft.AdamW, weft.Ranger, lambda p: mixed(lr=0.1)[1]])
def test_hooks_run_once_and_in_order(make):
    params = parameters((3,))
    opt = make(params)
    seen = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("global pre")),
        opt.register_step_pre_hook(lambda *_: seen.append("pre")),
        opt.register_step_post_hook(lambda *_: seen.append("post")),
        register_optimizer_step_post_hook(lambda *_: seen.append("global post")),
    ]
    try:
        opt.step()
        assert seen == ["global pre", "pre", "post", "global post"]
    finally:
        for handle in handles:
            handle.remove()
    opt.step()
    assert len(seen) == 4


def test_a_pre_hook_may_replace_the_arguments():
    params = parameters((3,))
    opt = weft.SGD(params, lr=0.1)
    opt.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: 7.0), {}))
    assert opt.step() == 7.0


def test_hooks_of_state_dicts():
    opt = weft.AdamW(parameters((3,)))
    advance(opt, opt.param_groups[0]["params"], 1)
    seen = []
    opt.register_state_dict_pre_hook(lambda o: seen.append("save pre"))
    opt.register_state_dict_post_hook(lambda o, d: {**d, "extra": 1})
    opt.register_load_state_dict_pre_hook(lambda o, d: {k: d[k] for k in d if k != "extra"})
    opt.register_load_state_dict_post_hook(lambda o: seen.append("load post"))
    saved = opt.state_dict()
    assert saved["extra"] == 1
    opt.load_state_dict(saved)
    assert seen == ["save pre", "load post"]
    assert saved["extra"] == 1  # a hook's changes are its own


# ---------------------------------------------------------------- step and zero_grad


def test_a_closure_runs_with_grad_enabled_and_its_loss_is_returned():
    params = parameters((3,))
    opt = weft.AdamW(params, lr=0.1)

    def closure():
        opt.zero_grad()
        assert torch.is_grad_enabled()
        loss = params[0].square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        losses = [opt.step(closure=closure) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert losses[0].requires_grad
    assert opt.step() is None
    assert opt.step(closure=None) is None


def test_grad_mode_is_put_back_even_after_an_error():
    def broken(p, lr):
        raise RuntimeError("no")

    params = parameters((3,))
    opt = weft.Optimizer(params, [broken, weft.callbacks.descend], lr=0.1)
    give_grads(params, 0)
    with pytest.raises(weft.StepError):
        opt.step()
    assert torch.is_grad_enabled()


def test_zero_grad():
    params = parameters((3,))
    opt = weft.SGD(params)
    give_grads(params, 0)
    held = params[0].grad
    opt.zero_grad(set_to_none=False)
    assert params[0].grad is held
    assert not held.any()
    opt.zero_grad()
    assert params[0].grad is None


def test_the_profiler_has_an_entry_for_the_step():
    opt = weft.AdamW(parameters((3,)))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        opt.step()
    assert "Optimizer.step#AdamW.step" in {e.key for e in profile.key_averages()}


# ---------------------------------------------------------------- printing, names, groups


def test_it_prints_as_torchs_does_with_its_callbacks():
    text = repr(weft.AdamW(parameters((3,)), lr=0.1))
    assert text.startswith("AdamW (\n")
    assert "Parameter Group 0\n" in text
    assert "    lr: 0.1\n" in text
    assert "ema_sq" in text
    both = repr(mixed(lr=0.1)[1])
    assert "heavy_ball" in both
    assert "ema_sq" in both


def test_named_parameters():
    model = torch.nn.Linear(3, 2)
    opt = weft.AdamW(model.named_parameters())
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]
    assert opt.param_groups[0]["params"] == list(model.parameters())
    assert opt.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    extra = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="cannot add param group with"):
        opt.add_param_group({"params": [extra]})
    opt.add_param_group({"params": [("extra", extra)]})
    assert opt.param_groups[1]["param_names"] == ["extra"]


@pytest.mark.parametrize("named", [(True, False), (False, True), (True, True)])
def test_state_dicts_go_between_named_and_unnamed(named):
    model = torch.nn.Linear(3, 2)
    first, second = (
        weft.AdamW(model.named_parameters() if n else model.parameters()) for n in named
    )
    advance(first, list(model.parameters()), 2)
    second.load_state_dict(first.state_dict())
    assert second.param_groups[0].get("param_names") == ["weight", "bias"]
    advance(second, list(model.parameters()), 1)


def test_every_form_of_groups():
    a, b, c = parameters((2,), (2,), (2,))
    for params in (iter([a, b]), (p for p in [a, b]), {"a": a, "b": b}.values(), (a, b)):
        assert weft.SGD(params).param_groups[0]["params"] == [a, b]
    opt = weft.SGD([{"params": a}, {"params": iter([b, c]), "lr": 0.5}], lr=0.1)
    assert [len(g["params"]) for g in opt.param_groups] == [1, 2]
    assert [g["lr"] for g in opt.param_groups] == [0.1, 0.5]


def test_a_group_added_later_gets_the_defaults_and_steps():
    ours, theirs = parameters((3,), (2,)), parameters((3,), (2,))
    a, b = weft.AdamW(ours[:1], lr=0.1), torch.optim.AdamW(theirs[:1], lr=0.1)
    advance(a, ours[:1], 2)
    advance(b, theirs[:1], 2)
    for opt, params in ((a, ours), (b, theirs)):
        opt.add_param_group({"params": params[1:], "weight_decay": 0.5})
        assert opt.param_groups[1]["lr"] == 0.1
        advance(opt, params, 3, 2)
    same(ours, theirs)
    assert a.state_dict()["param_groups"][1]["params"] == [1]


def test_a_group_that_is_refused_leaves_the_optimizer_as_it_was():
    params = parameters((3,), (2,))
    opt = weft.AdamW(params[:1])
    names, defaults = set(opt.param_groups[0]), dict(opt.defaults)
    refused = [
        {"params": params[:1]},
        {"params": params[1:], "lr": -1.0},
        {"params": params[1:], "cbs": [weft.callbacks.nesterov]},
        {"params": [1.0]},
        {"params": params[1:], "cbs": weft.SGD.chain(momentum=0.5), "lr": "a"},
    ]
    for group in refused:
        with pytest.raises((ValueError, TypeError)):
            opt.add_param_group(group)
    assert len(opt.param_groups) == 1
    assert set(opt.param_groups[0]) == names
    assert opt.defaults == defaults
    advance(opt, params, 1)


def test_a_group_shows_what_its_own_chain_reads_and_no_more():
    _, opt = mixed(lr=0.1)
    sgd, adam = opt.param_groups
    assert "betas" not in sgd
    assert "momentum" not in adam
    assert adam["lr"] == 0.1
    assert {"momentum", "lr", "dampening"} <= set(sgd)


def test_a_later_group_does_not_take_over_what_another_chain_brought():
    a, b = parameters((3,), (2,))
    own = {"params": [a], "cbs": weft.SGD.chain(momentum=0.5), "lr": 0.1}
    opt = weft.Optimizer([own, {"params": [b]}], weft.AdamW.chain(lr=0.2))
    assert "momentum" not in opt.param_groups[1]
    with pytest.raises(weft.ChainError, match="lr"):
        weft.Optimizer([own, {"params": [b]}], [weft.callbacks.descend])


# ---------------------------------------------------------------- copies and pickles


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_a_deep_copy_goes_on_alone(name, options):
    params = parameters()
    opt = getattr(weft, name)(params, **options)
    opt.tag = "public"
    advance(opt, params, 2)
    twin, its = copy.deepcopy((opt, params))
    assert twin.tag == "public"
    equal_states(opt, twin)
    advance(opt, params, 2, 2)
    advance(twin, its, 2, 2)
    equal_states(opt, twin)
    for a, b in zip(params, its, strict=True):
        assert a is not b
        assert torch.equal(a, b)


@pytest.mark.parametrize("way", ["pickle", "torch.save"])
@pytest.mark.parametrize("make", ["AdamW", "Ranger", "mixed", "own callbacks"])
def test_a_pickle_goes_on_alone(make, way):
    if make == "mixed":
        params, opt = mixed(lr=0.1)
    else:
        params = parameters((3,), (2,))
        own = [weft.callbacks.ema, descend_by_mean]
        opt = (
            weft.Optimizer(params, own, lr=0.1)
            if make == "own callbacks"
            else getattr(weft, make)(params)
        )
    torch.optim.lr_scheduler.StepLR(opt, 1)  # patches the instance's step
    advance(opt, params, 2)
    if way == "pickle":
        twin, its = pickle.loads(pickle.dumps((opt, params)))
    else:
        buffer = io.BytesIO()
        torch.save((opt, params), buffer)
        buffer.seek(0)
        twin, its = torch.load(buffer, weights_only=False)
    equal_states(opt, twin)
    advance(opt, params, 8, 2)
    advance(twin, its, 8, 2)
    equal_states(opt, twin)
    twin.load_state_dict(opt.state_dict())
    if make == "mixed":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(twin, 0.1, total_steps=10)
        scheduler.step()
        assert "betas" not in twin.param_groups[0]
        assert twin.param_groups[0]["momentum"] == twin.param_groups[1]["betas"][0]


def test_a_copy_keeps_its_hooks_out_and_can_be_given_new_ones():
    opt = weft.AdamW(parameters((3,)))
    opt.register_step_post_hook(lambda *_: None)
    twin = copy.deepcopy(opt)
    seen = []
    twin.register_step_post_hook(lambda *_: seen.append(1))
    twin.step()
    assert seen == [1]


# ---------------------------------------------------------------- torch's words for mistakes

P = torch.nn.Parameter(torch.ones(2))
WRONG = [
    (lambda c: c(P), TypeError, "params argument given to the optimizer should be an iterable of"),
    (lambda c: c([]), ValueError, "optimizer got an empty parameter list"),
    (
        lambda c: c([1.0]),
        TypeError,
        "optimizer can only optimize Tensors, but one of the params is",
    ),
    (
        lambda c: c([{"params": {P}}]),
        TypeError,
        "needs to be organized in ordered collections|ordered",
    ),
    (lambda c: c([P * 2]), ValueError, "can't optimize a non-leaf Tensor"),
    (
        lambda c: c([{"params": [P]}, {"params": [P]}]),
        ValueError,
        "some parameters appear in more than one parameter group",
    ),
    (lambda c: c([P], lr=-1.0), ValueError, r"Invalid learning rate: -1.0"),
    (lambda c: c([P], lr=float("nan")), ValueError, r"Invalid learning rate: nan"),
    (lambda c: c([P], lr=torch.ones(2)), ValueError, "Tensor lr must be 1-element"),
    (lambda c: c([P], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
    (
        lambda c: c([("a", P), torch.ones(1)]),
        ValueError,
        "all optimizer params should be with/without",
    ),
    (lambda c: c([P], no_such=1), TypeError, "no_such"),
]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "RAdam", "Lion"])
@pytest.mark.parametrize("i", range(len(WRONG)))
def test_mistakes_are_refused_in_torchs_words(i, name):
    make, error, words = WRONG[i]
    with pytest.raises(error, match=words):
        make(getattr(weft, name))
    if "nan" not in words and hasattr(torch.optim, name):
        with pytest.raises(error, match=words):
            make(getattr(torch.optim, name))


def test_a_parameter_given_twice_in_a_group_warns_where_torch_warns():
    with pytest.raises(ValueError, match="a parameter group with duplicate parameters"):
        weft.Lion([P, P])
    with pytest.warns(UserWarning, match="a parameter group with duplicate parameters"):
        weft.SGD([P, P])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("SGD", {"momentum": -0.5}, "Invalid momentum value: -0.5"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        ("Adam", {"eps": -1.0}, "Invalid epsilon value: -1.0"),
        ("Adam", {"betas": (1.0, 0.0)}, "Invalid beta parameter at index 0: 1.0"),
        ("AdamW", {"betas": (0.0, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
        ("RMSprop", {"alpha": -1.0}, "Invalid alpha value: -1.0"),
        ("RMSprop", {"momentum": -1.0}, "Invalid momentum value: -1.0"),
        ("RAdam", {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    ],
)
def test_hypers_are_refused_in_torchs_words(name, options, words):
    for module in (weft, torch.optim):
        with pytest.raises(ValueError, match=words):
            getattr(module, name)([P], **options)


def test_making_and_stepping_is_silent():
    params = parameters((3,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        advance(weft.AdamW(params), params, 2)
