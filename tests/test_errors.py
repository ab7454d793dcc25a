"""Bad input gets an error that names the culprit, and nothing is lost or half-written."""

import copy

import numpy as np
import pytest
import torch

import weft
from contract import descend, param, stepped

pytestmark = pytest.mark.usefixtures("engine")


def ema(grad, exp_avg=weft.zeros):
    return {"exp_avg": exp_avg + grad}


def use(exp_avg):
    return {"update": exp_avg}


class TestParameters:
    @pytest.mark.parametrize(
        "params",
        [[], iter(()), [[]], [{"params": []}]],
        ids=["list", "iterator", "list of a list", "group"],
    )
    def test_none(self, params):
        if isinstance(params, list) and params:
            weft.Optimizer(params, [descend], lr=1.0)  # an empty group is no mistake, as in torch
            return
        with pytest.raises(ValueError, match="empty parameter list"):
            weft.Optimizer(params, [descend], lr=1.0)

    def test_the_same_one_twice_in_a_group_is_named(self):
        p, q = param(1.0), param(2.0)
        with pytest.raises(ValueError, match="duplicate parameters: parameters 0 and 2 of group 0"):
            weft.Optimizer([p, q, p], [descend], lr=1.0)
        with pytest.raises(ValueError, match="parameters 'b' and 'a' of group 0"):
            weft.Optimizer([("a", p), ("b", p)], [descend], lr=1.0)

    def test_the_same_one_in_two_groups_is_named(self):
        p, q = param(1.0), param(2.0)
        with pytest.raises(
            ValueError, match=r"more than one .*group: parameter 1 of group 1 \(1,\)"
        ):
            weft.Optimizer([[p], [q, p]], [descend], lr=1.0)
        opt = weft.Optimizer([("p", p)], [descend], lr=1.0)
        with pytest.raises(ValueError, match=r"more than one .*group: parameter 'again' \(1,\)"):
            opt.add_param_group({"params": [("again", p)]})
        assert len(opt.param_groups) == 1
        opt.step()
        assert p.item() == 0

    def test_what_is_no_parameter(self):
        with pytest.raises(TypeError):
            weft.Optimizer([3], [descend], lr=1.0)
        with pytest.raises(TypeError):
            weft.Optimizer(param(1.0), [descend], lr=1.0)

    def test_groups_appended_behind_its_back(self):
        opt = weft.Optimizer([param(1.0)], [descend], lr=1.0)
        opt.param_groups.append({"params": [param(1.0)], "lr": 1.0})
        with pytest.raises(weft.StepError, match="add_param_group"):
            opt.step()


class TestHypers:
    @pytest.mark.parametrize(
        ("make", "name", "meant"),
        [
            (lambda p, **h: weft.Optimizer([p], [descend, weft.callbacks.weight_decay], **h),
             "weight_decoy", "weight_decay"),
            (lambda p, **h: weft.chain(ema, use, descend)([p], **h), "lrr", "lr"),
        ],
    )  # fmt: skip
    def test_an_unknown_one_in_the_constructor(self, make, name, meant):
        with pytest.raises(
            weft.ChainError, match=rf"unknown hyper '{name}'.*did you mean '{meant}'"
        ):
            make(param(1.0), lr=1.0, **{name: 0.5})

    def test_an_unknown_one_set_later(self):
        opt = stepped(param(1.0), weft.callbacks.weight_decay, descend)
        with pytest.raises(ValueError, match=r"unknown hyper 'weight_decai' \(did you mean"):
            opt.set_hyper("weight_decai", 0.5)
        assert "weight_decai" not in opt.param_groups[0]

    def test_one_that_only_kwargs_name_is_known(self):
        def cb(p, **kwargs):
            p.data.sub_(kwargs["mu"])

        p = param(1.0)
        stepped(p, cb, mu=0.5)
        assert p.item() == 0.5

    @pytest.mark.parametrize("value", [[1.0], [1.0, 2.0, 3.0], np.ones(3)], ids=str)
    def test_a_list_of_the_wrong_length(self, value):
        opt = weft.Optimizer([[param(1.0)], [param(1.0)]], [descend], lr=0.5)
        with pytest.raises(
            ValueError, match=rf"'lr' got {len(value)} values for 2 parameter groups"
        ):
            opt.set_hyper("lr", value)
        assert [g["lr"] for g in opt.param_groups] == [0.5, 0.5]

    @pytest.mark.parametrize(
        ("hypers", "words"),
        [({"lr": -1.0}, "Invalid learning rate: -1.0"), ({"lr": float("nan")}, "learning rate")],
    )
    def test_values_that_no_optimizer_can_use(self, hypers, words):
        for make in (
            lambda: weft.Optimizer([param(1.0)], [descend], **hypers),
            lambda: weft.chain(descend, **hypers)([param(1.0)]),
            lambda: weft.Optimizer([{"params": [param(1.0)], **hypers}], [descend], lr=1.0),
        ):
            with pytest.raises(ValueError, match=words):
                make()

    def test_an_unknown_engine(self, monkeypatch):
        monkeypatch.delenv("WEFT_ENGINE")
        with pytest.raises(ValueError, match=r"engine must be one of .*not 'fast'"):
            weft.Optimizer([param(1.0)], [descend], lr=1.0, engine="fast")


