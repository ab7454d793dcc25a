"""The original, verbatim: its callbacks, its values, its interface (facts of fastai 2.8.12)."""

import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch

import weft
from contract import param
from weft.callbacks import fastai
from weft.callbacks.fastai import (
    adam_step,
    average_grad,
    average_sqr_grad,
    l2_reg,
    lamb_step,
    larc_layer_lr,
    larc_step,
    momentum_step,
    qhadam_step,
    radam_step,
    rms_prop_step,
    sgd_step,
    step_stat,
    weight_decay,
)

pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.filterwarnings("ignore:This overload of add_:UserWarning"),
]

Optimizer = weft.Optimizer


def sgd_cb(p, lr, **kwargs): p.data.add_(-lr, p.grad.data)  # fmt: skip


opt_func = partial(Optimizer, cbs=[sgd_cb])


def tst_param(value, grad=None):
    """The original's: a parameter whose grad is a tenth of it."""
    p = torch.nn.Parameter(torch.tensor(value, dtype=torch.float32))
    p.grad = p.detach() / 10 if grad is None else torch.tensor(grad, dtype=torch.float32)
    return p


class TestVerbatim:
    def test_a_step(self):
        model = torch.nn.Linear(3, 2)
        theirs = torch.nn.Linear(3, 2)
        theirs.load_state_dict(model.state_dict())
        ours, peer = (
            opt_func(list(model.parameters()), lr=0.1),
            torch.optim.SGD(theirs.parameters(), lr=0.1),
        )
        for _ in range(3):
            for m, opt in ((model, ours), (theirs, peer)):
                m(torch.ones(4, 3)).square().sum().backward()
                opt.step()
                opt.zero_grad()
        for p, q in zip(model.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q)

    def test_as_it_is_driven(self):
        p = tst_param([1.0, 2.0])
        opt = opt_func([p], lr=0.1)
        opt.set_hypers(lr=0.5, mom=0.0)
        opt.step()
        torch.testing.assert_close(p.detach(), torch.tensor([0.95, 1.9]))

    def test_it_pickles_and_is_truthy(self):
        assert pickle.loads(pickle.dumps(opt_func))([tst_param(1.0)], lr=0.1)
        assert opt_func([tst_param(1.0)], lr=0.1)


# ------------------------------------------------------------------ the fourteen callbacks


def one(*cbs, steps=1, p=None, **hypers):
    """A step of the original's kind on x = 1, g = 0.1, with lr 0.1."""
    p = tst_param([1.0]) if p is None else p
    hypers.setdefault("lr", 0.1)
    opt = Optimizer([p], cbs, **hypers)
    for _ in range(steps):
        opt.step()
    return p, opt


