"""DESIGN 1.1, defaults: what an argument's default declares."""

import copy
import functools

import numpy as np
import pytest
import torch

import weft
from contract import Probe, descend, param, stepped

pytestmark = pytest.mark.usefixtures("engine")


class TestStateDefaults:
    def test_zeros_ones_and_copy_of_param(self):
        def cb(grad, a=weft.zeros, b=weft.ones, c=weft.copy_of_param):
            return {"a": a + grad, "b": b + grad, "c": c + grad}

        p = param(5.0, 7.0, dtype=torch.float64)
        opt = stepped(p, cb, descend)
        got = {k: v.tolist() for k, v in opt.state[p].items()}
        assert got == {"a": [1, 1], "b": [2, 2], "c": [6, 8]}
        assert {v.dtype for v in opt.state[p].values()} == {torch.float64}

    def test_state_of_a_value_a_function_and_a_dtype(self):
        def cb(
            grad,
            number=weft.state(0.5),
            rows=weft.state(lambda p: p.new_zeros(p.shape[:1])),
            wide=weft.state(torch.zeros_like, dtype=torch.float64),
            scalar=weft.state(2.0, dtype=torch.float64),
        ):
            return {"number": number + 1, "rows": rows + grad.sum(1), "wide": wide + grad}

        p = torch.nn.Parameter(torch.ones(2, 3))
        p.grad = torch.ones(2, 3)
        opt = stepped(p, cb, descend, steps=2)
        state = opt.state[p]
        assert state["number"] == 2.5
        assert isinstance(state["number"], float)
        assert state["rows"].tolist() == [6, 6]
        assert (state["wide"].dtype, state["wide"].sum().item()) == (torch.float64, 12)
        assert (state["scalar"].dtype, state["scalar"].shape) == (torch.float64, ())

    def test_a_function_of_the_parameter_gives_the_parameters_dtype(self):
        def cb(x=weft.state(lambda p: torch.zeros(2, dtype=torch.float64))):
            return None

        p = param(1.0, 2.0)
        assert stepped(p, cb, descend).state[p]["x"].dtype == torch.float32

    def test_it_is_made_before_the_first_step_and_not_in_the_constructor(self):
        def cb(grad, exp_avg=weft.ones):
            return {"update": exp_avg, "exp_avg": exp_avg + grad}

        p, idle = param(0.0), param(0.0)
        idle.grad = None
        opt = weft.Optimizer([p, idle], [cb, descend], lr=1.0)
        assert not opt.state
        opt.step()
        assert p.item() == -1
        assert opt.state[idle]["exp_avg"].item() == 1

    def test_it_is_made_whatever_else_the_state_holds(self):
        def cb(p, exp_avg=weft.zeros, do_wd=True):
            return {"exp_avg": exp_avg + 1}

        p = param(0.0)
        opt = weft.Optimizer([p], [cb, descend], lr=1.0)
        opt.state[p]["do_wd"] = False
        opt.step()
        assert opt.state[p]["exp_avg"].item() == 1

    def test_a_callback_that_requires_it_shares_it(self):
        def reads_before(exp_avg, update):
            return {"update": update + exp_avg}

        def keeps(grad, exp_avg=weft.ones):
            return {"exp_avg": exp_avg + grad}

        p = param(0.0)
        stepped(p, reads_before, keeps, descend)
        assert p.item() == -2


class TestShared:
    def test_is_one_value_for_the_group_updated_once_a_step(self):
        def tally(n=weft.shared(1e-6)):
            return {"n": n + 1}

        def use(p, n):
            return {"p": p + n}

        a, b = param(0.0), param(0.0)
        opt = weft.Optimizer([a, b], [tally, use])
        assert opt.param_groups[0]["n"] == 1e-6
        opt.step()
        opt.step()
        assert opt.param_groups[0]["n"] == pytest.approx(2, abs=1e-5)
        assert a.item() == b.item() == pytest.approx(3, abs=1e-5)

    def test_each_group_has_its_own(self):
        def total(grad, n=weft.shared(0.0)):
            return {"n": n + grad.sum()}

        a, b = param(0.0, grad=[2.0]), param(0.0, grad=[3.0])
        opt = weft.Optimizer([{"params": [a]}, {"params": [b]}], [total, descend], lr=1.0)
        opt.step()
        opt.step()
        assert [g["n"] for g in opt.param_groups] == [4, 6]

    def test_survives_save_and_load_and_clear_state_starts_anew(self):
        def tally(n=weft.shared(3.0)):
            return {"n": n + 1}

        p = param(0.0)
        opt = stepped(p, tally, descend, steps=2)
        saved = copy.deepcopy(opt.state_dict())
        opt.step()
        opt.load_state_dict(saved)
        assert opt.param_groups[0]["n"] == 5
        opt.clear_state()
        assert opt.param_groups[0]["n"] == 3


