"""Zero where a method divides, takes a norm, a rate or a first value: no NaN, no leap, no standstill.

Where there is nothing to go by nothing moves, and what was waited for is not missed.
"""

import math

import pytest
import torch

import weft
from weft import callbacks as cb

SHAPES = ((6, 4), (5,), (4, 2, 2, 2))
MATRICES = ((6, 4), (3, 5))


def parameters(shapes=SHAPES, dtype=torch.float32, zero=False):
    gen = torch.Generator().manual_seed(3)
    drawn = [torch.randn(s, generator=gen, dtype=torch.float64) for s in shapes]
    return [torch.nn.Parameter((0 * x if zero else x).to(dtype)) for x in drawn]


def gradients(params, t, scale=1.0):
    gen = torch.Generator().manual_seed(50 + t)
    for p in params:
        g = 1.0 + 0.5 * torch.randn(p.shape, generator=gen, dtype=torch.float64)
        p.grad = (g * scale).to(p.dtype)


def trained(make, scales, dtype=torch.float32, shapes=SHAPES, zero=False, loss=1.0, rates=None):
    """The parameters after steps whose gradients have these sizes; None for no gradient."""
    torch.manual_seed(0)
    params = parameters(shapes, dtype, zero)
    opt = make(params)
    for t, scale in enumerate(scales):
        if rates is not None:
            opt.param_groups[0]["lr"] = rates[t]
        opt.zero_grad()
        if scale is not None:
            gradients(params, t, scale)
        opt.step(loss=torch.tensor(loss, dtype=dtype))
    return params, opt


def distance(params, zero=False, shapes=SHAPES):
    starts = parameters(shapes, params[0].dtype, zero)
    return max(
        float((p.double() - s.double()).detach().abs().max())
        for p, s in zip(params, starts, strict=True)
    )


# ---------------------------------------------------------------- norms and quotients of zero

RELATIVE = {
    "hyperball": (cb.hyperball,),
    "spectral_sphere": (cb.spectral_sphere,),
    "normalize_global": (cb.normalize_global, cb.descend),
    "curvature_rate": (cb.curvature_rate, cb.subtract),
    "scale_to_rms": (cb.scale_to_rms, cb.descend),
    "normalize_neurons": (cb.normalize_neurons, cb.descend),
    "trust_ratio": (cb.trust_ratio, cb.descend),
    "polyak_rate": (cb.polyak_rate, cb.descend),
    "momo": (cb.plain_ema, cb.momo),
    "alig": (cb.alig,),
    "row_column_scale": (cb.row_column_scale, cb.descend),
    "limit_growth": (cb.limit_growth, cb.descend),
    "adapt_norm": (cb.adapt_norm, cb.descend),
    "follow_leader": (cb.follow_leader,),
    "first_snr": (cb.first_snr, cb.descend),
    "lift_norm": (cb.lift_norm, cb.descend),
    "polar": (cb.polar, cb.descend),
    "whiten": (cb.kron_schedule, cb.fit_whitener, cb.whiten, cb.descend),
}
COMES_TO_A_SPHERE = {"spectral_sphere": "what starts elsewhere is brought to the sphere"}


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("zero", [False, True], ids=["", "parameters too"])
@pytest.mark.parametrize("name", RELATIVE)
def test_nothing_moves_without_a_gradient_or_a_loss(name, zero, engine):
    make = lambda ps: weft.Optimizer(ps, RELATIVE[name], lr=0.1, engine=engine)
    params, _ = trained(make, [0.0] * 4, shapes=MATRICES, zero=zero, loss=0.0)
    if name in COMES_TO_A_SPHERE and not zero:
        assert all(p.isfinite().all() for p in params)
    else:
        assert distance(params, zero, MATRICES) == 0


NAMED = {
    "AdamH": SHAPES, "MuonH": MATRICES, "SpectralSphere": MATRICES, "AdGD": SHAPES,
    "PolyakSGD": SHAPES, "MoMo": SHAPES, "MoMoAdam": SHAPES, "AliG": SHAPES, "DAdaptSGD": SHAPES,
    "DAdaptAdam": SHAPES, "DAdaptAdaGrad": SHAPES, "DAdaptAdan": SHAPES, "DAdaptLion": SHAPES,
    "Prodigy": SHAPES, "FTRL": SHAPES, "Fromage": SHAPES, "NormalizedGD": SHAPES, "FAdam": SHAPES,
    "DoG": SHAPES, "LDoG": SHAPES, "DoWG": SHAPES, "ScheduleFreeSGD": SHAPES, "COCOB": SHAPES,
}  # fmt: skip