class TestGoldens:
    def test_sgd_step(self):
        assert one(sgd_step)[0].item() == pytest.approx(0.99)

    def test_weight_decay(self):
        assert one(weight_decay, sgd_step, wd=0.1)[0].item() == pytest.approx(0.98)

    def test_l2_reg_writes_the_grad_in_place(self):
        p, _ = one(l2_reg, sgd_step, wd=0.1)
        assert p.item() == pytest.approx(0.98)
        assert p.grad.item() == pytest.approx(0.2)

    @pytest.mark.parametrize(
        ("cb", "name", "decay", "g"),
        [(average_grad, "grad_avg", "mom", 0.1), (average_sqr_grad, "sqr_avg", "sqr_mom", 0.01)],
    )
    def test_averages(self, cb, name, decay, g):
        for damping, damp in ((False, 1.0), (True, None)):
            p = tst_param([1.0])
            opt = Optimizer([p], [partial(cb, dampening=damping), sgd_step], lr=0.0)
            for _ in range(3):
                opt.step()
            beta = opt.hypers[0][decay]
            weight = 1 - beta if damp is None else damp
            expected = g * weight * (1 + beta + beta**2)
            assert opt.state[p][name].item() == pytest.approx(expected)

    def test_their_defaults(self):
        p = tst_param([1.0])
        opt = Optimizer([p], [average_grad, average_sqr_grad, sgd_step], lr=0.0)
        opt.step()
        assert (opt.hypers[0]["mom"], opt.hypers[0]["sqr_mom"]) == (0.9, 0.99)
        assert opt.state[p]["grad_avg"].item() == pytest.approx(0.1)
        assert opt.state[p]["sqr_avg"].item() == pytest.approx(0.01 * 0.01)

    def test_step_stat(self):
        p, opt = one(step_stat, sgd_step, steps=3)
        assert opt.state[p]["step"] == 3
        assert type(opt.state[p]["step"]) is int

    def test_radam_takes_five_plain_steps_and_a_rectified_sixth(self):
        p = tst_param([1.0, 2.0, 3.0])
        dampened = partial(average_grad, dampening=True)
        opt = Optimizer([p], [dampened, average_sqr_grad, step_stat, radam_step], lr=0.1)
        grad = p.grad.clone()
        for _ in range(5):
            before = p.detach().clone()
            opt.step()
            torch.testing.assert_close(p.detach(), before - 0.1 * grad)
        before = p.detach().clone()
        opt.step()
        r_inf = 2 / (1 - 0.99) - 1
        r = r_inf - 2 * 6 * 0.99**6 / (1 - 0.99**6)
        assert r > 5
        v = math.sqrt(((r - 4) * (r - 2) * r_inf) / ((r_inf - 4) * (r_inf - 2) * r))
        torch.testing.assert_close(
            p.detach(), before - 0.1 * v * grad / (grad + 1e-5), rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize(("clip", "local"), [(True, [0.02, 0.1]), (False, [0.02, 0.2])])
    def test_larc(self, clip, local):
        params = [tst_param([1.0, 2.0, 3.0]), tst_param([1.0, 2.0, 3.0], [0.01, 0.02, 0.03])]
        opt = Optimizer(params, [partial(larc_layer_lr, clip=clip), larc_step], lr=0.1)
        opt.step()
        rates = [opt.state[p]["local_lr"].item() for p in params]
        assert rates == pytest.approx(local, rel=1e-5)
        x = torch.tensor([1.0, 2.0, 3.0])
        torch.testing.assert_close(params[0].detach(), x - 0.02 * x / 10)
        torch.testing.assert_close(params[1].detach(), x - local[1] * x / 100)

    def test_debias_at_momentum_one_divides_by_nothing(self):
        assert fastai.debias(1.0, 1.0, 4) == 4


GRADS = torch.randn(12, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
START = torch.linspace(-1, 2, 5, dtype=torch.float64)


def follow(update, **state):
    """The formula of one optimizer, in float64, over the same grads with a schedule of lr and mom."""
    x, s = START.clone(), {k: torch.zeros(5, dtype=torch.float64) for k in ("a", "v")} | state
    for t, g in enumerate(GRADS, start=1):
        lr, mom = schedule(t)
        x = update(x, g, s, t, lr, mom)
    return x


def schedule(t):
    return 0.1 / t, 0.95 - 0.02 * t


def ours(*cbs, mom=True, **hypers):
    p = torch.nn.Parameter(START.clone())
    opt = Optimizer([p], cbs, lr=0.1, **hypers)
    for t, g in enumerate(GRADS, start=1):
        p.grad = g.clone()
        opt.set_hypers(**dict(zip(("lr", "mom")[: 1 + mom], schedule(t), strict=False)))
        opt.step()
    return p.detach()


def damped(t, mom):
    return (1 - mom) * (1 - mom**t) / (1 - mom)


dampened = partial(average_grad, dampening=True)


class TestFormulas:
    def test_momentum_with_l2(self):
        def update(x, g, s, t, lr, mom):
            s["a"] = mom * s["a"] + g + 0.1 * x
            return x - lr * s["a"]

        torch.testing.assert_close(
            ours(l2_reg, average_grad, momentum_step, wd=0.1), follow(update)
        )

    @pytest.mark.parametrize("momentum", [False, True])
    def test_rmsprop(self, momentum):
        def update(x, g, s, t, lr, mom):
            x = x * (1 - lr * 0.1)
            s["a"] = mom * s["a"] + g
            s["v"] = 0.99 * s["v"] + 0.01 * g**2
            return x - lr * (s["a"] if momentum else g) / (s["v"].sqrt() + 1e-8)

        cbs = [weight_decay, *([average_grad] if momentum else []), average_sqr_grad, rms_prop_step]
        torch.testing.assert_close(ours(*cbs, wd=0.1), follow(update))

    @staticmethod
    def moments(g, s, mom):
        s["a"] = mom * s["a"] + (1 - mom) * g
        s["v"] = 0.99 * s["v"] + 0.01 * g**2

    def test_adam_corrects_with_the_currently_scheduled_momentum(self):
        def update(x, g, s, t, lr, mom):
            x = x * (1 - lr * 0.01)
            self.moments(g, s, mom)
            d1, d2 = damped(t, mom), damped(t, 0.99)
            return x - lr / d1 * s["a"] / ((s["v"] / d2).sqrt() + 1e-5)

        got = ours(weight_decay, dampened, average_sqr_grad, step_stat, adam_step, wd=0.01)
        torch.testing.assert_close(got, follow(update))

    @pytest.mark.parametrize("beta", [0.0, 5.0])
    def test_radam(self, beta):
        def update(x, g, s, t, lr, mom):
            self.moments(g, s, mom)
            d1, d2, r_inf = damped(t, mom), damped(t, 0.99), 199
            r = r_inf - 2 * t * 0.99**t / (1 - 0.99**t)
            if r <= 5:
                return x - lr / d1 * s["a"]
            v = math.sqrt((r - 4) * (r - 2) * r_inf / ((r_inf - 4) * (r_inf - 2) * r))
            below = (s["v"] / d2).sqrt() + 1e-5
            if beta:
                below = torch.log1p(torch.exp(beta * below)) / beta
            return x - lr * v / d1 * s["a"] / below

        got = ours(dampened, average_sqr_grad, step_stat, radam_step, beta=beta)
        torch.testing.assert_close(got, follow(update))

    def test_qhadam(self):
        def update(x, g, s, t, lr, mom):
            self.moments(g, s, mom)
            d1, d2 = damped(t, mom), damped(t, 0.99)
            above = 0.3 * g + 0.7 * s["a"] / d1
            return x - lr * above / ((0.2 * g**2 + 0.8 * s["v"] / d2).sqrt() + 1e-8)

        got = ours(dampened, average_sqr_grad, step_stat, qhadam_step, nu_1=0.7, nu_2=0.8)
        torch.testing.assert_close(got, follow(update))

    def test_larc(self):
        def update(x, g, s, t, lr, mom):
            s["a"] = mom * s["a"] + g
            local = lr * 0.02 * x.norm() / (g.norm() + 0.1 * x.norm() + 1e-8)
            return x - min(local, lr) * s["a"]

        torch.testing.assert_close(
            ours(average_grad, larc_layer_lr, larc_step, wd=0.1), follow(update)
        )

    @pytest.mark.parametrize("scale", [1.0, 1e-3, 0.0])
    def test_lamb_with_its_cap_and_its_zeros(self, scale):
        def update(x, g, s, t, lr, mom):
            self.moments(g, s, mom)
            step = s["a"] / damped(t, mom) / ((s["v"] / damped(t, 0.99)).sqrt() + 1e-5)
            r1, r2 = x.square().mean().sqrt(), step.square().mean().sqrt()
            return x - lr * (1.0 if r1 == 0 or r2 == 0 else min((r1 / r2).item(), 10.0)) * step

        global START
        start, START = START, START * scale
        try:
            got = ours(dampened, average_sqr_grad, step_stat, lamb_step)
            torch.testing.assert_close(got, follow(update))
        finally:
            START = start

    def test_lamb_caps_at_ten(self):
        p = tst_param([1e4, 1e4], [1.0, 1.0])
        Optimizer([p], [dampened, average_sqr_grad, step_stat, lamb_step], lr=0.1).step()
        assert p.tolist() == pytest.approx([1e4 - 1, 1e4 - 1], abs=1e-2)

    def test_adam_is_torchs_adamw(self):
        p = torch.nn.Parameter(START.clone())
        peer = torch.optim.AdamW([p], lr=0.1, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.01)
        q = torch.nn.Parameter(START.clone())
        opt = Optimizer(
            [q], [weight_decay, dampened, average_sqr_grad, step_stat, adam_step], lr=0.1, wd=0.01
        )
        for g in GRADS:
            p.grad, q.grad = g.clone(), g.clone()
            peer.step()
            opt.step()
        torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ the interface


def groups(n=3, cbs=(sgd_cb,), **hypers):
    hypers.setdefault("lr", 0.1)
    lists = [[param(1.0), param(2.0)] for _ in range(n)]
    return lists, Optimizer(lists, cbs, **hypers)


class TestParameters:
    def test_a_list_of_lists_is_groups_and_a_flat_one_is_one(self):
        lists, opt = groups()
        assert [len(g["params"]) for g in opt.param_groups] == [2, 2, 2]
        assert len(Optimizer(lists[0], [sgd_cb], lr=0.1).param_groups) == 1

    def test_all_params(self):
        lists, opt = groups()
        lists[1][0].grad = None
        opt.state[lists[0][0]]["mine"] = 1
        rows = list(opt.all_params())
        assert [r[0] for r in rows] == [p for ps in lists for p in ps]
        p, pg, state, hyper = rows[0]
        assert any(q is p for q in pg)
        assert state is opt.state[p]
        assert hyper["lr"] == 0.1
        assert [r[0] for r in opt.all_params(with_grad=True)] == [
            r[0] for i, r in enumerate(rows) if i != 2
        ]
        assert [r[0] for r in opt.all_params(slice(1, None))] == [r[0] for r in rows[2:]]
        assert [r[0] for r in opt.all_params(-1)] == lists[-1]

    def test_zero_grad(self):
        lists, opt = groups()
        p = lists[0][0]
        mine = p.grad
        opt.zero_grad(set_to_none=False)
        assert p.grad is mine
        assert mine.item() == 0
        opt.zero_grad()
        assert p.grad is None

    def test_state_makes_a_dict_for_any_parameter_also_after_loading(self):
        _, opt = groups()
        for _ in range(2):
            stranger = param(1.0)
            opt.state[stranger]["do_wd"] = False
            assert opt.state[stranger] == {"do_wd": False}
            del opt.state[stranger]
            opt.load_state_dict(opt.state_dict())


class TestHypers:
    def test_are_live(self):
        lists, opt = groups()
        opt.hypers[-1]["lr"] = 1.0
        opt.step()
        assert lists[-1][0].item() == 0
        assert lists[0][0].item() == pytest.approx(0.9)
        assert opt.hypers[-1]["lr"] == opt.param_groups[-1]["lr"] == 1.0

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (0.5, [0.5] * 3),
            ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
            ((0.1, 0.2, 0.3), [0.1, 0.2, 0.3]),
            (np.array([0.1, 0.2, 0.3]), [0.1, 0.2, 0.3]),
            (np.float64(0.5), [0.5] * 3),
            (torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), [0.1, 0.2, 0.3]),
            (slice(0.01, 1.0), [0.01, 0.1, 1.0]),
            (slice(1.0), [0.1, 0.1, 1.0]),
        ],
        ids=str,
    )
    def test_set_hyper_spreads(self, value, expected):
        _, opt = groups()
        opt.set_hyper("lr", value)
        assert [h["lr"] for h in opt.hypers] == pytest.approx(expected)
        if not isinstance(value, torch.Tensor):
            assert {type(h["lr"]) for h in opt.hypers} == {float}

    def test_a_tuple_is_one_value_where_the_hyper_is_one(self):
        def cb(p, betas=(0.9, 0.99)):
            p.data.mul_(betas[0])

        _, opt = groups(cbs=[cb])
        opt.set_hyper("betas", (0.5, 0.6))
        assert [h["betas"] for h in opt.hypers] == [(0.5, 0.6)] * 3
        opt.set_hyper("betas", [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6)])
        assert [h["betas"][0] for h in opt.hypers] == [0.1, 0.3, 0.5]

    def test_set_hypers_sets_several_or_none(self):
        _, opt = groups()
        opt.set_hypers(lr=0.5, wd=slice(0.1, 0.4))
        assert [h["wd"] for h in opt.hypers] == pytest.approx([0.1, 0.2, 0.4])
        with pytest.raises(ValueError, match="got 2 values for 3"):
            opt.set_hypers(lr=0.9, wd=[1, 2])
        assert opt.hypers[0]["lr"] == 0.5

    @pytest.mark.parametrize("name", ["lr", "wd", "mom"])
    def test_the_originals_names_are_always_taken(self, name):
        def bare(p):
            p.data.sub_(1)

        p = param(1.0)
        opt = Optimizer([p], [bare], **{name: 0.5})
        opt.set_hyper(name, 0.25)
        assert opt.hypers[0][name] == 0.25