class TestHyperDefaults:
    @pytest.mark.parametrize("default", [0.5, 3, True, "word", (0.9, 0.99)], ids=repr)
    def test_a_number_bool_str_or_tuple_is_a_hyper_in_the_groups(self, default):
        scope = {"default": default}
        exec("def cb(p, x=default): pass", scope)
        opt = weft.Optimizer([param(1.0)], [scope["cb"], descend], lr=1.0)
        assert opt.param_groups[0]["x"] == default
        assert opt.defaults["x"] == default

    def test_schedulers_reach_it(self):
        def cb(p, update, speed=1.0):
            return {"p": p - speed * update}

        p = param(0.0)
        opt = stepped(p, cb)
        opt.param_groups[0]["speed"] = 10.0
        opt.step()
        assert p.item() == -11

    def test_numpy_scalars_become_numbers(self):
        def cb(p, x=np.float64(0.5), xs=(np.float32(0.5), 1)):
            pass

        opt = weft.Optimizer([param(1.0)], [cb, descend], lr=np.float32(0.5))
        opt.set_hyper("x", np.float64(0.25))
        group = opt.param_groups[0]
        assert [type(group[k]) for k in ("lr", "x")] == [float, float]
        assert type(group["xs"][0]) is float

    def test_cb_defaults_give_hypers_and_beat_the_signature(self):
        def cb(p, update, wd, scale=1.0):
            return {"p": p - wd * scale * update}

        cb.defaults = {"wd": 0.5, "scale": 4.0}
        p = param(0.0)
        opt = weft.Optimizer([p], [cb])
        assert {k: opt.param_groups[0][k] for k in cb.defaults} == cb.defaults
        opt.step()
        assert p.item() == -2

    def test_any_other_object_stays_the_callbacks_own(self):
        factor = torch.tensor(3.0)

        def cb(update, by=factor, how=torch.mul):
            return {"update": how(update, by)}

        p = param(0.0)
        opt = stepped(p, cb, descend)
        assert p.item() == -3
        assert set(opt.param_groups[0]) == {"params", "lr"}

    def test_groups_resolve_their_own_chains_defaults(self):
        def one(p, eps=1.0):
            return {"p": p - eps}

        def other(p, eps=2.0):
            return {"p": p - eps}

        a, b, c = param(0.0), param(0.0), param(0.0)
        groups = [{"params": [a], "cbs": [one]}, {"params": [b]}, {"params": [c], "eps": 5.0}]
        opt = weft.Optimizer(groups, [other])
        opt.step()
        assert (a.item(), b.item(), c.item()) == (-1, -2, -5)


