"""The references of matrix.py and wrapper.py against public implementations, where installed.

Peers compute some of it in bfloat16 or float32 whatever they are given; here they are held to
float64 (`in_float64`), so that they agree to rounding, or not at all. Where a peer does not
follow the paper, the reference's docstring says so, and there is no test here.
"""

# ruff: noqa: C408  (hypers read best as keywords)
from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from references import REFERENCES
from references.wrapper import erfi

MATRICES = [(6, 4), (4, 6), (5, 5)]
SQUARES = [(5, 5), (3, 3)]


def peer(module="pytorch_optimizer"):
    return pytest.importorskip(module, reason=f"{module} comes with the extra `parity`")


def muon_groups(params, **options):
    return [{"params": params, "use_muon": True, **options}]


@pytest.fixture
def in_float64(monkeypatch):
    """No float32 or bfloat16 behind our back: casts to them give float64."""
    narrow = (torch.float32, torch.bfloat16, torch.float16)
    to = torch.Tensor.to

    def wide(self, *args, **kwargs):
        args = tuple(torch.float64 if a in narrow else a for a in args)
        if kwargs.get("dtype") in narrow:
            kwargs["dtype"] = torch.float64
        return to(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", wide)
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self.double())
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.double().clone())
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def compare(name, make_peer, shapes=MATRICES, *, steps=15, atol=1e-10, after=None, **hypers):
    """The same noisy gradients and schedule for both; returns both."""
    g = torch.Generator().manual_seed(1)
    draw = lambda shape: torch.randn(shape, generator=g, dtype=torch.float64)
    start = [draw(s) for s in shapes]
    ref = REFERENCES[name](start, **hypers)
    params = [torch.nn.Parameter(p.clone()) for p in start]
    opt = make_peer(params)
    for t in range(steps):
        grads = [draw(s) for s in shapes]
        lr = 0.02 * (1 + 0.5 * math.cos(t))
        for p, x in zip(params, grads):
            p.grad = x.clone()
        for group in opt.param_groups:
            group["lr"] = lr
        opt.step()
        inner = "inner" in vars(ref)
        ref.step(grads, **({"lr": lr} if inner or "lr" in ref.defaults else {}))
        if after is not None:
            after(t, ref, opt, params)
    assert max((a - p).abs().max() for a, p in zip(ref.params, start)) > 1e-2
    for a, b in zip(ref.params, params):
        torch.testing.assert_close(a, b.detach(), atol=atol, rtol=0)
    return ref, opt


# ------------------------------------------------------------------ orthogonalized


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", [None, "original", "match_rms_adamw"])
def test_muon_is_torchs(in_float64, nesterov, adjust):
    options = dict(nesterov=nesterov, adjust_lr_fn=adjust, weight_decay=0.3)
    compare("muon", lambda p: torch.optim.Muon(p, **options), **options)


def test_muon_is_torchs_up_to_its_bfloat16():
    compare("muon", torch.optim.Muon, atol=0.02)


@pytest.mark.parametrize("adjust", [False, True])
def test_muon_flattens_convolutions(in_float64, adjust):
    po = peer()
    compare(
        "muon",
        lambda p: po.Muon(muon_groups(p, weight_decay=0.1), use_adjusted_lr=adjust),
        [*MATRICES, (3, 2, 2, 2)],
        adjust_lr_fn="match_rms_adamw" if adjust else None,
    )


def test_muon_polar_express(in_float64, monkeypatch):
    """po with the paper's coefficients and its 1.01; its own are of another recipe."""
    po = peer()
    from pytorch_optimizer.optimizer.muon import base
    from references.matrix import POLAR_EXPRESS

    safe = partial(base.zero_power_via_newton_schulz_5, safety_factor=1.01)
    monkeypatch.setattr(base, "zero_power_via_newton_schulz_5", safe)
    compare(
        "muon_polar_express",
        lambda p: po.Muon(muon_groups(p, weight_decay=0.1), ns_coeffs=POLAR_EXPRESS),
        atol=1e-6,  # the paper adds 1e-7 to the norm
    )