@pytest.mark.parametrize("zero", [False, True], ids=["", "parameters too"])
@pytest.mark.parametrize("scale", [0.0, 1e-42])
@pytest.mark.parametrize("name", NAMED)
def test_optimizers_are_finite_at_next_to_nothing(name, scale, zero):
    make = lambda ps: getattr(weft, name)(ps, engine="eager")
    params, _ = trained(make, [scale] * 4, shapes=NAMED[name], zero=zero, loss=0.0)
    assert all(p.isfinite().all() for p in params)


# ---------------------------------------------------------------- squares that float32 does not hold

# methods whose steps do not depend on the size of gradients, or on it through a norm
OF_ONE_SIZE = {
    "AdGD": SHAPES, "DAdaptSGD": SHAPES, "Fromage": SHAPES, "LAMB": SHAPES, "LARS": SHAPES,
    "AdamH": SHAPES, "ScionLight": MATRICES, "MuonClip": MATRICES, "NorDion2": MATRICES,
    "AdaGradNorm": SHAPES, "DoG": SHAPES, "COCOB": SHAPES, "CAME": SHAPES, "RACS": MATRICES,
    "VSGD": SHAPES, "StableSPAM": SHAPES, "NovoGrad": SHAPES, "AdaGC": SHAPES, "MoMo": SHAPES,
    "SWAN": MATRICES, "NAMO": MATRICES, "Rprop": SHAPES, "CautiousAdamW": SHAPES,
}  # fmt: skip


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-6, 1e10, 1e18])
@pytest.mark.parametrize("name", OF_ONE_SIZE)
def test_gradients_of_any_size_are_stepped_as_in_float64(name, scale):
    shapes, make = OF_ONE_SIZE[name], lambda ps: getattr(weft, name)(ps, engine="eager")
    narrow, _ = trained(make, [scale] * 4, shapes=shapes)
    wide, _ = trained(make, [scale] * 4, torch.float64, shapes)
    for p, q, start in zip(narrow, wide, parameters(shapes, torch.float64), strict=True):
        moved = float((q - start).abs().max())
        torch.testing.assert_close(p.double(), q, rtol=0, atol=0.01 * moved + 1e-6)


def test_adafactors_product_does_not_overflow():
    make = lambda ps: weft.Adafactor(ps, lr=0.1, eps=(1e-7, 1e-3), engine="eager")
    narrow, _ = trained(make, [1e10] * 3)
    wide, _ = trained(make, [1e10] * 3, torch.float64)
    for p, q in zip(narrow, wide, strict=True):
        torch.testing.assert_close(p.double(), q, rtol=1e-4, atol=1e-5)


