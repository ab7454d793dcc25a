"""Hostile input: a clear error that names the culprit, and the optimizer as it was, to the bit."""

import copy
import io
import pickle
import re
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft

pytestmark = pytest.mark.usefixtures("engine")

RUNS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the engine is the same for all
)
LARGEST = torch.finfo(torch.float32).max  # torch keeps step counts as float32
ERRORS = (weft.StateError, ValueError, TypeError)
MAKERS = {
    "adamw": lambda ps: weft.AdamW(ps, lr=0.1, amsgrad=True),
    "sgd": lambda ps: weft.SGD(ps, lr=0.1, momentum=0.9),
    "adafactor": lambda ps: weft.Adafactor(ps, lr=0.1),
    "shared": lambda ps: weft.Prodigy(ps),
}


def make(kind="adamw", steps=1):
    torch.manual_seed(0)
    params = [
        ("w", torch.nn.Parameter(torch.randn(3, 2))),
        ("b", torch.nn.Parameter(torch.randn(2))),
    ]
    opt = MAKERS[kind](params)
    for _ in range(steps):
        one_step(opt)
    return opt


def one_step(opt):
    for group in opt.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p) / 2
    opt.step()


def picture(opt):
    """Everything, to compare; a state that was never made is like one of another optimizer."""
    return copy.deepcopy(
        ([p.data for g in opt.param_groups for p in g["params"]], opt.state_dict())
    )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def refused(opt, state, match=None):
    """Loading raises, changes no bit, and the optimizer goes on as one that was never asked."""
    before = picture(opt)
    with pytest.raises(ERRORS, match=match):
        opt.load_state_dict(state)
    assert same(picture(opt), before)
    other = copy.deepcopy(opt)
    other.load_state_dict(before[1])
    one_step(opt)
    one_step(other)
    assert same(picture(opt), picture(other))


def tensors(state):
    return [(k, n) for k, own in state["state"].items() for n, v in own.items()
            if isinstance(v, torch.Tensor) and v.ndim]  # fmt: skip


# ---------------------------------------------------------------- state

KINDS = pytest.mark.parametrize("kind", MAKERS)


@KINDS
@pytest.mark.parametrize("steps", [0, 1])
@given(data=st.data())
@RUNS
def test_a_wrong_shape_is_named(kind, steps, data):
    state = make(kind).state_dict()
    key, name = data.draw(st.sampled_from(tensors(state)))
    right = state["state"][key][name].shape
    shape = data.draw(
        st.lists(st.integers(0, 4), max_size=3).filter(lambda s: tuple(s) != tuple(right))
    )
    state = copy.deepcopy(state)
    state["state"][key][name] = torch.zeros(shape)
    refused(make(kind, steps), state, match=name)


JUNK = st.one_of(
    st.text(max_size=3),
    st.booleans(),
    st.floats(),
    st.integers(-(10**30), 10**30),
    st.lists(st.integers(), max_size=2),
    st.just({}),
    st.just(object),
    st.just(torch.ones(3, 2, dtype=torch.complex64)),
    st.just(torch.empty(3, 2, device="meta")),
)


@KINDS
@pytest.mark.parametrize("steps", [0, 1])
@given(data=st.data())
@RUNS
def test_what_is_no_tensor_is_named(kind, steps, data):
    state = copy.deepcopy(make(kind).state_dict())
    key, name = data.draw(st.sampled_from(tensors(state)))
    state["state"][key][name] = data.draw(JUNK)
    refused(make(kind, steps), state, match=name)


def counts(x):
    number = isinstance(x, int | float) and not isinstance(x, bool)
    return number and 0 <= x <= LARGEST and x == int(x)


@given(step=JUNK.filter(lambda x: not counts(x)))
@RUNS
def test_steps_that_are_no_counts(step):
    state = copy.deepcopy(make().state_dict())
    state["state"][0]["step"] = step
    refused(make(), state, match="step")