def test_polar_express_converges():
    from references.matrix import polar, polar_express

    g = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (polar_express(g, steps=9) - polar(g)).abs().max() < 1e-6


def test_muonclip(in_float64):
    po = peer()
    compare("muonclip", lambda p: po.MuonClip(muon_groups(p, weight_decay=0.1)))


@pytest.mark.parametrize("scale", ["rms", "preserve_norm"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_normuon(in_float64, scale, nesterov):
    po = peer()
    compare(
        "normuon",
        lambda p: po.NorMuon(
            muon_groups(p, weight_decay=0.1, eps=0.0),
            nesterov=nesterov,
            update_scale="preserve_norm" if scale == "preserve_norm" else "match_rms",
        ),
        nesterov=nesterov,
        update_scale=scale,
        norm_eps=0.0,
    )


def test_adamuon_first_version(in_float64):
    """Without the sign of the momentum, which the second version of the paper added."""
    po = peer()
    compare(
        "adamuon",
        lambda p: po.AdaMuon(muon_groups(p, weight_decay=0.1, betas=(0.95, 0.95)), eps=0.0),
        sign=False,
        norm_eps=0.0,
    )


def test_scion(in_float64):
    po = peer()
    from pytorch_optimizer.optimizer.scion import LMONorm

    for norm, number, shapes in [
        ("spectral", LMONorm.SPECTRAL, MATRICES),
        ("sign", LMONorm.SIGN, MATRICES),
        ("auto", LMONorm.AUTO, [*MATRICES, (5,), (4, 3, 2, 2)]),
    ]:
        for constrained in (True, False):
            compare(
                "scion",
                lambda p: po.SCION(p, norm_type=number, constraint=constrained, scale=2.0),
                shapes,
                norm=norm,
                constrained=constrained,
                scale=2.0,
            )


@pytest.mark.parametrize("name", ["muonh", "spel", "spectral_sphere"])
def test_constraints_hold(name):
    g = torch.Generator().manual_seed(0)
    draw = lambda shape: torch.randn(shape, generator=g, dtype=torch.float64)
    start = [draw(s) for s in MATRICES]
    ref = REFERENCES[name](start, lr=1e-3)
    for _ in range(3):
        ref.step([draw(s) for s in MATRICES])
    for p, q in zip(ref.params, start):
        m, n = p.shape
        if name == "muonh":
            torch.testing.assert_close(p.norm(), q.norm())
        elif name == "spel":
            gram = p.T @ p if m >= n else p @ p.T
            torch.testing.assert_close(gram, torch.eye(min(m, n), dtype=p.dtype))
        else:  # the tangent step leaves the sphere at second order only
            norm = torch.linalg.matrix_norm(p, 2).item()
            assert abs(norm / math.sqrt(m / n) - 1) < 1e-4


def test_dion_of_full_rank_is_orthogonal():
    """With r = min(m, n) the update is P Q^T with orthonormal P and unit columns in Q."""
    ref = REFERENCES["dion"]([torch.zeros(4, 4)], lr=1.0, rank=4, weight_decay=0.0)
    a = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double())[0]
    ref.step([a])
    torch.testing.assert_close(ref.params[0], -a)  # an orthogonal gradient is its own polar factor


def test_dion2_with_every_row_is_muon_without_nesterov():
    shapes = [(4, 6), (5, 5)]
    g = torch.Generator().manual_seed(0)
    draw = lambda: [torch.randn(s, generator=g, dtype=torch.float64) for s in shapes]
    start = draw()
    dion2 = REFERENCES["dion2"](start, fraction=1.0, momentum=0.0, lr=0.1)
    muon = REFERENCES["muon"](start, momentum=0.0, nesterov=False, lr=0.1, weight_decay=0.01)
    for _ in range(3):
        grads = draw()
        for ref in (dion2, muon):
            ref.step(grads)
    torch.testing.assert_close(dion2.params[1], muon.params[1])
    assert (dion2.params[0] - muon.params[0]).abs().max() > 1e-3  # sqrt(m/n) is below one there


# ------------------------------------------------------------------ low rank


def low_rank_groups(params, gap, scale):
    options = dict(rank=2, update_proj_gap=gap, scale=scale, projection_type="std")
    return [{"params": params[:3], **options}, {"params": params[3:]}]


@pytest.mark.parametrize("gap", [1, 1000])  # po renews at 1, gap, 2 gap, ...
@pytest.mark.parametrize(("name", "scale"), [("galore_adamw", 0.25), ("fira", 1.0)])
def test_low_rank(in_float64, name, scale, gap):
    po = peer()
    cls = {"galore_adamw": po.GaLore, "fira": po.Fira}[name]
    hypers = dict(eps=1e-14, weight_decay=0.1)
    compare(
        name,
        lambda p: cls(low_rank_groups(p, gap, scale), **hypers),
        [*MATRICES, (7,)],
        rank=2,
        update_proj_gap=gap,
        scale=scale,
        atol=1e-8,
        **hypers,
    )


def test_low_rank_renews_when_the_authors_do():
    ref = REFERENCES["galore"]([torch.zeros(5, 3)], update_proj_gap=4)
    bases = []
    for t in range(9):
        ref.step([torch.randn(5, 3, generator=torch.Generator().manual_seed(t))])
        bases.append(ref.basis[0])
    assert [t for t in range(1, 9) if bases[t] is not bases[t - 1]] == [4, 8]


@pytest.mark.parametrize("gap", [1, 1000])
def test_conda(in_float64, gap):
    po = peer()
    compare(
        "conda",
        lambda p: po.Conda(p, update_proj_gap=gap, eps=1e-14, weight_decay=0.1),
        [*MATRICES, (7,)],
        update_proj_gap=gap,
        eps=1e-14,
        weight_decay=0.1,
        atol=1e-8,
    )


def test_apollo_of_full_rank_rotation_is_channelwise_adam():
    """With P orthogonal, ||R|| = ||G|| for each channel: the update has Adam's norm there."""
    q = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double())[0]
    draw = lambda shape: q * math.sqrt(4)
    ref = REFERENCES["apollo"]([torch.zeros(6, 4)], rank=4, lr=1.0, eps=0.0, draw=draw)
    g = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).double()
    ref.step([g])
    torch.testing.assert_close(-ref.params[0], g * 2 / g.norm(dim=1, keepdim=True))


