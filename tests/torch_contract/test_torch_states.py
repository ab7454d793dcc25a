"""State dicts: from torch.optim and back, older ones, named ones, and what must be refused."""

import copy
import io

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
    snapshot,
)

import weft


def torchs(name, params, **options):
    return getattr(torch.optim, name)(params, foreach=False, **options)


def safely(saved):
    """Through a file that holds no code."""
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


# ---------------------------------------------------------------- torch.optim and back


@pytest.mark.parametrize("built", ["with the same options", "with the defaults"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_torchs_state_dict_continues_in_weft(name, options, built):
    """The options that select callbacks come along with the state dict."""
    ours, theirs = parameters(), parameters()
    b = torchs(name, theirs, **options)
    advance(b, theirs, 5)
    for p, q in zip(ours, theirs, strict=True):
        p.data.copy_(q)
    a = getattr(weft, name)(ours, **(options if built == "with the same options" else {}))
    a.load_state_dict(safely(b.state_dict()))
    advance(a, ours, 8, 5)
    advance(b, theirs, 8, 5)
    same(ours, theirs)


@pytest.mark.parametrize("built", ["with the same options", "with the defaults"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_wefts_state_dict_continues_in_torch(name, options, built):
    ours, theirs = parameters(), parameters()
    a = getattr(weft, name)(ours, **options)
    advance(a, ours, 5)
    for p, q in zip(theirs, ours, strict=True):
        p.data.copy_(q)
    b = torchs(name, theirs, **(options if built == "with the same options" else {}))
    b.load_state_dict(safely(a.state_dict()))
    advance(a, ours, 8, 5)
    advance(b, theirs, 8, 5)
    same(ours, theirs)


@pytest.mark.parametrize("name", ["Muon", "Adafactor"])
def test_matrix_methods_go_into_torch_and_back(name):
    """torch's Muon iterates in bfloat16, so that its numbers are not ours; its checkpoints are."""
    ours, theirs = parameters((4, 3), (2, 5)), parameters((4, 3), (2, 5))
    a, b = getattr(weft, name)(ours), getattr(torch.optim, name)(theirs)
    advance(a, ours, 3)
    b.load_state_dict(safely(a.state_dict()))
    new = getattr(weft, name)(theirs)
    new.load_state_dict(safely(b.state_dict()))
    equal_states(a, new)
    assert set(a.param_groups[0]) - {"sq_eps", "ns_dtype"} == set(
        getattr(torch.optim, name)(theirs).param_groups[0]
    )
    advance(b, theirs, 1)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_groups_and_states_have_torchs_keys_dtypes_and_devices(name, options):
    ours, theirs = parameters(), parameters()
    a, b = getattr(weft, name)(ours, **options), torchs(name, theirs, **options)
    advance(a, ours, 1)
    advance(b, theirs, 1)
    own = {"sq_eps"} if name == "Adafactor" else set()  # the paper's; see docs/from_torch.md
    assert set(a.param_groups[0]) - own == set(b.param_groups[0])
    assert set(a.defaults) - own == set(b.defaults)
    for p, q in zip(ours, theirs, strict=True):
        mine, other = a.state[p], b.state[q]
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            assert (value.dtype, value.shape) == (other[key].dtype, other[key].shape)
            assert value.stride() == other[key].stride()


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_a_state_dict_of_torchs_fused_implementation(name):
    ours, theirs = parameters((4, 3), (5,)), parameters((4, 3), (5,))
    b = getattr(torch.optim, name)(theirs, lr=0.1, fused=True)
    advance(b, theirs, 3)
    for p, q in zip(ours, theirs, strict=True):
        p.data.copy_(q)
    a = getattr(weft, name)(ours)
    a.load_state_dict(b.state_dict())
    advance(a, ours, 3, 3)
    advance(b, theirs, 3, 3)
    same(ours, theirs)


# ---------------------------------------------------------------- older ones


@pytest.mark.parametrize("step", [3, 3.0, torch.tensor(3), torch.tensor([3.0])])
def test_a_step_of_any_kind_loads(step):
    params, others = parameters((3,)), parameters((3,))
    opt, reference = weft.AdamW(params), weft.AdamW(others)
    advance(opt, params, 3)
    advance(reference, others, 3)
    saved = snapshot(opt)
    saved["state"][0]["step"] = step
    opt.load_state_dict(saved)
    held = opt.state[params[0]]["step"]
    assert (held.dtype, held.shape) == (torch.float32, ())
    advance(opt, params, 2, 3)
    advance(reference, others, 2, 3)
    same(params, others)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_groups_of_an_older_version_lack_later_options(name, options):
    params = parameters()
    opt = getattr(weft, name)(params, **options)
    advance(opt, params, 2)
    saved = snapshot(opt)
    for group in saved["param_groups"]:
        for later in ("maximize", "foreach", "fused", "differentiable", "capturable"):
            group.pop(later, None)
    before = snapshot(opt)
    opt.load_state_dict(saved)
    assert opt.state_dict()["param_groups"] == before["param_groups"]
    advance(opt, params, 2, 2)


def test_an_older_sgd_kept_a_buffer_of_none():
    params = parameters((3,))
    opt = weft.SGD(params, lr=0.1)
    saved = snapshot(opt)
    saved["state"] = {0: {"momentum_buffer": None}}
    opt.load_state_dict(saved)
    advance(opt, params, 2)


def test_options_that_a_state_dict_brings_are_used_from_the_next_step_on():
    params = parameters((3,))
    opt, other = weft.SGD(params, lr=0.1), weft.SGD(parameters((3,)), lr=0.1, momentum=0.9)
    opt.load_state_dict(other.state_dict())
    advance(opt, params, 1)
    assert "momentum_buffer" in opt.state[params[0]]


# ---------------------------------------------------------------- what loading does


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_resuming_is_exact_and_saving_is_deterministic(name, options):
    params = parameters()
    opt = getattr(weft, name)(params, **options)
    advance(opt, params, 4)
    saved, values = safely(opt.state_dict()), copy.deepcopy(params)
    equal_states(opt, opt)
    assert list(opt.state_dict()["state"]) == list(opt.state_dict()["state"])
    fresh = getattr(weft, name)(values, **options)
    fresh.load_state_dict(saved)
    equal_states(opt, fresh)
    advance(opt, params, 4, 4)
    advance(fresh, values, 4, 4)
    equal_states(opt, fresh)
    for a, b in zip(params, values, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_buffer_outlives_a_momentum_of_zero(fresh):
    """Saved while an option had taken its callback away, it loads, and the option may come back."""
    ends = []
    for saved in (False, True):
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        opt = weft.SGD([p], lr=0.1, momentum=0.9)
        opt.step()
        opt.param_groups[0]["momentum"] = 0.0
        opt.step()
        if saved:
            held = opt.state_dict()
            opt = weft.SGD([p], lr=0.1, momentum=0.9) if fresh else opt
            opt.load_state_dict(held)
        opt.param_groups[0]["momentum"] = 0.9
        opt.step()
        ends.append(p.detach())
    assert torch.equal(*ends)


def test_nothing_is_shared_with_the_dict_that_was_loaded():
    params, others = parameters((3,)), parameters((3,))
    opt, twin = (weft.AdamW(p, lr=torch.tensor(0.1)) for p in (params, others))
    advance(opt, params, 2)
    saved = opt.state_dict()
    kept = copy.deepcopy(saved)
    twin.load_state_dict(saved)
    advance(twin, others, 2, 2)
    twin.param_groups[0]["lr"].fill_(7.0)
    equal_states(opt, type("Kept", (), {"state_dict": lambda self: kept})())


def test_the_order_of_saved_groups_keys_and_parameters_is_what_counts():
    params, others = parameters((3,), (2,)), parameters((3,), (2,))
    opt, twin = weft.AdamW(params), weft.AdamW(others)
    advance(opt, params, 2)
    saved = snapshot(opt)
    saved["state"] = dict(reversed(saved["state"].items()))
    twin.load_state_dict(saved)
    equal_states(opt, twin)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_state_takes_the_parameters_dtype(dtype):
    params, others = parameters(dtype=dtype), parameters(dtype=torch.float64)
    opt, wide = weft.AdamW(params), weft.AdamW(others)
    advance(wide, others, 2)
    opt.load_state_dict(wide.state_dict())
    assert {s["exp_avg"].dtype for s in opt.state.values()} == {dtype}
    assert {s["step"].dtype for s in opt.state.values()} == {torch.float32}
    advance(opt, params, 2)


def test_declared_dtypes_survive_whatever_the_parameters_is():
    """torch casts every state to the parameter's dtype, which would ruin these."""

    def keeps(
        update,
        p,
        lr,
        wide=weft.state(torch.zeros_like, dtype=torch.float32),
        codes=weft.state(lambda p: torch.zeros_like(p, dtype=torch.uint8)),
        master=weft.state(torch.clone, dtype=torch.float64),
    ):
        codes.add_(1)
        return {"p": p - lr * update, "wide": wide + 1 / 3, "codes": codes, "master": master + 1e-9}

    params = parameters((3,), dtype=torch.bfloat16)
    opt = weft.Optimizer(params, [keeps], lr=0.1)
    advance(opt, params, 2)
    twin = weft.Optimizer(params, [keeps], lr=0.1)
    twin.load_state_dict(safely(opt.state_dict()))
    equal_states(opt, twin)
    kinds = {k: v.dtype for k, v in twin.state[params[0]].items()}
    assert kinds == {"wide": torch.float32, "codes": torch.uint8, "master": torch.float64}


def test_a_group_with_a_chain_of_its_own_and_wrappers_resume():
    params, opt = mixed(lr=0.1)
    weft.Lookahead(opt, k=3)
    advance(opt, params, 4)
    others, twin = mixed(lr=0.1)
    weft.Lookahead(twin, k=3)
    for p, q in zip(others, params, strict=True):
        p.data.copy_(q)
    twin.load_state_dict(safely(opt.state_dict()))
    equal_states(opt, twin)
    advance(opt, params, 5, 4)
    advance(twin, others, 5, 4)
    equal_states(opt, twin)


def test_state_before_the_first_step_is_empty_and_loads():
    params = parameters((3,))
    opt = weft.AdamW(params)
    assert opt.state_dict()["state"] == {}
    opt.load_state_dict(opt.state_dict())
    advance(opt, params, 2)


def test_a_parameter_without_saved_state_starts_anew():
    params = parameters((3,), (2,))
    opt = weft.AdamW(params)
    advance(opt, params, 2)
    saved = snapshot(opt)
    del saved["state"][1]
    opt.load_state_dict(saved)
    advance(opt, params, 1)
    assert [int(opt.state[p]["step"]) for p in params] == [3, 1]


def test_loading_in_the_middle_of_training_goes_back_to_then():
    params = parameters()
    opt = weft.AdamW(params, lr=0.1)
    advance(opt, params, 2)
    saved, values = snapshot(opt), copy.deepcopy(params)
    advance(opt, params, 3, 2)
    first = copy.deepcopy(params)
    opt.load_state_dict(saved)
    for p, q in zip(params, values, strict=True):
        p.data.copy_(q)
    advance(opt, params, 3, 2)
    for a, b in zip(params, first, strict=True):
        assert torch.equal(a, b)


# ---------------------------------------------------------------- what is refused


def change(path, value):
    def changed(saved):
        *inner, last = path
        for key in inner:
            saved = saved[key]
        if value is REMOVED:
            del saved[last]
        else:
            saved[last] = value

    return changed


REMOVED = object()
S, G = ("state", 0), ("param_groups", 0)
NAN = float("nan")
HOSTILE = {
    "no state": (change(("state",), REMOVED), "no 'state'"),
    "no groups": (change(("param_groups",), REMOVED), "no 'param_groups'"),
    "state is a list": (change(("state",), []), "'state' is a dict"),
    "a group is a list": (change(G, []), "has no list of 'params'"),
    "no params": (change((*G, "params"), REMOVED), "has no list of 'params'"),
    "params is a number": (change((*G, "params"), 3), "no list of 'params'"),
    "too many groups": (
        lambda d: d["param_groups"].append(d["param_groups"][0]),
        "different number",
    ),
    "too few parameters": (change((*G, "params"), [0]), "doesn't match the size"),
    "a parameter twice": (change((*G, "params"), [0, 0]), "twice"),
    "state of nobody": (change(("state", 7), {}), "in none of its groups"),
    "state is a number": (change(S, 3), "not a dict"),
    "wrong shape": (change((*S, "exp_avg"), torch.zeros(9)), "exp_avg.*shape"),
    "broadcastable shape": (change((*S, "exp_avg"), torch.zeros(1)), "exp_avg.*shape"),
    "a number for a tensor": (change((*S, "exp_avg"), 1.0), "exp_avg.*a tensor"),
    "a string for a tensor": (change((*S, "exp_avg"), "a"), "exp_avg.*a tensor"),
    "complex for real": (change((*S, "exp_avg"), torch.zeros(3, dtype=torch.complex64)), "complex"),
    "missing state": (change((*S, "exp_avg"), REMOVED), r"missing \['exp_avg'\]"),
    "unexpected state": (change((*S, "exp_ang"), torch.zeros(3)), r"unexpected \['exp_ang'\]"),
    "a prefix of a hyper": (change((*S, "weight_x"), torch.zeros(3)), r"unexpected \['weight_x'\]"),
    "step is NaN": (change((*S, "step"), NAN), "number of steps"),
    "step is infinite": (change((*S, "step"), torch.tensor(float("inf"))), "number of steps"),
    "step is negative": (change((*S, "step"), -1), "number of steps"),
    "step is a string": (change((*S, "step"), "3"), "number of steps"),
    "step is a vector": (change((*S, "step"), torch.zeros(3)), "number of steps"),
    "lr is NaN": (change((*G, "lr"), NAN), "lr"),
    "lr is negative": (change((*G, "lr"), -1.0), "Invalid learning rate"),
    "lr is a string": (change((*G, "lr"), "0.1"), "lr"),
    "lr is None": (change((*G, "lr"), None), "lr"),
    "lr is a list": (change((*G, "lr"), [0.1]), "lr"),
    "lr is a vector": (change((*G, "lr"), torch.ones(3)), "lr"),
    "eps is a string": (change((*G, "eps"), "small"), "eps"),
    "betas is a number": (change((*G, "betas"), 0.9), "betas"),
    "betas is short": (change((*G, "betas"), (0.9,)), "betas"),
    "betas are NaN": (change((*G, "betas"), (0.9, NAN)), "betas"),
    "betas are strings": (change((*G, "betas"), ("a", "b")), "betas"),
    "amsgrad is a list": (change((*G, "amsgrad"), [True]), "amsgrad"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_state_dict_is_refused_whole(case):
    spoil, words = HOSTILE[case]
    params = parameters((3,), (2,))
    opt = weft.AdamW(params)
    advance(opt, params, 2)
    saved = snapshot(opt)
    spoil(saved)
    before, values = snapshot(opt), copy.deepcopy(params)
    with pytest.raises(weft.StateError, match=words):
        opt.load_state_dict(saved)
    equal_states(opt, type("Before", (), {"state_dict": lambda self: before})())
    for p, q in zip(params, values, strict=True):
        assert torch.equal(p, q)
    advance(opt, params, 2, 2)


@pytest.mark.parametrize("given", [None, 3, [], "state", {}, {"state": {}, "param_groups": 1}])
def test_what_is_no_state_dict_is_refused(given):
    opt = weft.AdamW(parameters((3,)))
    with pytest.raises(weft.StateError, match="not an optimizer's state dict"):
        opt.load_state_dict(given)


def test_state_of_another_optimizer_names_both_chains():
    params = parameters((3,))
    sgd, adam = weft.SGD(params, lr=0.1, momentum=0.9), weft.AdamW(params)
    advance(sgd, params, 1)
    with pytest.raises(weft.StateError, match=r"missing .*exp_avg.*unexpected .*momentum_buffer"):
        adam.load_state_dict(sgd.state_dict())
    adam.load_state_dict(sgd.state_dict(), strict=False)
    advance(adam, params, 1)
    assert set(adam.state[params[0]]) == {"step", "exp_avg", "exp_avg_sq"}


def test_a_step_of_enormous_size_still_steps():
    params = parameters((3,))
    opt = weft.AdamW(params, lr=0.1)
    advance(opt, params, 1)
    saved = snapshot(opt)
    saved["state"][0]["step"] = 1e30
    opt.load_state_dict(saved)
    give_grads(params, 0)
    opt.step()
    assert params[0].isfinite().all()