class TestHyperOrState:
    def test_a_returned_number_is_state_with_that_initial_value(self):
        def count(p, total=10.0, kind="x", flag=False):
            return {"total": total + 1, "kind": kind + "y", "flag": not flag}

        p = param(0.0)
        opt = stepped(p, count, descend, steps=2)
        assert opt.state[p] == {"total": 12.0, "kind": "xyy", "flag": False}
        assert set(opt.param_groups[0]) == {"params", "lr"}

    def test_dict_calls_and_branches_say_it_too(self):
        def count(p, a=0, b=0, c=0):
            if a % 2:
                return dict(a=a + 1, b=b + 1)  # noqa: C408
            return {"a": a + 1} if c else {"a": a + 1, "c": c}

        p = param(0.0)
        opt = stepped(p, count, descend, steps=2)
        assert opt.state[p] == {"a": 2, "b": 1, "c": 0}

    def test_however_it_is_built(self):
        def count(p, total=10.0, by=1.0):
            out = {}
            out["total"] = total + by
            return out

        p = param(0.0)
        opt = stepped(p, count, descend, steps=2)
        assert (opt.state[p], opt.param_groups[0]["by"]) == ({"total": 12.0}, 1.0)

    @pytest.mark.falls_back("it changes calls")
    def test_where_it_cannot_be_seen_it_is_an_error_that_says_how(self):
        calls = []

        def hidden(grad, total=0.0):
            calls.append(1)  # so it is not called on trial
            return dict(zip(("total",), (total + 1,), strict=True))

        with pytest.raises(
            weft.ChainError, match=r"hidden .*total=0.0 .*total=weft.state\(0.0\)"
        ) as e:
            weft.Optimizer([param(1.0)], [hidden, descend], lr=1.0)
        assert "hidden.defaults = dict(total=0.0)" in str(e.value)
        assert "weft.mark(returns=" in str(e.value)
        assert not calls
        p = param(0.0)
        opt = stepped(p, weft.mark(returns=("total",))(hidden), descend)
        assert opt.state[p] == {"total": 1.0}

    def test_both_ways_to_say_it(self):
        def counts(total=weft.state(0.0)):
            out = {"total": total + 1}
            return out  # noqa: RET504

        def scales(update, by=3.0):
            out = {"update": update * by}
            return out  # noqa: RET504

        scales.defaults = {"by": 3.0}
        p = param(0.0)
        opt = stepped(p, counts, scales, descend)
        assert (opt.state[p], p.item(), opt.param_groups[0]["by"]) == ({"total": 1.0}, -3, 3.0)

    def test_where_there_is_no_source_but_it_can_be_proven(self):
        scope = {}
        exec("def cb(update, by=3.0): return {'update': update * by}", scope)
        p = param(0.0)
        opt = stepped(p, scope["cb"], descend)
        assert (p.item(), opt.param_groups[0]["by"]) == (-3, 3.0)

    @pytest.mark.parametrize("body", ["{'total': total + 1}", "dict(total=total)", "locals()"])
    def test_where_there_is_no_source(self, body):
        scope = {}
        exec(f"def cb(p, total=0.0): return {body}", scope)
        assert weft.callback.read(scope["cb"]).states["total"].init == 0.0

    def test_where_a_call_on_trial_raises(self):
        scope = {}
        exec("def cb(p, total=0.0): return helper(total)", scope)
        with pytest.raises(weft.ChainError, match=r"weft.state\(0.0\)"):
            weft.Optimizer([param(1.0)], [scope["cb"], descend], lr=1.0)

    def test_nothing_is_called_to_find_out(self):
        def bomb(p, total=0.0):
            raise AssertionError("called")
            return {"total": total}

        opt = weft.Optimizer([param(1.0)], [bomb, descend], lr=1.0)
        opt.state_dict()
        weft.chain(bomb, descend, lr=1.0).explain()


class TestDisagreement:
    @staticmethod
    def chain():
        def first(p, damp=1.0):
            return {"p": p - damp}

        def second(p, damp=10.0):
            return {"p": p - damp}

        return first, second

    def test_stays_local_to_each_callback(self):
        p = param(0.0)
        opt = stepped(p, *self.chain())
        assert p.item() == -11
        assert "damp" not in opt.param_groups[0]

    def test_ends_where_the_hyper_is_set(self):
        p = param(0.0)
        opt = stepped(p, *self.chain(), damp=3.0)
        assert p.item() == -6
        q = param(0.0)
        opt = weft.Optimizer([q], self.chain())
        opt.set_hyper("damp", 4.0)
        opt.step()
        assert q.item() == -8

    def test_an_int_and_an_equal_float_agree_and_a_bool_does_not(self):
        def a(p, x=0, y=1):
            pass

        def b(p, x=0.0, y=True):
            pass

        opt = weft.Optimizer([param(1.0)], [a, b, descend], lr=1.0)
        assert "x" in opt.param_groups[0]
        assert "y" not in opt.param_groups[0]