# ------------------------------------------------------------------ Kronecker factors


def test_shampoo(in_float64):
    po = peer()
    compare("shampoo", po.Shampoo, [*MATRICES, (4,), (2, 3, 4)], momentum=0.0, atol=1e-9)


def test_shampoo_grafting_keeps_the_length():
    g = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    ref = REFERENCES["shampoo"]([torch.zeros(4, 6)], lr=1.0, graft="sgd")
    ref.step([g])
    torch.testing.assert_close(ref.params[0].norm(), g.norm())


def test_distributed_shampoo_has_adams_length():
    g = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    options = dict(lr=1.0, eps=1e-10, graft_eps=0.0)
    early = REFERENCES["distributed_shampoo"](
        [torch.zeros(4, 6)], start_preconditioning_step=2, **options
    )
    first = REFERENCES["distributed_shampoo"]([torch.zeros(4, 6)], **options)
    for ref in (early, first):
        ref.step([g])
    torch.testing.assert_close(early.params[0], -g.sign())  # Adam's first step
    torch.testing.assert_close(first.params[0].norm(), g.sign().norm())
    assert (first.params[0] - early.params[0]).abs().max() > 0.1


def adopt_bases(t, ref, opt, params):
    """A null space has no basis of its own: take the peer's, once."""
    if t == 0:
        for i, p in enumerate(params):
            ref.q[i] = [q.clone() for q in opt.state[p]["Q"] if len(q)]


@pytest.mark.parametrize("shapes", [SQUARES, [*MATRICES, (4,), (2, 3, 4)]])
def test_soap(in_float64, shapes):
    po = peer()
    compare(
        "soap",
        lambda p: po.SOAP(p, precondition_frequency=3, weight_decay=0.1),
        shapes,
        after=None if shapes is SQUARES else adopt_bases,
        precondition_frequency=3,
        weight_decay=0.1,
    )