class TestAliases:
    def test_of_betas_and_weight_decay(self):
        opt = weft.AdamW([param(1.0)], lr=0.1)
        opt.set_hypers(mom=0.5, sqr_mom=0.75, wd=0.125)
        group = opt.param_groups[0]
        assert (group["betas"], group["weight_decay"]) == ((0.5, 0.75), 0.125)
        assert (opt.hypers[0]["mom"], opt.hypers[0]["sqr_mom"]) == (0.5, 0.75)
        assert not {"mom", "sqr_mom", "wd"} & set(group)

    def test_of_momentum_given_or_defaulted(self):
        def required(p, momentum):
            p.data.mul_(momentum)

        for opt in (
            weft.SGD([param(1.0)], lr=0.1, momentum=0.9),
            Optimizer([param(1.0)], [required], momentum=0.9),
        ):
            opt.set_hyper("mom", 0.5)
            assert opt.param_groups[0]["momentum"] == 0.5
            assert opt.hypers[0]["mom"] == 0.5

    def test_a_plain_sgd_stays_plain(self):
        opt = weft.SGD([param(1.0)], lr=0.1)
        opt.set_hyper("mom", 0.5)
        assert opt.param_groups[0]["momentum"] == 0.0

    def test_the_originals_own_win(self):
        def both(p, mom=0.1, momentum=0.2):
            p.data.mul_(mom * momentum)

        opt = Optimizer([param(1.0)], [both])
        opt.set_hyper("mom", 0.5)
        assert (opt.hypers[0]["mom"], opt.hypers[0]["momentum"]) == (0.5, 0.2)


