"""DESIGN 1.1, the table: a callback is called once a parameter and step, with arguments by name."""

import functools
from typing import ClassVar

import pytest
import torch

import weft
from contract import Probe, descend, param, stepped

pytestmark = pytest.mark.usefixtures("engine")


def test_each_name_of_the_table_is_passed_by_name():
    def all_of_them(lr, loss, step, update, grad, start=weft.copy_of_param, p=None, beta=0.5):
        return {"p": p + 0 * start - lr * (grad + 10 * update + 100 * step + 1000 * loss + beta)}

    p = param(0.0, grad=[2.0])
    opt = weft.Optimizer([p], [all_of_them], lr=1.0)
    opt.step(loss=3.0)
    assert p.item() == -(2 + 20 + 100 + 3000 + 0.5)


def test_it_is_called_once_for_each_parameter_and_step_that_has_a_grad():
    def count(p, lr, calls=weft.zeros):
        p.data.sub_(lr)
        return {"calls": calls + 1}

    a, b, c = param(1.0), param(1.0, 2.0), param(1.0, 2.0, 3.0)
    b.grad = None
    opt = weft.Optimizer([a, b, c], [count], lr=1.0)
    opt.step()
    opt.step()
    assert [opt.state[p]["calls"].tolist() for p in (a, b, c)] == [[2], [0, 0], [2, 2, 2]]
    assert (a.item(), b.tolist(), c.tolist()) == (-1.0, [1.0, 2.0], [-1.0, 0.0, 1.0])


def test_a_frozen_parameter_with_a_stale_grad_steps_as_in_torch():
    p = param(1.0)
    p.requires_grad_(False)
    stepped(p, descend)
    assert p.item() == 0.0


@pytest.mark.parametrize("name", ["param", "w", "x, **kwargs", "theta, **kwargs"])
def test_a_first_argument_of_such_a_name_or_beside_kwargs_gets_the_parameter(name):
    scope, first = {}, name.split(",")[0]
    exec(f"def cb({first}, lr{name.removeprefix(first)}): {first}.data.sub_(lr)", scope)
    p = param(1.0)
    stepped(p, scope["cb"], lr=0.25)
    assert p.item() == 0.75


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("g", "grad"), ("gradient", "grad"), ("updat", "update"), ("Update", "update"), ("x", None)],
)
def test_a_first_argument_of_another_name_is_an_error(slip, meant):
    scope = {}
    exec(f"def sign({slip}): return {{'update': {slip}.sign()}}", scope)
    words = rf"nothing provides '{slip}', which sign .*the parameter is called p, "
    with pytest.raises(weft.ChainError, match=words) as e:
        weft.Optimizer([param(1.0)], [scope["sign"], descend], lr=1.0)
    assert (f"did you mean {meant!r}" in str(e.value)) is (meant is not None)


def test_a_first_argument_that_is_a_known_name_is_that():
    def average(grad, exp_avg=weft.zeros):
        return {"exp_avg": exp_avg + grad}

    def from_state(exp_avg, lr):
        return {"update": lr * exp_avg}

    def from_hyper(scale, update):
        return {"update": scale * update}

    p = param(0.0)
    opt = stepped(p, average, from_state, from_hyper, descend, lr=1.0, scale=3.0, steps=2)
    assert p.item() == -(3 + 6)
    assert opt.state[p]["exp_avg"].item() == 2


def test_lr_in_front_is_the_hyper_even_where_nobody_has_set_it():
    def scale(lr, update):
        return {"update": lr * update}

    def plain(p, update):
        return {"p": p - update}

    with pytest.raises(weft.ChainError, match="nothing provides 'lr'"):
        weft.Optimizer([param(1.0)], [scale, plain])


def test_only_one_argument_gets_the_parameter():
    def both(first, p):
        return {"p": p - first}

    with pytest.raises(weft.ChainError, match="nothing provides 'first'"):
        weft.Optimizer([param(1.0)], [both], lr=1.0)


def test_a_keyword_only_p_and_a_positional_only_parameter():
    def by_name(*, p, lr):
        return {"p": p - lr}

    def by_position(w, /, lr):
        w.data.sub_(lr)

    p = param(1.0)
    stepped(p, by_name, by_position, lr=0.25)
    assert p.item() == 0.5