def test_splus(in_float64):
    po = peer()
    ref, opt = compare(
        "splus",
        lambda p: po.SPlus(p, inverse_steps=4),
        [*SQUARES, (4,)],
        inverse_steps=4,
        steps=9,
    )
    opt.eval()
    for a, b in zip(ref.eval_params(), opt.param_groups[0]["params"]):
        torch.testing.assert_close(a, b.detach())


@pytest.mark.parametrize("every", [1, 3])
def test_psgd_kron(in_float64, monkeypatch, every):
    po = peer()
    from pytorch_optimizer.optimizer import psgd

    probes = {"mine": torch.Generator().manual_seed(7), "theirs": torch.Generator().manual_seed(7)}
    draw = lambda who, shape: torch.randn(shape, generator=probes[who], dtype=torch.float64)
    monkeypatch.setattr(psgd.torch, "randn_like", lambda x, **_: draw("theirs", x.shape))
    compare(
        "psgd_kron",
        lambda p: po.Kron(
            p,
            weight_decay=0.1,
            precondition_dtype=torch.float64,
            pre_conditioner_update_probability=1 / every,
            balance_prob=0.0,
        ),
        [*MATRICES, (4,), (2, 3, 4), (5, 1)],
        weight_decay=0.1,
        update_probability=lambda t: 1 / every,
        draw=lambda shape: draw("mine", shape),
    )