def test_came_has_no_floor():
    """From 1e-6 on its direction was another, for torch's floor that its docstring denied."""
    make = lambda ps: weft.CAME(ps, lr=0.1, engine="eager")
    small, _ = trained(make, [1e-6] * 3)
    large, _ = trained(make, [1.0] * 3)
    for p, q in zip(small, large, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- a first gradient of zero

WAITS = {
    "SGDSaI": SHAPES, "APOLLO": MATRICES, "APOLLOMini": MATRICES, "RACS": MATRICES, "Fira": MATRICES,
    "ACProp": SHAPES, "ADOPT": SHAPES, "NovoGrad": SHAPES, "AdaGC": SHAPES, "BCOS": SHAPES,
    "AdGD": SHAPES, "DAdaptSGD": SHAPES, "KLSOAP": MATRICES, "SOAP": MATRICES,
}  # fmt: skip
SLOW = {"AdGD": 1e-8, "DAdaptSGD": 1e-7}  # methods that begin with next to no rate


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("waiting", [1, 3])
@pytest.mark.parametrize("name", WAITS)
def test_a_first_gradient_of_zero_is_waited_out(name, waiting, engine):
    shapes = WAITS[name]
    lr = getattr(weft, name)(parameters(shapes)).param_groups[0]["lr"]
    kept = {"weight_decay": 0.0} if name in ("SGDSaI", "BCOS", "SOAP", "KLSOAP") else {}
    make = lambda ps: getattr(weft, name)(ps, engine=engine, **kept)
    still, _ = trained(make, [0.0] * waiting, shapes=shapes, zero=True)
    assert distance(still, True, shapes) == 0
    gone, _ = trained(make, [0.0] * waiting + [1.0] * 4, shapes=shapes, zero=True)
    assert SLOW.get(name, 0.1 * lr) < distance(gone, True, shapes) < 100 * max(lr, 0.01)


def test_a_pause_does_not_stop_what_limits_growth():
    """Zero gradients later on set the limit to zero, from which it grows by a hundredth a step."""
    make = lambda ps: weft.APOLLO(ps, engine="eager")
    before, _ = trained(make, [1.0] * 3, shapes=MATRICES)
    after, _ = trained(make, [1.0] * 3 + [0.0] * 3 + [1.0] * 3, shapes=MATRICES)
    assert distance(after, shapes=MATRICES) > 1.5 * distance(before, shapes=MATRICES)


# ---------------------------------------------------------------- rates


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_the_leader_is_followed_at_no_rate_of_zero(engine):
    make = lambda ps: weft.FTRL(ps, lr=0.1, engine=engine)
    rates = [0.0, 0.0, 0.1, 0.0, 0.1]
    for n in range(1, 6):
        params, _ = trained(make, [1.0] * n, rates=rates[:n])
        before, _ = trained(make, [1.0] * (n - 1), rates=rates[: n - 1])
        moved = max(
            float((p - q).detach().abs().max()) for p, q in zip(params, before, strict=True)
        )
        assert math.isfinite(moved)
        assert (moved == 0) is (rates[n - 1] == 0)


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_schedule_free_without_momentum_is_plain_averaging(engine):
    p = torch.nn.Parameter(torch.ones(2))
    opt = weft.ScheduleFreeSGD([p], lr=0.1, momentum=0.0, engine=engine)
    for _ in range(3):
        p.grad = torch.ones(2)
        opt.step()
    torch.testing.assert_close(p.data, torch.full((2,), 0.7))
    opt.eval()
    torch.testing.assert_close(p.data, torch.full((2,), 0.8))
    opt.train()
    torch.testing.assert_close(p.data, torch.full((2,), 0.7))


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_schedule_free_goes_through_a_momentum_of_zero(engine):
    """x is what its own recursion gives, whatever momentum is in each step."""
    p = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    opt = weft.ScheduleFreeSGD([p], lr=0.1, engine=engine)
    x = z = 1.0
    for t, b in enumerate([0.9, 0.0, 0.0, 0.5, 0.0, 0.9], start=1):
        opt.param_groups[0]["momentum"] = b
        p.grad = torch.tensor([float(t)], dtype=torch.float64)
        opt.step()
        z -= 0.1 * t
        x += (z - x) / t
        assert float(p) == pytest.approx(z + b * (x - z), abs=1e-12)
        opt.eval()
        assert float(p) == pytest.approx(x, abs=1e-12)
        opt.train()


def test_adgd_keeps_its_rate_where_nothing_moved():
    p = torch.nn.Parameter(torch.ones(3))
    opt = weft.AdGD([p], lr=0.1, engine="eager")
    for g in (0.0, 0.0, 1.0):
        p.grad = torch.full((3,), g)
        opt.step()
    torch.testing.assert_close(p.data, torch.full((3,), 0.9))


# ---------------------------------------------------------------- hypers that follow another


@pytest.mark.parametrize("lr", [0.1, 1e-3, torch.tensor(0.1)])
def test_adamc_decays_by_its_own_rate_at_first(lr):
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = weft.AdamC([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=lr, weight_decay=0.1)
    assert [g["max_lr"] for g in opt.param_groups] == [pytest.approx(float(lr)), 0.5]
    p.grad = q.grad = torch.zeros(2)
    opt.step()
    torch.testing.assert_close(p.data, torch.full((2,), 1 - float(lr) * 0.1))
    torch.testing.assert_close(q.data, torch.full((2,), 1 - 0.5 * 0.1))
    opt.set_hypers(lr=float(lr) / 2)
    before = p.detach().clone()
    opt.step()
    torch.testing.assert_close(p.data, before * (1 - float(lr) / 4 * 0.1))


def test_adabound_ends_relative_to_each_groups_rate():
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = weft.AdaBound([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=0.1)
    assert [g["base_lr"] for g in opt.param_groups] == [0.1, 0.5]


def test_the_first_norm_of_dadapt_sgd_has_its_decay_in_it():
    p = torch.nn.Parameter(torch.full((4,), 10.0))
    opt = weft.DAdaptSGD([p], weight_decay=0.1, engine="eager")
    p.grad = torch.zeros(4)
    opt.step()
    assert opt.param_groups[0]["first_norm"] == pytest.approx(2.0)
    assert (p - 10).abs().max() < 1e-5


# ---------------------------------------------------------------- parameters without dimensions

DOUBLE = {"adapt_norm", "cut_spikes", "clip_to_average", "lift_norm", "first_snr"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("name", sorted(DOUBLE))
def test_state_in_double_does_not_promote_a_parameter_without_dimensions(name, engine, dtype):
    """A momentum after it, whose average was float32, met an update in double."""
    chain = [getattr(cb, name), cb.ema, cb.descend]
    for shape in ((), (3,)):
        params = parameters([shape], dtype)
        opt = weft.Optimizer(params, chain, lr=0.1, engine=engine)
        for t in range(3):
            gradients(params, t)
            opt.step()
        assert params[0].dtype is dtype
        assert params[0].isfinite().all()
        assert opt.state[params[0]]["exp_avg"].dtype is dtype


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_an_update_in_double_is_rounded_when_it_is_returned(engine):
    def widen(update):
        return {"update": update.double() + 1e-12}

    def narrow(update):
        return {"update": update - 1.0}

    p = torch.nn.Parameter(torch.zeros(3))
    opt = weft.Optimizer([p], [widen, narrow, cb.descend], lr=1.0, engine=engine)
    p.grad = torch.ones(3)
    opt.step()
    assert (p == 0).all()


# ---------------------------------------------------------------- wrappers

SHARP = ("SAM", "ASAM", "GCSAM", "GSAM", "WSAM", "FriendlySAM", "LookSAM")


def closure_of(opt, params, scale):
    def closure():
        opt.zero_grad()
        if scale is None:
            return torch.zeros(())
        loss = sum((p.float() ** 2).sum() for p in params) * scale / 2
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("name", [*SHARP, "Mechanic", "TRAC"])
def test_a_step_without_any_gradient_is_none(name):
    params = parameters()
    opt = getattr(weft, name)(weft.SGD(params, lr=0.1, momentum=0.9))
    for scale in (None, 1.0, None, 1.0):
        before = [p.detach().clone() for p in params]
        opt.step(closure_of(opt, params, scale))
        if scale is None:
            assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    assert name == "TRAC" or distance(params) > 0  # whose first steps are below float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", SHARP)
def test_sharpness_of_a_flat_loss_moves_nothing(name, dtype):
    params = parameters(dtype=dtype, zero=True)
    opt = getattr(weft, name)(weft.SGD(params, lr=0.1))
    for _ in range(3):
        opt.step(closure_of(opt, params, 1.0))
    assert distance(params, zero=True) == 0


@pytest.mark.parametrize("scale", [1e-3, 1e-30, 1e10])
@pytest.mark.parametrize("name", SHARP)
def test_sharpness_climbs_as_far_whatever_the_gradients_size(name, scale):
    """rho is a distance: the point above does not depend on the loss' scale."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        params = parameters(dtype=dtype)
        opt = getattr(weft, name)(weft.SGD(params, lr=0.1 / scale))
        for _ in range(3):
            opt.zero_grad()

            def closure(opt=opt, params=params):
                opt.zero_grad()
                for p in params:  # as a loss of sum(p^2 + p^4 / 10) would, times scale
                    p.grad = (2 * p.detach() + 0.4 * p.detach() ** 3) * scale
                return torch.zeros(())

            opt.step(closure)
        found[dtype] = params
    for p, q in zip(found[torch.float32], found[torch.float64], strict=True):
        torch.testing.assert_close(p.double(), q, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*create_graph")  # torch says it once a process
def test_hutchinson_waits_for_a_gradient():
    params = parameters()
    opt = weft.Sophia(params)
    opt.step(closure_of(opt, params, None))
    assert distance(params) == 0

    def closure():
        opt.zero_grad()
        loss = sum((p**3).sum() for p in params)
        loss.backward(create_graph=True)
        return loss

    opt.step(closure)
    assert "hessian" in opt.state[params[0]]
    opt.zero_grad()


# ---------------------------------------------------------------- hypers at their ends


@pytest.mark.parametrize("betas", [(0.0, 0.999, 0.9999), (0.9, 0.999, 0.0), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("over", [0, 4])
def test_ademamix_warms_up_from_and_to_zero(betas, over):
    make = lambda ps: weft.AdEMAMix(ps, betas=betas, t_alpha=over, t_beta3=over, engine="eager")
    params, _ = trained(make, [1.0] * 6)
    assert all(p.isfinite().all() for p in params)


def test_ademamix_warms_up_as_the_paper_has_it_in_the_limit():
    gone = []
    for beta1 in (0.0, 1e-300):
        make = lambda ps, b=beta1: weft.AdEMAMix(ps, betas=(b, 0.999, 0.9999), t_beta3=8)
        params, _ = trained(make, [1.0] * 6, torch.float64)
        gone.append(params)
    for p, q in zip(*gone, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-3 * distance(gone[0]))