class TestStateDicts:
    def test_of_another_chain_says_what_is_missing_and_unexpected(self):
        def other(grad, exp_avg_sq=weft.zeros):
            return {"exp_avg_sq": exp_avg_sq + grad * grad}

        saved = stepped(param(1.0), other, descend).state_dict()
        p = param(1.0)
        opt = stepped(p, ema, use, descend)
        before = copy.deepcopy(opt.state_dict())
        with pytest.raises(
            weft.StateError,
            match=r"missing \['exp_avg'\], unexpected \['exp_avg_sq'\].*\(ema, use, descend\)",
        ):
            opt.load_state_dict(saved)
        assert opt.state_dict() == before
        opt.step()
        assert opt.state[p]["exp_avg"].item() == 2

    def test_not_strict_takes_what_fits(self):
        def both(grad, exp_avg=weft.zeros, more=weft.zeros):
            return {"exp_avg": exp_avg + grad, "more": more + grad}

        saved = stepped(param(1.0), both, descend).state_dict()
        p = param(1.0)
        opt = weft.Optimizer([p], [ema, use, descend], lr=1.0)
        opt.load_state_dict(saved, strict=False)
        assert set(opt.state[p]) == {"exp_avg"}
        opt.step()
        assert opt.state[p]["exp_avg"].item() == 2

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda d: d.pop("state"), "no 'state'"),
            (
                lambda d: d["param_groups"].append(d["param_groups"][0]),
                "number of parameter groups",
            ),
            (lambda d: d["param_groups"][0]["params"].append(7), "match the size"),
            (lambda d: d["state"][0].update(exp_avg=torch.zeros(3)), r"'exp_avg'.*\(3,\)"),
            (lambda d: d["state"][0].update(exp_avg="x"), "'exp_avg'.*'x'"),
            (lambda d: d["state"].update({9: {}}), "9"),
            (lambda d: d["param_groups"][0].update(lr="fast"), "lr"),
        ],
    )
    def test_damaged_ones_are_refused_whole(self, damage, words):
        p, q = param(1.0), param(1.0)
        saved = copy.deepcopy(stepped(q, ema, use, descend).state_dict())
        damage(saved)
        opt = stepped(p, ema, use, descend, lr=0.5)
        before = copy.deepcopy(opt.state_dict())
        with pytest.raises(weft.StateError, match=words):
            opt.load_state_dict(saved)
        assert opt.state_dict() == before


def test_sparse_grads_are_refused_before_anything_is_written():
    a, b = param(1.0), torch.nn.Parameter(torch.ones(3, 2))
    b.grad = torch.ones(3, 2).to_sparse()
    opt = weft.Optimizer([("a", a), ("embedding", b)], [descend], lr=1.0)
    with pytest.raises(weft.StepError, match=r"'embedding' \(3, 2\) has a sparse grad.*SparseAdam"):
        opt.step()
    assert a.item() == 1