@pytest.mark.parametrize(
    "step", [1e39, float("nan"), float("inf"), -1, 1.5, "3", True, torch.ones(2)]
)
def test_broken_steps(step):
    state = copy.deepcopy(make().state_dict())
    state["state"][1]["step"] = step
    refused(make(), state, match=r"'step' of parameter 'b'")


@pytest.mark.parametrize("step", [2.0**24 - 2, 2**24, 10**30, 1e38])
def test_an_enormous_step_still_steps(step):
    opt, state = make(), copy.deepcopy(make().state_dict())
    for own in state["state"].values():
        own["step"] = step
    opt.load_state_dict(state)
    one_step(opt)
    assert all(p.isfinite().all() for g in opt.param_groups for p in g["params"])


@given(
    st.sampled_from(["exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"]), st.sampled_from([0, 1])
)
@RUNS
def test_a_missing_state_is_named(name, key):
    state = copy.deepcopy(make().state_dict())
    del state["state"][key][name]
    refused(make(), state, match=name)


@given(st.text(min_size=1).filter(lambda n: n not in make().state_dict()["state"][0]))
@settings(RUNS, max_examples=15)
def test_an_extra_state_is_refused(name):
    if name in ("do_wd", "force_train"):
        return
    state = copy.deepcopy(make().state_dict())
    state["state"][0][name] = torch.zeros(3, 2)
    refused(make(), state, match="unexpected")


@pytest.mark.parametrize("key", [7, -1, "w", "0"])
def test_state_for_a_parameter_that_is_not_there(key):
    state = copy.deepcopy(make().state_dict())
    state["state"][key] = state["state"][0]
    refused(make(), state, match="none of its groups")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_state_in_whole_numbers_where_fractions_belong(dtype):
    state = copy.deepcopy(make().state_dict())
    state["state"][0]["exp_avg"] = torch.ones(3, 2, dtype=dtype)
    refused(make(), state, match="exp_avg")


# ---------------------------------------------------------------- groups and hypers


def test_a_key_that_is_no_string_stops_no_kernel():
    opt = make("adamw")
    saved = opt.state_dict()
    saved["param_groups"][0][5] = {}
    opt.load_state_dict(saved)
    one_step(opt)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
@given(data=st.data())
@RUNS
def test_broken_hypers(kind, data):
    state = copy.deepcopy(make(kind).state_dict())
    group = state["param_groups"][0]
    names = [k for k, v in group.items() if type(v) is float or isinstance(v, tuple)]
    name = data.draw(st.sampled_from(names))
    bad = st.sampled_from(
        [float("nan"), "0.1", None, [], {}, torch.ones(3), object, complex(1, 2), -1.0]
    )
    value = data.draw(bad)
    if name == "dampening" and type(value) is float and value == -1.0:  # is allowed
        return
    group[name] = (value, 0.9) if isinstance(group[name], tuple) else value
    refused(make(kind), state)


@pytest.mark.parametrize(
    "state",
    [None, 3, "state", [], {}, {"state": {}}, {"param_groups": []}, {"state": [], "param_groups": []},
     {"state": {}, "param_groups": {}}, {"state": {}, "param_groups": [3]},
     {"state": {}, "param_groups": [{}]}, {"state": {}, "param_groups": [{"params": 3}]},
     {"state": {}, "param_groups": [{"params": [0]}]}, {"state": {}, "param_groups": [{"params": [0, [1]]}]},
     {"state": {}, "param_groups": [{"params": [0, 0]}]},
     {"state": {0: 3}, "param_groups": [{"params": [0, 1]}]},
     {"state": {}, "param_groups": [{"params": [0, 1]}, {"params": []}]}],
)  # fmt: skip
def test_what_is_no_state_dict(state):
    refused(make(), state)


