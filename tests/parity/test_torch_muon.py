"""weft.Muon and torch.optim.Muon: exactly, where torch iterates in double; else up to its bfloat16."""

import copy

import pytest
import torch

import weft

SHAPES = [(6, 4), (4, 6), (5, 5)]
OPTIONS = [
    {},
    {"nesterov": False, "weight_decay": 0.3},
    {"adjust_lr_fn": "match_rms_adamw", "momentum": 0.8},
    {"adjust_lr_fn": "original", "ns_steps": 3, "ns_coefficients": (2.0, -1.5, 0.5), "eps": 1e-6},
]


@pytest.fixture
def wide(monkeypatch):
    """torch's Newton-Schulz in the precision of its input."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())


def pair(options, dtype=torch.float64, engine="auto"):
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(s, dtype=dtype)) for s in SHAPES]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    mine = weft.Muon(groups(ours), **options, engine=engine)
    return ours, mine, theirs, torch.optim.Muon(groups(theirs), **options)


def groups(params):
    return [{"params": params[:1], "lr": 0.05}, {"params": params[1:], "weight_decay": 0.2}]


def give(params, t):
    gen = torch.Generator().manual_seed(100 + t)
    for i, p in enumerate(params):
        g = torch.randn(p.shape, generator=gen, dtype=torch.float64).to(p.dtype)
        p.grad = None if (t + i) % 7 == 5 else g


def run(ours, mine, theirs, torchs, steps):
    for t in steps:
        for opt, params in ((mine, ours), (torchs, theirs)):
            give(params, t)
            for i, g in enumerate(opt.param_groups):
                g["lr"] = 0.02 + 0.001 * ((t + i) % 5)
                g["momentum"] = 0.9 - 0.01 * (t % 3)
            opt.step()


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("options", OPTIONS)
def test_follows_torch_exactly_in_double(options, engine, wide):
    ours, mine, theirs, torchs = pair(options, engine=engine)
    run(ours, mine, theirs, torchs, range(100))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
def test_follows_torch_up_to_its_bfloat16(options):
    """The singular values of an update are off by a few per cent of one, of a step of about 0.02."""
    ours, mine, theirs, torchs = pair(options, torch.float32)
    for t in range(20):
        for a, b in zip(ours, theirs, strict=True):
            a.data.copy_(b.data)
        run(ours, mine, theirs, torchs, [t])
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0.1 * 0.025)


@pytest.mark.parametrize("way", ["theirs to ours", "ours to theirs"])
def test_checkpoints_go_both_ways(way, wide):
    ours, mine, theirs, torchs = pair({})
    run(ours, mine, theirs, torchs, range(5))
    assert {"momentum_buffer"} == {k for s in mine.state.values() for k in s}
    ours_keys, theirs_keys = (set(o.state_dict()["param_groups"][0]) for o in (mine, torchs))
    assert theirs_keys <= ours_keys
    if way == "theirs to ours":
        mine.load_state_dict(torchs.state_dict())
    else:
        torchs.load_state_dict(copy.deepcopy(mine.state_dict()))
    run(ours, mine, theirs, torchs, range(5, 15))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3,), {}, "Muon only supports 2D parameters whereas we found a parameter with size:"),
        ((2, 2, 2), {}, "Muon only supports 2D parameters"),
        ((2, 2), {"adjust_lr_fn": "spectral"}, "Adjust learning rate function spectral is not"),
        ((2, 2), {"lr": -1.0}, "Learning rate should be >= 0 but is: -1.0"),
        ((2, 2), {"momentum": -0.1}, "momentum should be >= 0 but is: -0.1"),
        ((2, 2), {"weight_decay": -0.1}, "weight decay should be >= 0 but is: -0.1"),
        ((2, 2), {"lr": torch.ones(2)}, "Tensor lr must be 1-element"),
    ],
)
def test_mistakes_in_torchs_words(shape, options, message):
    p = torch.nn.Parameter(torch.zeros(shape))
    for cls in (weft.Muon, torch.optim.Muon):
        with pytest.raises(ValueError, match=message):
            cls([p], **options)


def test_a_refused_group_leaves_nothing_behind():
    opt = weft.Muon([torch.nn.Parameter(torch.eye(2))])
    with pytest.raises(ValueError, match="only supports 2D"):
        opt.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2, 2, 2))]})
    assert len(opt.param_groups) == 1
    opt.param_groups[0]["params"][0].grad = torch.eye(2)
    opt.step()


def test_the_signature_is_torchs():
    import inspect

    ours = inspect.signature(weft.Muon.__init__).parameters
    theirs = inspect.signature(torch.optim.Muon.__init__).parameters
    assert [(n, p.default) for n, p in ours.items()][: len(theirs)] == [
        (n, p.default) for n, p in theirs.items()
    ]


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("name", ["muon", "normuon", "adamuon", "muonpolarexpress"])
def test_the_iteration_may_run_in_bfloat16(name, engine):
    moved = []
    for ns_dtype in ("float32", "bfloat16", "auto"):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(24, 16)) for _ in range(2)]
        before = [p.detach().clone() for p in params]
        opt = weft.create(name, params, lr=0.02, ns_dtype=ns_dtype, engine=engine)
        for _ in range(3):
            for p in params:
                p.grad = torch.randn_like(p)
            opt.step()
        moved.append(torch.cat([(p.detach() - q).flatten() for p, q in zip(params, before)]))
        assert all(
            v.dtype is torch.float32 for s in opt.state.values() for v in s.values() if v.ndim
        )
    float32, bfloat16, auto = moved
    assert torch.equal(float32, auto)  # there is no GPU here
    assert 1e-6 < (bfloat16 - float32).norm() / float32.norm() < 0.05


def test_on_a_gpu_the_iteration_runs_in_bfloat16():
    from types import SimpleNamespace

    from weft.callbacks.matrix import iterated_in

    on = lambda device, dtype: SimpleNamespace(device=torch.device(device), dtype=dtype)
    assert iterated_in(on("cuda", torch.float32), "auto") is torch.bfloat16
    assert iterated_in(on("cuda", torch.float64), "auto") is torch.float64
    assert iterated_in(on("cuda", torch.float32), "float32") is torch.float32
    assert iterated_in(on("cpu", torch.float32), "auto") is torch.float32


@pytest.mark.parametrize("wrong", ["int8", "half precision"])
def test_an_iteration_in_what_is_no_floating_dtype_is_refused(wrong):
    with pytest.raises(
        ValueError, match=f"Invalid ns_dtype value: '{wrong}'.* takes one of 'auto'"
    ):
        weft.Muon([torch.nn.Parameter(torch.ones(2, 2))], ns_dtype=wrong)


def test_in_bfloat16_it_is_as_exact_as_torchs():
    """Their products round once each, as sums of products; of the exact iteration both are off alike."""
    off = {"ours": [], "theirs": []}
    for seed in range(8):
        torch.manual_seed(seed)
        grad = torch.randn(24, 40)
        moved = {}
        for who, cls, options in (
            ("exact", weft.Muon, {"ns_dtype": "float64"}),
            ("ours", weft.Muon, {"ns_dtype": "bfloat16"}),
            ("theirs", torch.optim.Muon, {}),
        ):
            p = torch.nn.Parameter(torch.zeros(24, 40))
            p.grad = grad.clone()
            cls([p], lr=1.0, weight_decay=0.0, **options).step()
            moved[who] = p.detach()
        for who in off:
            off[who].append(float((moved[who] - moved["exact"]).norm() / moved["exact"].norm()))
    assert sum(off["ours"]) < 1.2 * sum(off["theirs"])
