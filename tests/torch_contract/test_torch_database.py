"""The inputs with which PyTorch tests its own optimizers, given to weft's."""

import copy
import io
import warnings

import pytest
import torch
from contract_problems import advance, equal_states, parameters, same

import weft

NAMES = ["SGD", "Adam", "AdamW", "RMSprop", "RAdam", "NAdam", "Adagrad"]
NAMES += ["Adadelta", "Adamax", "ASGD", "Rprop", "Adafactor"]
NAMES = [name for name in NAMES if hasattr(weft, name)]

# limits of implementations that weft does not have: what torch refuses there just works here
WORKS_HERE = ("foreach=True", "both floats or both Tensors")
# torch's Adafactor and SparseAdam check less than weft does, or in other words
LOOSE = 1e-6


@pytest.fixture(scope="module")
def database():
    pytest.importorskip("expecttest", reason="torch's own test tools need it")
    frozen = torch.backends.__allow_nonbracketed_mutation_flag
    try:
        from torch.testing._internal.common_optimizers import optim_db
    finally:  # the import freezes torch.backends for everybody
        torch.backends.__allow_nonbracketed_mutation_flag = frozen
    return {info.optim_cls.__name__: info for info in optim_db}


def strided():
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [torch.nn.Parameter(base.clone().t()), torch.nn.Parameter(base.clone()[:, ::2])]


def options_of(database, name):
    """The keywords of each input, with the limits of a parameter's kind left to torch."""
    return [copy.deepcopy(i.kwargs) for i in database[name].optim_inputs_func(device="cpu")]


def build(module, name, params, options):
    extra = {"foreach": False} if module is torch.optim else {}
    return getattr(module, name)(params, **{**extra, **copy.deepcopy(options)})


@pytest.mark.parametrize("make", [parameters, strided, lambda: parameters(dtype=torch.complex128)])
@pytest.mark.parametrize("name", NAMES)
def test_torchs_inputs_follow_torch(database, name, make):
    if name == "Adafactor" and make is not strided:
        pytest.skip("torch's takes neither complex nor empty parameters")
    for options in options_of(database, name):
        ours, theirs = make(), make()
        a, b = build(weft, name, ours, options), build(torch.optim, name, theirs, options)
        for t in range(6):
            advance(a, ours, 1, t)
            advance(b, theirs, 1, t)
            same(ours, theirs, LOOSE if "lr" in options else 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_torchs_inputs_with_closures_groups_and_tensor_rates(database, name):
    for options in options_of(database, name):
        if name == "Adafactor" and isinstance(options.get("lr"), torch.Tensor):
            continue
        both = []
        for module in (weft, torch.optim):
            (p, q) = parameters((4, 3), (5,))
            groups = [{"params": [p]}, {"params": [q], "lr": 0.02}]
            opt = build(module, name, groups, {**options, "lr": torch.tensor(0.01)})

            def closure(opt=opt, p=p, q=q):
                opt.zero_grad()
                loss = (p.square().sum() + 1) * (q.square().sum() + 1)
                loss.backward()
                return loss

            losses = [float(opt.step(closure)) for _ in range(5)]
            both.append((losses, [p, q]))
        assert both[0][0] == pytest.approx(both[1][0], rel=1e-5)
        same(both[0][1], both[1][1], 1e-5)
        assert (losses[-1] > losses[0]) == options.get("maximize", False)


@pytest.mark.parametrize("name", NAMES)
def test_torchs_inputs_resume_through_either_state_dict(database, name):
    shapes = [(4, 3), (5,)] if name == "Adafactor" else []  # torch's divides by the size
    for options in options_of(database, name):
        ours, theirs = parameters(*shapes), parameters(*shapes)
        a, b = build(weft, name, ours, options), build(torch.optim, name, theirs, options)
        advance(a, ours, 3)
        advance(b, theirs, 3)
        twin, mirror = copy.deepcopy(ours), copy.deepcopy(ours)
        c, d = build(weft, name, twin, options), build(torch.optim, name, mirror, {})
        buffer = io.BytesIO()
        torch.save(a.state_dict(), buffer)
        buffer.seek(0)
        saved = torch.load(buffer, weights_only=True)
        c.load_state_dict(saved)
        equal_states(a, c)
        d.load_state_dict(copy.deepcopy(saved))
        for opt, params in ((a, ours), (b, theirs), (c, twin), (d, mirror)):
            advance(opt, params, 3, 3)
        equal_states(a, c)
        same(ours, twin, 0)
        same(ours, theirs, LOOSE if "lr" in options else 1e-10)
        same(ours, mirror, LOOSE if "lr" in options else 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_torchs_mistakes_are_refused_in_its_words(database, name):
    seen = 0
    for case in database[name].optim_error_inputs_func(device="cpu", dtype=torch.float64):
        given, words = case.optimizer_error_input, case.error_regex
        if any(w in str(given.desc) + str(given.kwargs) + words for w in WORKS_HERE):
            continue
        if "foreach" in given.kwargs or "CONSTRUCTION" not in case.error_on.name:
            continue
        params = parameters((2,)) if given.params is None else given.params
        seen += 1
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            with pytest.raises(case.error_type, match=words):
                getattr(weft, name)(params, **given.kwargs)
    assert seen >= 5