class TestStateKeyAgainstHyper:
    @staticmethod
    def decay(p, wd=1.0, do_wd=True):
        if do_wd:
            p.data.sub_(wd)

    def test_a_state_key_beats_a_defaulted_hyper(self):
        a, b = param(0.0), param(0.0)
        opt = weft.Optimizer([a, b], [self.decay])
        opt.state[a]["do_wd"] = False
        opt.step()
        assert (a.item(), b.item()) == (0, -1)

    @pytest.mark.falls_back("changes an attribute of Probe")
    def test_also_in_kwargs(self):
        def cb(p, do_wd=True):
            pass

        probe, p = Probe(), param(0.0)
        opt = weft.Optimizer([p], [cb, probe, descend], lr=0.0)
        opt.state[p]["do_wd"] = False
        opt.step()
        assert probe.seen["do_wd"] is False

    @pytest.mark.parametrize("how", ["constructor", "set_hyper", "group", "hypers", "written"])
    def test_a_hyper_that_was_set_beats_state(self, how):
        p = param(0.0)
        if how == "constructor":
            opt = weft.Optimizer([p], [self.decay], do_wd=True, wd=2.0)
        elif how == "group":
            opt = weft.Optimizer([{"params": [p], "do_wd": True, "wd": 2.0}], [self.decay])
        else:
            opt = weft.Optimizer([p], [self.decay])
            opt.set_hyper("do_wd", True) if how == "set_hyper" else None
            if how == "hypers":
                opt.hypers[0]["do_wd"] = True
            opt.param_groups[0]["wd"] = 2.0
        opt.state[p].update(wd=100.0, do_wd=how == "written")
        opt.step()
        assert p.item() == -2


class TestNone:
    def test_is_an_optional_read_of_a_hyper_or_a_state(self):
        def cb(p, update, boost=None, exp_avg=None):
            by = 1.0 if boost is None else boost
            return {"p": p - by * (update if exp_avg is None else exp_avg)}

        def average(exp_avg=weft.ones):
            return {"exp_avg": exp_avg + 1}

        for cbs, hypers, expected in (
            ([cb], {}, -1),
            ([cb], {"boost": 3.0}, -3),
            ([average, cb], {}, -2),
        ):
            p = param(0.0)
            opt = weft.Optimizer([p], cbs, **hypers)
            opt.step()
            assert p.item() == expected
            assert ("boost" in opt.param_groups[0]) == bool(hypers)

    def test_returned_is_state_that_the_callback_makes_itself(self):
        def average(p, grad_avg=None):
            if grad_avg is None:
                grad_avg = torch.full_like(p, 7.0)
            grad_avg.add_(p.grad.data)
            return {"grad_avg": grad_avg}

        p = param(0.0)
        opt = weft.Optimizer([p], [average, descend], lr=0.0)
        opt.step()
        opt.step()
        assert opt.state[p]["grad_avg"].item() == 9
        assert "grad_avg" not in opt.param_groups[0]


def test_partials_declare_state_too():
    def average(grad, exp_avg):
        return {"exp_avg": exp_avg + grad}

    p = param(0.0)
    opt = stepped(p, functools.partial(average, exp_avg=weft.ones), descend)
    assert opt.state[p]["exp_avg"].item() == 2


class TestRename:
    @staticmethod
    def ema(grad, beta=0.5, exp_avg=weft.zeros):
        return {"exp_avg": beta * exp_avg + grad, "update": exp_avg}

    def test_two_of_a_kind_keep_apart(self):
        slow = weft.rename(self.ema, exp_avg="slow_avg", beta="slow_beta", grad="update")
        p = param(0.0)
        opt = stepped(p, self.ema, slow, descend, slow_beta=0.0, steps=2)
        state = opt.state[p]
        assert (state["exp_avg"].item(), state["slow_avg"].item()) == (1.5, 1.0)
        assert opt.param_groups[0]["beta"] == 0.5

    def test_kwargs_come_under_the_callbacks_own_names(self):
        def cb(p, exp_avg=weft.zeros, **kwargs):
            assert "slow_beta" not in kwargs
            return {"exp_avg": exp_avg + kwargs["beta"]}

        renamed = weft.rename(cb, exp_avg="slow_avg", beta="slow_beta")
        p = param(0.0)
        opt = stepped(p, self.ema, renamed, descend, slow_beta=2.0)
        assert opt.state[p]["slow_avg"].item() == 2

    def test_of_a_renamed_one_and_of_unknown_names(self):
        twice = weft.rename(weft.rename(self.ema, exp_avg="a"), a="b")
        p = param(0.0)
        assert set(stepped(p, twice, descend).state[p]) == {"b"}
        with pytest.raises(weft.ChainError, match="ema neither reads nor returns"):
            weft.rename(self.ema, exp_agv="x")
        with pytest.raises(weft.ChainError, match="two things called 'grad'"):
            weft.rename(self.ema, exp_avg="grad")
