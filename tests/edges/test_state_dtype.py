"""What states are kept in: `state_dtype` beside 16-bit parameters, held to runs in float64."""

import copy
import io
import pickle

import pytest
import torch

import weft
from weft.callbacks import descend, heavy_ball
from weft.optimizers import algorithms

BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
ENGINES = ("eager", "fused")


def parameter(dtype=BF16, shape=(6, 5), seed=0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return torch.nn.Parameter(values.to(BF16).to(dtype))


def advance(opt, p, steps):
    """Steps on grads that bfloat16 holds exactly."""
    for t in range(steps):
        grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 + t), dtype=F64)
        p.grad = (grad * 0.01).to(BF16).to(p.dtype)
        opt.step()


def floats(opt, p):
    states = {k: v for k, v in opt.state[p].items() if isinstance(v, torch.Tensor) and v.ndim}
    return {k: v for k, v in states.items() if v.is_floating_point()}


PLAIN = ["adam", "adamw", "sgd", "lion", "rmsprop", "adagrad", "nadam", "adabelief", "lamb", "adan"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", PLAIN)
def test_states_follow_a_run_in_float64(name, engine):
    """The parameters' rounding is left out: lr is 0, and decay with it."""
    options = {"momentum": 0.9} if name == "sgd" else {}
    p, q = parameter(), parameter(F64)
    opt = weft.create(name, [p], lr=0.0, state_dtype=F32, engine=engine, **options)
    exact = weft.create(name, [q], lr=0.0, engine="eager", **options)
    advance(opt, p, 30)
    advance(exact, q, 30)
    assert floats(opt, p)
    for key, value in floats(opt, p).items():
        assert value.dtype == F32
        torch.testing.assert_close(value.double(), exact.state[q][key], rtol=2e-5, atol=1e-9)


def test_a_second_moment_sticks_in_16_bits_and_not_in_32():
    """Its increments are a thousandth of it, and bfloat16 has a rounding of a 256th."""
    left = {}
    for dtype in (None, F32):
        p = parameter()
        opt = weft.Adam([p], lr=0.0, state_dtype=dtype)
        for t in range(300):
            p.grad = torch.full_like(p, 1.0 if t == 0 else 0.0)
            opt.step()
        left[dtype] = float(opt.state[p]["exp_avg_sq"].double().mean() / 0.001 / 0.999**299)
    assert left[F32] == pytest.approx(1, rel=1e-3)
    assert left[None] > 1.2


@pytest.mark.parametrize("kept", [BF16, F16, F32, F64])
@pytest.mark.parametrize("dtype", [BF16, F16, F32, F64])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_both_engines_agree_whatever_the_two_dtypes(name, dtype, kept):
    options = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    found = []
    for engine in ENGINES:
        p = parameter(dtype)
        opt = weft.create(name, [p], lr=0.1, state_dtype=kept, engine=engine, **options)
        advance(opt, p, 4)
        assert p.dtype == dtype
        assert {v.dtype for v in floats(opt, p).values()} == {kept}
        found.append([p.detach(), *floats(opt, p).values()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", sorted(algorithms()))
def test_every_constructor_takes_it(name):
    cls = algorithms()[name]
    p = parameter()
    opt = cls([p], state_dtype=F32, engine="eager")
    bound = opt._current()[0]
    for state in bound.binding.states.values():
        made = state.make(p, bound.binding.state_dtype)
        if isinstance(made, torch.Tensor) and made.is_floating_point() and state.dtype is None:
            assert made.dtype == F32
    assert "state_dtype" not in opt.param_groups[0]
    assert "state_dtype" not in opt.state_dict()["param_groups"][0]


# ---------------------------------------------------------------- where it is said


def test_a_group_comes_before_its_chain_and_its_chain_before_the_constructor():
    ps = [parameter() for _ in range(4)]
    groups = [
        {"params": [ps[0]]},
        {"params": [ps[1]], "state_dtype": BF16},
        {"params": [ps[2]], "cbs": weft.Lion.chain(state_dtype=F64)},
        {"params": [ps[3]], "cbs": weft.Lion.chain(state_dtype=F64), "state_dtype": "float16"},
    ]
    opt = weft.AdamW(groups, state_dtype=F32)
    for p in ps:
        p.grad = torch.ones_like(p)
    opt.step()
    assert [opt.state[p]["exp_avg"].dtype for p in ps] == [F32, BF16, F64, F16]
    opt.add_param_group({"params": [q := parameter(seed=9)]})
    q.grad = torch.ones_like(q)
    opt.step()
    assert opt.state[q]["exp_avg"].dtype == F32


@pytest.mark.parametrize(
    "make",
    [
        lambda p: weft.chain(heavy_ball, descend, lr=0.1, state_dtype=F32)([p]),
        lambda p: weft.chain(heavy_ball, descend, lr=0.1)([p], state_dtype=F32),
        lambda p: weft.chain(heavy_ball, descend, lr=0.1, state_dtype=BF16)([p], state_dtype=F32),
        lambda p: weft.Optimizer([p], [heavy_ball, descend], lr=0.1, state_dtype=F32),
        lambda p: weft.create("sgd(momentum=0.9)", [p], lr=0.1, state_dtype=F32),
        lambda p: weft.create("sgd(momentum=0.9)+cautious", [p], lr=0.1, state_dtype="float32"),
        lambda p: (weft.SGD.chain(momentum=0.9, state_dtype=F32) + weft.callbacks.cautious)([p]),
        lambda p: (weft.chain(heavy_ball, descend, lr=0.1, state_dtype=F32).without(descend) + descend)([p]),
    ],
)  # fmt: skip
def test_each_way_to_say_it(make):
    p = parameter()
    opt = make(p)
    p.grad = torch.ones_like(p)
    opt.step()
    assert opt.state[p]["momentum_buffer"].dtype == F32


@pytest.mark.parametrize("wrong", [torch.int32, "float33", 32, True])
def test_what_is_no_dtype_is_refused(wrong):
    with pytest.raises(TypeError, match=r"state_dtype is a dtype such as torch\.float32"):
        weft.AdamW([parameter()], state_dtype=wrong)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_declared_dtype_stays_and_a_number_of_one_parameter_is_no_less_than_float32(engine):
    own = weft.state(torch.zeros_like, dtype=F64)
    count = weft.state(lambda p: torch.zeros(p.shape, dtype=torch.int64))
    one = weft.state(lambda p: p.new_zeros(()))

    def keep(update, own=own, count=count, one=one, open=weft.zeros):
        return {
            "own": own + update,
            "count": count + 1,
            "one": one + update.norm(),
            "open": open + update,
        }

    for chosen, kept in ((None, BF16), (F32, F32), (BF16, BF16)):
        p = parameter()
        opt = weft.Optimizer([p], [keep, descend], lr=0.1, state_dtype=chosen, engine=engine)
        advance(opt, p, 3)
        dtypes = {k: opt.state[p][k].dtype for k in ("own", "count", "one", "open")}
        assert dtypes == {"own": F64, "count": torch.int64, "one": F32, "open": kept}


# ---------------------------------------------------------------- checkpoints and copies


def saved(opt):
    buffer = io.BytesIO()
    torch.save(opt.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_goes_on_bit_for_bit(engine):
    p, q = parameter(), parameter()
    a, b = (weft.AdamW([x], lr=0.1, state_dtype=F32, engine=engine) for x in (p, q))
    advance(a, p, 5)
    q.data.copy_(p)
    b.load_state_dict(saved(a))
    for opt, x in ((a, p), (b, q)):
        advance(opt, x, 3)
        assert opt.state[x]["exp_avg_sq"].dtype == F32
    assert torch.equal(p, q)
    assert torch.equal(a.state[p]["exp_avg_sq"], b.state[q]["exp_avg_sq"])


@pytest.mark.parametrize(("of", "here"), [(None, F32), (F32, None), (F32, BF16), (F16, F64)])
def test_a_loaded_state_takes_the_dtype_that_is_declared_here(of, here):
    p, q = parameter(), parameter()
    a, b = weft.AdamW([p], state_dtype=of), weft.AdamW([q], state_dtype=here)
    advance(a, p, 2)
    b.load_state_dict(saved(a))
    advance(b, q, 1)
    assert b.state[q]["exp_avg"].dtype == (here or BF16)
    assert a.state[p]["exp_avg"].dtype == (of or BF16)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_keeps_it(clone):
    opt = clone(weft.SGD([{"params": [parameter()]}], momentum=0.9, state_dtype=F32))
    opt.add_param_group({"params": [parameter(seed=1)]})
    for group in opt.param_groups:
        (p,) = group["params"]
        p.grad = torch.ones_like(p)
    opt.step()
    assert {s["momentum_buffer"].dtype for s in opt.state.values()} == {F32}


def test_torchs_checkpoint_in_16_bits_is_taken_as_float32():
    p, q = parameter(), parameter()
    theirs, ours = torch.optim.AdamW([p]), weft.AdamW([q], state_dtype=F32)
    advance(theirs, p, 2)
    ours.load_state_dict(theirs.state_dict())
    assert ours.state[q]["exp_avg"].dtype == F32


# ---------------------------------------------------------------- what 16 bits are too few for


@pytest.mark.parametrize("name", ["Prodigy", "DoG", "LDoG", "DoWG"])
def test_what_cannot_work_in_16_bits_says_so_once(name, recwarn):
    cls = getattr(weft, name)
    with pytest.warns(weft.WeftWarning, match=r"state_dtype=torch\.float32") as told:
        opt = cls([{"params": [parameter()]}, {"params": [parameter(seed=1)]}])
    opt.add_param_group({"params": [parameter(seed=2)]})
    assert len(told) == 1
    recwarn.clear()
    cls([parameter()], state_dtype=F32)
    cls([parameter(F32)])
    cls([parameter(F64)])
    assert not recwarn
    with pytest.warns(weft.WeftWarning, match=r"state_dtype=torch\.float32"):
        cls([parameter(F32)], state_dtype=BF16)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion", "Muon"])
def test_what_can_does_not(name, recwarn):
    getattr(weft, name)([parameter()])
    assert not recwarn


@pytest.mark.parametrize(("name", "number"), [("Prodigy", "d"), ("DoG", "distance")])
def test_a_distance_is_learned_beside_bfloat16_parameters(name, number):
    """From zero, as LoRA's are; where weights are larger, their own rounding has to be passed first."""
    found = []
    for dtype, kept in ((F64, None), (BF16, F32)):
        p = torch.nn.Parameter(torch.zeros(20, 5, dtype=dtype))
        x = torch.randn(64, 20, generator=torch.Generator().manual_seed(0), dtype=F64)
        y = x @ torch.randn(20, 5, generator=torch.Generator().manual_seed(1), dtype=F64)
        opt = getattr(weft, name)([p], state_dtype=kept)
        for _ in range(60):
            p.grad = (x.T @ (x @ p.detach().double() - y) / 64).to(dtype)
            opt.step()
        found.append(opt.param_groups[0][number])
    assert found[1] == pytest.approx(found[0], rel=0.02)