def test_kl_shampoo_whitens():
    """With gradients A Z B of white Z, S_a^-1/2 G S_b^-1/2 becomes white, up to a factor."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 3, generator=g, dtype=torch.float64) for _ in range(2))
    draw = lambda: [a @ torch.randn(3, 3, generator=g, dtype=torch.float64) @ b]
    ref = REFERENCES["kl_shampoo"]([torch.zeros(3, 3)], lr=0.0, betas=(0.0, 0.998))
    for _ in range(4000):
        ref.step(draw())
    whitened = torch.stack([ref.direction(0, draw()[0]).flatten() for _ in range(4000)])
    covariance = whitened.T @ whitened / len(whitened)
    assert (covariance / covariance.diag().mean() - torch.eye(9)).abs().max() < 0.2


# ------------------------------------------------------------------ wrappers


@pytest.mark.parametrize("k", [5, 6])
def test_lookahead(k):
    po = peer()
    compare(
        "lookahead",
        lambda p: po.Lookahead(torch.optim.SGD(p, lr=0.1, momentum=0.9), k=k, alpha=0.5),
        inner_hypers={"momentum": 0.9},
        k=k,
    )


def test_snoo_without_momentum_is_lookahead():
    g = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 2, generator=g)]
    inner = {"lr": 0.1, "momentum": 0.9}
    snoo = REFERENCES["snoo"](start, inner_hypers=inner, k=3, outer_lr=0.5, outer_momentum=0.0)
    lookahead = REFERENCES["lookahead"](start, inner_hypers=inner, k=3, alpha=0.5)
    for _ in range(7):
        grads = [torch.randn(3, 2, generator=g)]
        snoo.step(grads)
        lookahead.step(grads)
    torch.testing.assert_close(snoo.params, lookahead.params)


def test_snoo_outer_step_is_torchs_nesterov():
    """With an inner SGD of one step and lr 1, the pseudo-gradient is the gradient."""
    g = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(3, 2, generator=g, dtype=torch.float64)
    p = torch.nn.Parameter(draw())
    ref = REFERENCES["snoo"]([p], inner_hypers={"lr": 1.0}, k=1, outer_lr=0.1)
    opt = torch.optim.SGD([p], lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(10):
        p.grad = draw()
        opt.step()
        ref.step([p.grad])
    torch.testing.assert_close(ref.params[0], p.detach())


def test_ranger(in_float64):
    po = peer()
    compare(
        "ranger",
        lambda p: po.Ranger(p, degenerated_to_sgd=True, weight_decay=0.1),
        [*MATRICES, (4,), (3, 2, 2, 2)],
        weight_decay=0.1,
        steps=20,
    )


@pytest.mark.parametrize("kind", ["weight_ema", "swa"])
def test_averages_are_torchs(kind):
    from torch.optim import swa_utils

    g = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fn = swa_utils.get_ema_multi_avg_fn(0.9) if kind == "weight_ema" else None
    average = swa_utils.AveragedModel(model, multi_avg_fn=fn)
    options = {"decay": 0.9} if kind == "weight_ema" else {"start": 3, "every": 2}
    start = list(model.parameters())
    ref = REFERENCES[kind](start, inner_hypers={"lr": 0.1, "momentum": 0.9}, **options)
    if kind == "weight_ema":
        average.update_parameters(model)  # torch copies the first weights that it is given
    for t in range(1, 11):
        grads = [torch.randn(p.shape, generator=g, dtype=torch.float64) for p in start]
        for p, x in zip(model.parameters(), grads):
            p.grad = x.clone()
        opt.step()
        ref.step(grads)
        if kind == "weight_ema" or (t >= 3 and t % 2 == 1):
            average.update_parameters(model)
    for a, b in zip(ref.eval_params(), average.module.parameters()):
        torch.testing.assert_close(a, b.detach())


def test_lawa_is_the_mean_of_the_last():
    ref = REFERENCES["lawa"]([torch.zeros(2)], inner_hypers={"lr": 1.0}, window=3, every=2)
    for _ in range(10):
        ref.step([-torch.ones(2)])
    torch.testing.assert_close(ref.eval_params()[0], torch.full((2,), 8.0).double())  # 6, 8, 10


@torch.enable_grad()
def problem(params):
    """A loss with curvature, and its gradients."""
    params = [p.detach().clone().requires_grad_() for p in params]
    loss = sum((p.square() * torch.arange(1, p.numel() + 1).reshape(p.shape)).sum() for p in params)
    loss = loss + sum(p.sin().sum() * 3 for p in params) + params[0].sum() * params[1].sum() / 10
    return loss, torch.autograd.grad(loss, params)


def sharpness_aware(name, make_peer, drive, steps=12, atol=1e-10, **hypers):
    start = [
        torch.randn(s, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        for s in [(3, 2), (4,)]
    ]
    ref = REFERENCES[name](start, inner_hypers={"momentum": 0.9}, **hypers)
    params = [torch.nn.Parameter(p.clone()) for p in start]
    opt = make_peer(params)

    def closure():
        loss, grads = problem(params)
        for p, x in zip(params, grads):
            p.grad = x.clone()
        return loss

    for t in range(steps):
        lr = 0.01 * (1 + 0.5 * math.cos(t))
        for group in opt.param_groups:
            group["lr"] = lr
        closure()
        drive(opt, closure)
        ref.step_fn(problem, lr=lr)
    for a, b in zip(ref.params, params):
        torch.testing.assert_close(a, b.detach(), atol=atol, rtol=0)


def two_steps(opt, closure):
    opt.first_step(zero_grad=True)
    closure()
    opt.second_step()


SHARP = [
    ("sam", "SAM", {"rho": 0.2}, {"rho": 0.2}),
    ("asam", "SAM", {"rho": 0.2, "adaptive": True}, {"rho": 0.2, "eta": 0.0}),
    ("gcsam", "SAM", {"rho": 0.2, "use_gc": True}, {"rho": 0.2}),
    ("looksam", "LookSAM", {"rho": 0.2, "k": 4}, {"rho": 0.2, "k": 4}),
    ("friendly_sam", "FriendlySAM", {"rho": 0.2}, {"rho": 0.2}),
]


@pytest.mark.parametrize(("name", "cls", "theirs", "mine"), SHARP, ids=[s[0] for s in SHARP])
def test_sharpness_aware(name, cls, theirs, mine, in_float64):
    po = peer()
    make = lambda p: getattr(po, cls)(p, torch.optim.SGD, lr=0.1, momentum=0.9, **theirs)
    sharpness_aware(name, make, two_steps, atol=1e-6, **mine)  # po's global norm is float32


def test_wsam(in_float64):
    po = peer()
    make = lambda p: po.WSAM(
        torch.nn.Linear(1, 1), p, torch.optim.SGD, lr=0.1, momentum=0.9, rho=0.2, gamma=0.7
    )
    sharpness_aware("wsam", make, two_steps, atol=1e-6, rho=0.2, gamma=0.7)


def test_gsam(in_float64):
    po = peer()

    class Rho:
        def step(self):
            return 0.2

    def make(p):
        base = torch.optim.SGD(p, lr=0.1, momentum=0.9)
        return po.GSAM(p, base, torch.nn.Linear(1, 1), Rho(), alpha=0.4)

    def drive(opt, closure):
        opt.step(lambda: (None, closure()))

    sharpness_aware("gsam", make, drive, atol=1e-6, rho=0.2, alpha=0.4)


def test_erfi():
    """erfi'(x) = 2 / sqrt(pi) exp(x^2), and it is odd."""
    for x in (0.1, 0.7, 2.0):
        slope = (erfi(x + 1e-5) - erfi(x - 1e-5)) / 2e-5
        assert slope == pytest.approx(2 / math.sqrt(math.pi) * math.exp(x * x), rel=1e-8)
        assert erfi(-x) == -erfi(x)