class TestFreezing:
    def test_freeze_to_freeze_and_unfreeze(self):
        lists, opt = groups()
        grads = lambda: [ps[0].requires_grad for ps in lists]
        assert opt.frozen_idx == 0
        opt.freeze_to(1)
        assert (opt.frozen_idx, grads()) == (1, [False, True, True])
        opt.freeze()
        assert (opt.frozen_idx, grads()) == (2, [False, False, True])
        opt.freeze_to(-2)
        assert (opt.frozen_idx, grads()) == (1, [False, True, True])
        opt.unfreeze()
        assert (opt.frozen_idx, grads()) == (0, [True, True, True])

    def test_force_train_stays_awake(self):
        lists, opt = groups()
        opt.state[lists[0][1]]["force_train"] = True
        opt.freeze()
        assert [p.requires_grad for p in lists[0]] == [False, True]

    def test_what_cannot_be_frozen_leaves_everything_as_it_was(self):
        lists, opt = groups(1)
        with pytest.raises(ValueError, match="more than one parameter group"):
            opt.freeze()
        with pytest.raises(ValueError, match=r"freeze_to\(5\)"):
            opt.freeze_to(5)
        assert (opt.frozen_idx, lists[0][0].requires_grad) == (0, True)

    def test_clear_state_keeps_force_train_and_do_wd(self):
        lists, opt = groups(cbs=[average_grad, momentum_step])
        p = lists[0][0]
        opt.state[p].update(force_train=True, do_wd=False)
        opt.step()
        assert "grad_avg" in opt.state[p]
        opt.clear_state()
        assert opt.state[p] == {"force_train": True, "do_wd": False}
        assert all(opt.state[q] == {} for ps in lists for q in ps if q is not p)
        opt.step()
        assert opt.state[p]["grad_avg"].item() == 1

    def test_frozen_idx_survives_a_pickle(self):
        _, opt = groups()
        opt.freeze_to(1)
        assert pickle.loads(pickle.dumps(opt)).frozen_idx == 1


@pytest.mark.parametrize("decay", [weight_decay, l2_reg])
def test_do_wd_false_spares_a_parameter(decay):
    lists, opt = groups(1, cbs=[decay, sgd_step], wd=1.0, lr=0.1)
    a, b = lists[0]
    opt.state[a]["do_wd"] = False
    opt.step()
    assert (a.item(), b.item()) == pytest.approx((0.9, 2 - 0.1 - 0.2))


def test_a_step_with_a_closure():
    p = param(1.0)
    opt = opt_func([p], lr=0.1)
    assert opt.step(lambda: 3.0) == 3.0
    assert p.item() == pytest.approx(0.9)


def test_traps_that_are_not_repeated():
    p = tst_param([1.0])
    opt = Optimizer(
        [p], [partial(dampened, mom=0.5), average_sqr_grad, step_stat, adam_step], lr=0.1
    )
    assert opt.hypers[0]["mom"] == 0.5
    opt.set_hyper("mom", 1.0)
    opt.step()
    assert math.isfinite(p.item())