def test_only_the_first_argument_may_be_positional_only():
    def cannot(p, lr, /):
        p.data.sub_(lr)

    with pytest.raises(weft.ChainError, match=r"cannot.*'lr' cannot be passed by name"):
        weft.Optimizer([param(1.0)], [cannot], lr=1.0)


class TestKwargs:
    @pytest.mark.falls_back("changes an attribute of Probe")
    def test_receive_every_name(self):
        def average(grad, step, exp_avg=weft.zeros):
            return {"exp_avg": exp_avg + grad, "update": 2 * grad}

        probe, p = Probe(), param(0.0, grad=[3.0])
        norm = weft.over_params("norm", lambda grad: grad.square().sum())
        opt = weft.Optimizer([p], [norm, average, probe, descend], lr=0.5, mom=0.9)
        opt.state[p]["mine"] = 7
        opt.step(loss=2.5)
        seen = probe.seen
        assert set(seen) == {
            "lr", "mom", "grad", "update", "step", "loss", "exp_avg", "mine", "norm"
        }  # fmt: skip
        assert (seen["lr"], seen["mom"], seen["loss"], seen["step"], seen["mine"]) == (
            0.5, 0.9, 2.5, 1, 7,
        )  # fmt: skip
        assert seen["grad"].item() == 3
        assert seen["update"].item() == 6
        assert seen["exp_avg"].item() == 3
        assert seen["norm"].item() == 9

    @pytest.mark.falls_back("changes an attribute of Probe")
    def test_have_no_loss_where_none_is_given_and_no_step_where_none_is_counted(self):
        probe, p = Probe(), param(0.0)
        opt = stepped(p, probe, descend)
        assert set(probe.seen) == {"lr", "grad", "update"}
        assert not opt.state.get(p)

    def test_alone_receive_the_parameter_too(self):
        def alone(**kwargs):
            kwargs["p"].data.sub_(kwargs["lr"])

        p = param(1.0)
        stepped(p, alone)
        assert p.item() == 0

    def test_behind_star_args_the_parameter_comes_by_position(self):
        def original(p, lr, **kwargs):
            p.data.sub_(lr)

        def decorated(*args, **kwargs):
            return original(*args, **kwargs)

        p = param(1.0)
        stepped(p, decorated)
        assert p.item() == 0

    def test_the_original_contract_holds_to_the_letter(self):
        """cb(p, **{**state, **hyper}): forwarding what one got is always right."""

        def inner(p, lr, mom, exp_avg, **kwargs):
            p.data.sub_(lr * mom * exp_avg)

        def outer(p, **kwargs):
            return inner(p, **kwargs)

        def average(p, exp_avg=weft.ones, **kwargs):
            return {"exp_avg": exp_avg + p.grad}

        p = param(0.0)
        stepped(p, average, outer, lr=0.5, mom=0.5)
        assert p.item() == -0.5

    def test_writing_to_what_they_hold_is_seen_like_a_named_argument(self):
        def halve(p, **kwargs):
            kwargs["update"].div_(2)

        p = param(0.0)
        stepped(p, halve, descend)
        assert p.item() == -0.5
        assert p.grad.item() == 1


class TestOnlyNamedArgumentsAreReads:
    def test_step_is_not_kept_for_kwargs(self):
        def cb(p, lr, **kwargs):
            assert "step" not in kwargs
            p.data.sub_(lr)

        p = param(1.0)
        opt = stepped(p, cb)
        assert "step" not in opt.state.get(p, {})

    def test_an_update_in_kwargs_is_not_read(self):
        def sets(grad):
            return {"update": grad}

        def last(p, lr, **kwargs):
            p.data.sub_(kwargs["update"])

        with pytest.raises(weft.ChainError, match=r"sets.*no callback after it reads it"):
            weft.Optimizer([param(1.0)], [sets, last], lr=1.0)

    def test_a_loss_in_kwargs_is_not_demanded(self):
        def cb(p, **kwargs):
            p.data.sub_(kwargs.get("loss", 1.0))

        p = param(1.0)
        stepped(p, cb)
        assert p.item() == 0