def test_trac(in_float64):
    po = peer()
    start = [torch.ones(3, 2), torch.full((4,), -2.0)]
    ref = REFERENCES["trac"](start, inner_hypers={"momentum": 0.9}, s_0=1e-2)
    params = [torch.nn.Parameter(p.clone()) for p in start]
    opt = po.TRAC(torch.optim.SGD(params, lr=0.1, momentum=0.9), s_prev=1e-2)
    for t in range(15):
        lr = opt.param_groups[0]["lr"] = 0.02 * (1 + 0.5 * math.cos(t))
        for p, x in zip(params, problem(params)[1]):
            p.grad = x.clone()
        opt.step()
        ref.step(problem(ref.params)[1], lr=lr)
    assert (ref.params[0] - start[0]).abs().max() > 1e-2
    for a, b in zip(ref.params, params):
        torch.testing.assert_close(a, b.detach(), atol=1e-6, rtol=0)


def test_mechanic():
    optax = peer("optax")
    jax = peer("jax")
    with jax.enable_x64(True):
        start = [torch.ones(3, 2).double(), torch.full((4,), -2.0).double()]
        ref = REFERENCES["mechanic"](start, inner_hypers={"lr": 0.1, "momentum": 0.9}, s_init=1e-2)
        opt = optax.contrib.mechanize(optax.sgd(0.1, momentum=0.9), s_init=1e-2)
        params = [jax.numpy.asarray(p.numpy()) for p in start]
        state = opt.init(params)
        for _ in range(15):
            grads = problem([torch.tensor(p.tolist(), dtype=torch.float64) for p in params])[1]
            updates = [jax.numpy.asarray(g.numpy()) for g in grads]
            updates, state = opt.update(updates, state, params)
            params = optax.apply_updates(params, updates)
            ref.step(problem(ref.params)[1])
    assert (ref.params[0] - start[0]).abs().max() > 1e-2
    for a, b in zip(ref.params, params):
        torch.testing.assert_close(a, torch.tensor(b.tolist(), dtype=torch.float64))