def test_state_on_another_device_is_refused_before_anything_is_written():
    a, b = param(1.0), param(1.0)
    opt = weft.Optimizer([("a", a), ("b", b)], [ema, use, descend], lr=1.0)
    opt.step()
    opt.state[b]["exp_avg"] = opt.state[b]["exp_avg"].to("meta")
    with pytest.raises(
        weft.StepError, match=r"state 'exp_avg' of parameter 'b' \(1,\) is on meta .* on cpu"
    ):
        opt.step()
    assert a.item() == 0
    assert opt.state[a]["exp_avg"].item() == 1


class TestACallbackThatRaises:
    @staticmethod
    def fail(p, update, step, bad=7.0):
        if p.shape[0] == 2:
            raise RuntimeError("no such luck")

    @staticmethod
    def double(grad):
        return {"grad": 2 * grad}

    def make(self, named):
        params = [param(1.0), param(1.0, 2.0), param(1.0, 2.0, 3.0)]
        given = list(zip("abc", params, strict=True)) if named else params
        return params, weft.Optimizer(given, [self.double, self.fail, descend], lr=1.0)

    @pytest.mark.parametrize("named", [True, False])
    def test_is_named_with_its_parameter_and_how_many_had_stepped(self, named):
        params, opt = self.make(named)
        what = r"'b' \(2,\)" if named else r"1 of group 0 \(2,\)"
        line = self.fail.__code__.co_firstlineno
        with pytest.raises(
            weft.StepError,
            match=rf"callback fail \(.*test_errors.py:{line}\) raised RuntimeError for parameter "
            rf"{what}: no such luck\. 1 of 3 parameters had already stepped",
        ) as e:
            opt.step()
        assert isinstance(e.value.__cause__, RuntimeError)
        assert [p.tolist() for p in params] == [[-1], [1, 2], [1, 2, 3]]
        assert [opt.state[p]["step"].item() for p in params] == [1, 0, 0]

    def test_the_users_grads_are_as_before(self):
        params, opt = self.make(False)
        grads = [p.grad for p in params]
        with pytest.raises(weft.StepError):
            opt.step()
        assert all(p.grad is g for p, g in zip(params, grads, strict=True))
        assert all((g == 1).all() for g in grads)

    def test_interrupting_puts_the_grad_back_and_is_not_renamed(self):
        def interrupt(p):
            raise KeyboardInterrupt

        p = param(1.0)
        mine = p.grad
        with pytest.raises(KeyboardInterrupt):
            stepped(p, self.double, interrupt, descend)
        assert p.grad is mine

    def test_sixteen_bit_parameters_are_not_half_written(self):
        def halve(p, exp_avg=weft.zeros):
            p.data.mul_(0.5)
            exp_avg.add_(1)

        p = param(1.0, 2.0, dtype=torch.bfloat16)
        opt = weft.Optimizer([p], [halve, self.fail, descend], lr=1.0)
        with pytest.raises(weft.StepError):
            opt.step()
        assert p.tolist() == [1, 2]
        assert opt.state[p]["exp_avg"].tolist() == [0, 0]

    def test_a_shared_value_is_not_updated(self):
        def tally(n=weft.shared(0.0)):
            return {"n": n + 1}

        params, _ = self.make(False)
        opt = weft.Optimizer(params, [tally, self.fail, descend], lr=1.0)
        with pytest.raises(weft.StepError):
            opt.step()
        assert opt.param_groups[0]["n"] == 0

    def test_it_goes_on_once_it_is_mended(self):
        params, opt = self.make(False)
        with pytest.raises(weft.StepError):
            opt.step()
        params[1].grad = None
        opt.step()
        assert params[2].tolist() == [-1, 0, 1]


def test_errors_are_of_their_kinds():
    assert issubclass(weft.ChainError, ValueError)
    assert issubclass(weft.StateError, ValueError)
    assert issubclass(weft.StepError, RuntimeError)
    assert issubclass(weft.WeftWarning, UserWarning)