@pytest.mark.falls_back("changes modes")
def test_callbacks_run_under_no_grad_and_the_closure_does_not():
    modes = []

    def cb(p, lr):
        modes.append(torch.is_grad_enabled())
        p.data.sub_(lr)

    p = param(1.0)
    opt = weft.Optimizer([p], [cb], lr=1.0)

    def closure():
        assert torch.is_grad_enabled()
        loss = (p * 2).sum()
        loss.backward()
        return loss

    opt.step(closure)
    assert modes
    assert not any(modes)


class TestLoss:
    @staticmethod
    def by_loss(p, loss):
        return {"p": p - loss}

    def test_of_the_closure(self):
        p = param(1.0)
        opt = weft.Optimizer([p], [self.by_loss])
        assert opt.step(lambda: torch.tensor(0.25)).item() == 0.25
        assert p.item() == 0.75

    def test_given_to_step(self):
        p = param(1.0)
        opt = weft.Optimizer([p], [self.by_loss])
        assert opt.step(loss=0.5) == 0.5
        assert p.item() == 0.5

    def test_missing_is_an_error_before_anything_is_written(self):
        p = param(1.0)
        opt = weft.Optimizer([p], [descend, self.by_loss], lr=1.0)
        with pytest.raises(weft.StepError, match=r"by_loss.*'loss'"):
            opt.step()
        assert p.item() == 1

    def test_read_with_none_as_default_is_optional(self):
        def maybe(p, loss=None):
            return {"p": p - (1.0 if loss is None else loss)}

        p = param(1.0)
        opt = weft.Optimizer([p], [maybe])
        opt.step()
        assert p.item() == 0
        opt.step(loss=5.0)
        assert p.item() == -5


class Twice:
    """A callable object that takes its parameter like a function."""

    defaults: ClassVar = {"wd": 0.5}

    def __call__(self, p, update, lr, wd, eps=1.0):
        return {"p": p - lr * wd * update * eps}

    def method(self, p, update, lr, decay=0.5):
        return {"p": p - lr * decay * update}


class TestPartialsAndObjects:
    def test_a_callable_object_keeps_all_of_this(self):
        p = param(1.0)
        opt = stepped(p, Twice())
        assert p.item() == 0.5
        assert (opt.param_groups[0]["wd"], opt.param_groups[0]["eps"]) == (0.5, 1.0)

    def test_a_bound_method(self):
        p = param(1.0)
        opt = stepped(p, Twice().method)
        assert p.item() == 0.5
        assert opt.param_groups[0]["decay"] == 0.5

    def test_a_partial_gives_another_default_that_schedulers_reach(self):
        p = param(1.0)
        opt = stepped(p, functools.partial(Twice(), eps=0.5))
        assert p.item() == 0.75
        opt.param_groups[0]["eps"] = 1.0
        opt.step()
        assert p.item() == 0.25

    def test_what_a_partial_binds_beats_the_defaults_of_what_it_wraps(self):
        p = param(1.0)
        opt = stepped(p, functools.partial(Twice(), wd=0.25))
        assert (opt.param_groups[0]["wd"], p.item()) == (0.25, 0.75)

    def test_a_partial_keeps_defaults_state_and_place(self):
        @weft.mark(place="update", defaults={"scale": 4.0})
        def cb(update, scale, exp_avg=weft.zeros, power=1.0):
            return {"exp_avg": exp_avg + update, "update": scale * power * update}

        part = functools.partial(functools.partial(cb, power=2.0))
        p = param(0.0)
        opt = stepped(p, part, descend)
        assert p.item() == -8
        assert opt.state[p]["exp_avg"].item() == 1
        assert weft.callback.read(part).place == "update"

    def test_a_partial_may_bind_what_is_required(self):
        p = param(1.0)
        opt = weft.Optimizer([p], [functools.partial(descend, lr=0.5)])
        opt.step()
        assert (p.item(), opt.param_groups[0]["lr"]) == (0.5, 0.5)

    def test_positional_arguments_of_a_partial(self):
        def scaled(factor, update):
            return {"update": factor * update}

        p = param(0.0)
        stepped(p, functools.partial(scaled, 3.0), descend)
        assert p.item() == -3