@pytest.mark.parametrize(
    "name", ["soap", "soap_laprop", "soap_nadam", "soap_ademamix", "heavy_soap"]
)
def test_soap_in_the_standard_basis_is_its_own_optimizer(name):
    """A diagonal gradient of distinct entries has signed unit vectors for eigenvectors."""
    inner = {"soap_laprop": "laprop", "soap_nadam": "nadam", "soap_ademamix": "ademamix"}
    inner = inner.get(name, "adam")
    betas = (0.9, 0.99, 0.999) if name == "soap_ademamix" else (0.9, 0.99)
    options = dict(lr=0.1, betas=betas, eps=1e-14)
    extra = {"alpha": 2.0} if name == "soap_ademamix" else {}
    soap = REFERENCES[name]([torch.zeros(3, 3)], weight_decay=0.0, **options, **extra)
    other = REFERENCES[inner]([torch.zeros(3)], **options, **extra)
    g = torch.Generator().manual_seed(0)
    soap.step([torch.diag(torch.tensor([3.0, 2.0, 1.0]))])
    for _ in range(8):  # fewer than the frequency: no renewal
        x = torch.randn(3, generator=g, dtype=torch.float64)
        soap.step([torch.diag(x)])
        other.step([x])
    torch.testing.assert_close(soap.params[0].diag(), other.params[0], atol=1e-9, rtol=1e-9)


def test_scion_light_is_scion():
    g = torch.Generator().manual_seed(0)
    draw = lambda: [torch.randn(s, generator=g, dtype=torch.float64) for s in MATRICES]
    start = draw()
    scion, light = (REFERENCES[n](start, lr=0.1) for n in ("scion", "scion_light"))
    for _ in range(5):
        grads = draw()
        scion.step(grads)
        light.step(grads)
    for a, b in zip(scion.params, light.params):
        torch.testing.assert_close(a, b)


def test_nordion2_with_every_row_is_normuon():
    g = torch.Generator().manual_seed(0)
    draw = lambda: [torch.randn(s, generator=g, dtype=torch.float64) for s in MATRICES]
    start = draw()
    options = dict(lr=0.1, weight_decay=0.1, adjust_lr_fn="spectral_norm")
    nordion2 = REFERENCES["nordion2"](start, fraction=1.0, momentum=0.0, **options)
    normuon = REFERENCES["normuon"](
        start, betas=(0.0, 0.95), update_scale="preserve_norm", **options
    )
    for _ in range(5):
        grads = draw()
        nordion2.step(grads)
        normuon.step(grads)
    for a, b in zip(nordion2.params, normuon.params):
        torch.testing.assert_close(a, b)


def test_gpa_covers_averaging_and_heavy_ball():
    g = torch.Generator().manual_seed(0)
    draw = lambda: [torch.randn(3, 2, generator=g, dtype=torch.float64)]
    start = draw()
    averaged = REFERENCES["gpa"](start, inner_hypers={"lr": 0.1}, mu_x=0.9, mu_y=0.0)
    ema = REFERENCES["weight_ema"](start, inner_hypers={"lr": 0.1}, decay=0.9)
    ball = REFERENCES["gpa"](start, inner_hypers={"lr": 0.1}, mu_x=0.9, mu_y=1.0)
    momentum = REFERENCES["sgd"](start, lr=0.1 * (1 - 0.9), momentum=0.9)
    for _ in range(10):
        grads = draw()
        for ref in (averaged, ema, ball, momentum):
            ref.step(grads)
    torch.testing.assert_close(averaged.params, ema.params)
    torch.testing.assert_close(averaged.eval_params(), ema.eval_params())
    torch.testing.assert_close(ball.params, momentum.params)


def test_bsam_steps_from_the_unperturbed_weights():
    start = [torch.ones(2, dtype=torch.float64)]
    options = dict(lr=0.1, rho=0.5, weight_decay=0.2, damping=0.3, num_data=4, s_init=4.0)
    ref = REFERENCES["bsam"](start, draw=lambda shape: torch.full(shape, 2.0), **options)
    seen = []

    def square(params):
        seen.append(params[0][0].item())
        return params[0].square().sum(), [2 * params[0]]

    ref.step_fn(square)
    noisy = 1 + 2 / math.sqrt(4 * 4)
    ascent = 1 + 0.5 * 2 * noisy / 4
    assert seen == pytest.approx([noisy, ascent])
    s = 0.999 * 4 + 0.001 * (2 * 2 * noisy + 0.5)
    m = 0.1 * (2 * ascent + 0.2)
    assert ref.params[0][0].item() == pytest.approx(1 - 0.1 * m / s)