@pytest.mark.parametrize(
    "hypers",
    [{"lr": -1.0}, {"lr": float("nan")}, {"lr": "0.1"}, {"lr": None}, {"lr": [0.1]}, {"lr": 1j},
     {"betas": (0.9, 1.0)}, {"betas": (float("nan"), 0.9)}, {"betas": ("0.9", 0.9)}, {"betas": 0.9},
 {"betas": None}, {"eps": -1e-8}, {"eps": "1e-8"}, {"eps": None}, {"weight_decay": -0.1},
     {"weight_decay": float("nan")}, {"weight_decay": "0"}],
)  # fmt: skip
def test_constructors_refuse_broken_hypers(hypers):
    name = next(iter(hypers))
    with pytest.raises(ERRORS, match="(?i)learning rate|beta|epsilon|" + name):
        weft.AdamW([torch.nn.Parameter(torch.ones(2))], **hypers)
    opt = make()
    before = picture(opt)
    with pytest.raises(ERRORS):
        opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], **hypers})
    assert same(picture(opt), before)
    one_step(opt)


@given(data=st.data())
@settings(RUNS, max_examples=150)
def test_any_mutation_loads_or_is_refused_whole(data):
    """Whatever is put wherever: it is refused and nothing has changed, or it is taken and steps."""
    state = copy.deepcopy(make().state_dict())
    room = data.draw(
        st.sampled_from([state, state["state"], state["state"][0], state["param_groups"][0]])
    )
    key = data.draw(st.sampled_from([*room, "extra", 5]))
    if data.draw(st.booleans()):
        room[key] = data.draw(JUNK)
    else:
        room.pop(key, None)
    opt = make()
    before = picture(opt)
    try:
        opt.load_state_dict(state)
    except ERRORS:
        assert same(picture(opt), before)
    if not any(g["differentiable"] for g in opt.param_groups):  # which wants clones of parameters
        one_step(opt)


# ---------------------------------------------------------------- files


class Bomb:
    """What a pickle with code in it unpacks to."""

    gone_off = 0

    def __reduce__(self):
        return (go_off, ())


def go_off():
    Bomb.gone_off += 1
    return {}


@pytest.mark.parametrize("place", ["whole", "state", "group"])
def test_code_in_a_checkpoint_is_never_executed(tmp_path, place):
    opt = make()
    state = opt.state_dict()
    if place == "state":
        state["state"][0]["exp_avg"] = Bomb()
    if place == "group":
        state["param_groups"][0]["lr"] = Bomb()
    what = {"model": {}, "optimizer": Bomb() if place == "whole" else state}
    before, Bomb.gone_off = picture(opt), 0
    path = tmp_path / "bomb.pt"
    torch.save(what, path)
    with pytest.raises((*ERRORS, pickle.UnpicklingError, RuntimeError)):
        weft.load_checkpoint(path, optimizer=opt)
    assert Bomb.gone_off == 0
    assert same(picture(opt), before)


def written(tmp_path):
    path = tmp_path / "good.pt"
    weft.save_checkpoint(path, optimizer=make(steps=3))
    return path.read_bytes()


def not_loaded(path):
    """Loading the file raises, names it, changes no bit, and the optimizer goes on."""
    opt = make()
    before = picture(opt)
    broken = (ValueError, RuntimeError, EOFError, pickle.UnpicklingError)
    with pytest.raises(broken, match=re.escape(path.name)):
        weft.load_checkpoint(path, optimizer=opt)
    assert same(picture(opt), before)
    one_step(opt)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file(tmp_path, share):
    whole, path = written(tmp_path), tmp_path / "cut.pt"
    path.write_bytes(whole[: int(len(whole) * share)])
    not_loaded(path)


@pytest.mark.parametrize(
    "content", [b"not a checkpoint", pickle.dumps({"optimizer": 3}), b"\x80\x04."]
)
def test_a_file_of_something_else(tmp_path, content):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    not_loaded(path)


def test_a_zip_of_something_else(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("letter.txt", "hello")
    path = tmp_path / "other.pt"
    path.write_bytes(buffer.getvalue())
    with pytest.raises((ValueError, RuntimeError), match=r"other\.pt"):
        weft.load_checkpoint(path, optimizer=make())
