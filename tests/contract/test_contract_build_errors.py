"""DESIGN 1.1: errors come when a chain is built, with names; nothing is subtracted implicitly."""

import warnings

import pytest
import torch

import weft
from contract import descend, param, stepped

pytestmark = pytest.mark.usefixtures("engine")


def build(*cbs, params=None, **hypers):
    hypers.setdefault("lr", 1.0)
    return weft.Optimizer(params or [param(1.0)], cbs, **hypers)


def ema(grad, exp_avg=weft.zeros):
    return {"exp_avg": exp_avg + grad}


class TestANameThatNothingProvides:
    def test_names_it_its_reader_and_the_line(self):
        def wants(update, exp_avg):
            return {"update": exp_avg}

        line = wants.__code__.co_firstlineno
        with pytest.raises(
            weft.ChainError,
            match=rf"nothing provides 'exp_avg', which wants \(.*build_errors.py:{line}\)",
        ):
            build(wants, descend)

    def test_suggests_what_may_have_been_meant(self):
        def wants(update, weight_decoy):
            return {"update": update * weight_decoy}

        with pytest.raises(weft.ChainError, match="did you mean 'weight_decay'"):
            build(wants, descend, weft.callbacks.weight_decay)

    def test_before_it_is_provided(self):
        def wants(update, total):
            return {"update": update * total}

        def gives(grad):
            return {"total": grad.sum()}

        with pytest.raises(
            weft.ChainError, match=r"wants .* reads 'total' before gives .*provides"
        ):
            build(wants, gives, descend)

    def test_before_the_callback_itself_first_returns_it(self):
        def own(grad, total):
            return {"total": total + grad}

        with pytest.raises(
            weft.ChainError, match=r"own .* reads 'total' before it first returns it"
        ):
            build(own, descend)

    def test_a_group_is_asked_for_its_own_chain(self):
        def wants(p, mu):
            return {"p": p * mu}

        groups = [{"params": [param(1.0)]}, {"params": [param(1.0)], "cbs": [wants]}]
        with pytest.raises(weft.ChainError, match="nothing provides 'mu'"):
            weft.Optimizer(groups, [descend], lr=1.0)
        groups = [
            {"params": [param(1.0)]},
            {"params": [param(1.0)], "cbs": [wants], "mu": 2.0},
        ]
        weft.Optimizer(groups, [descend], lr=1.0)


class TestAStateThatTwoDeclare:
    @pytest.mark.parametrize("second", ["zeros", "number", "None", "shared"])
    def test_is_an_error_that_names_both(self, second):
        def zeros(exp_avg=weft.zeros):
            pass

        def number(exp_avg=0.0):
            return {"exp_avg": exp_avg}

        def none(grad, exp_avg=None):
            return {"exp_avg": grad}

        def shared(exp_avg=weft.shared(0.0)):
            pass

        other = {"zeros": zeros, "number": number, "None": none, "shared": shared}[second]
        with pytest.raises(
            weft.ChainError, match=rf"'exp_avg' is declared by ema .*and by {other.__name__}"
        ) as e:
            build(ema, other, descend)
        assert "weft.rename(" in str(e.value)

    def test_is_shared_on_purpose_by_requiring_it(self):
        def also(grad, exp_avg):
            return {"exp_avg": exp_avg + grad}

        p = param(1.0)
        assert stepped(p, ema, also, descend).state[p]["exp_avg"].item() == 2

    def test_or_renamed(self):
        p = param(1.0)
        opt = stepped(p, ema, weft.rename(ema, exp_avg="slow_avg"), descend)
        assert set(opt.state[p]) == {"exp_avg", "slow_avg"}

    def test_in_two_groups_is_none(self):
        groups = [{"params": [param(1.0)], "cbs": [ema, descend]}, {"params": [param(1.0)]}]
        weft.Optimizer(groups, [ema, descend], lr=1.0).step()


def test_an_update_that_is_set_and_never_read():
    def sets(grad):
        return {"update": 2 * grad}

    def applies_grad(p, grad, lr):
        return {"p": p - lr * grad}

    with pytest.raises(weft.ChainError, match=r"sets .* sets 'update', and no callback after it"):
        build(sets, applies_grad)
    with pytest.raises(weft.ChainError, match=r"sets .* sets 'update'"):
        build(descend, sets)


class TestAReturnedNameThatClashesWithAHyper:
    @pytest.mark.parametrize("how", ["given", "defaulted", "state"])
    def test_names_the_callback_and_the_hyper(self, how):
        def returns(grad):
            return {"mu": grad.mean()}

        def declares(grad, mu=1.0):
            return {"mu": mu + 1}

        def reads(update, mu=0.5):
            return {"update": update * mu}

        chain, hypers, words = {
            "given": ([returns], {"mu": 0.5}, "returns .* returns 'mu', which is a hyper"),
            "defaulted": ([returns, reads], {}, "reads .* has 'mu' as a hyper"),
            "state": ([declares, reads], {}, "reads .* has 'mu' as a hyper"),
        }[how]
        with pytest.raises(weft.ChainError, match=words):
            build(*chain, descend, **hypers)

    def test_lr_and_loss(self):
        def lr(grad):
            return {"lr": 0.1}

        def loss(grad):
            return {"loss": 0.1}

        with pytest.raises(weft.ChainError, match="'lr', which is a hyper"):
            build(lr, descend)
        with pytest.raises(weft.ChainError, match="'loss', which only the closure gives"):
            build(loss, descend)

    def test_state_cannot_be_given_as_a_hyper(self):
        with pytest.raises(weft.ChainError, match="'exp_avg' is state of ema"):
            build(ema, descend, exp_avg=3.0)


class TestACallbackForMatrices:
    def test_given_another_rank_names_the_parameter(self):
        def ortho(update):
            return {"update": update}

        ortho.ndim = (2,)
        matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(3))
        with pytest.raises(
            weft.ChainError, match=r"ortho .*2 dimensions, and parameter 'bias' \(3,\)"
        ):
            build(ortho, descend, params=[("weight", matrix), ("bias", vector)])
        with pytest.raises(weft.ChainError, match=r"parameter 1 of group 0 \(3,\) has 1"):
            build(ortho, descend, params=[matrix, vector])
        build(ortho, descend, params=[matrix])

    def test_in_a_group_that_is_added_leaves_the_optimizer_as_it_was(self):
        @weft.mark(ndim=2)
        def ortho(update):
            return {"update": update}

        opt = build(descend)
        with pytest.raises(weft.ChainError, match="parameter 0 of group 1"):
            opt.add_param_group({"params": [param(1.0)], "cbs": [ortho, descend]})
        assert len(opt.param_groups) == 1
        opt.step()


class TestNothingIsSubtractedImplicitly:
    def test_a_chain_that_never_writes_p_warns(self):
        def only_looks(p, grad, seen=weft.zeros):
            return {"seen": seen + p.norm() * grad}

        with pytest.warns(weft.WeftWarning, match=r"\(ema, only_looks\).*weft.callbacks.descend"):
            opt = build(ema, only_looks)
        p = opt.param_groups[0]["params"][0]
        opt.step()
        assert p.item() == 1

    @pytest.mark.parametrize(
        "cb",
        [
            descend,
            lambda p, lr: p.data.sub_(lr),
            lambda p, lr: torch.sub(p, lr, out=p),
            lambda p, lr: step_of(p, lr),
            lambda **kwargs: kwargs["p"].data.sub_(1.0),
        ],
    )
    def test_one_that_may_write_it_does_not(self, cb):
        p = param(1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            weft.Optimizer([p], [cb], lr=1.0)

    def test_an_augmented_assignment_is_a_write(self):
        def cb(p, lr):
            p.data -= lr * p.grad

        def other(p, lr):
            p.data[...] = p.data - lr

        for each in (cb, other):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                build(each)

    def test_an_over_params_does_not_hide_it(self):
        value = weft.over_params("value", lambda p: p.norm())
        with pytest.warns(weft.WeftWarning, match="no callback of this chain writes"):
            build(value, ema)


def step_of(p, lr):
    p.data.sub_(lr)


def test_no_callbacks_and_what_is_none():
    with pytest.raises(weft.ChainError, match="at least one callback"):
        build()
    with pytest.raises(weft.ChainError, match="must be callable, not 3 of type int"):
        build(3)


@pytest.mark.parametrize("name", ["p", "grad", "update", "loss"])
def test_a_name_of_the_table_cannot_be_a_hyper_or_state(name):
    scope = {"weft": weft}
    exec(f"def hyper(x, {name}=1.0): pass\ndef state(x, {name}=weft.zeros): pass", scope)
    with pytest.raises(weft.ChainError, match=f"'{name}' cannot have a default"):
        build(scope["hyper"], descend)
    with pytest.raises(weft.ChainError, match=f"'{name}' is not a name for state"):
        build(scope["state"], descend)


def test_both_styles_of_the_page():
    def sgd_cb(p, lr, **kwargs):
        p.data.add_(p.grad.data, alpha=-lr)

    def cautious(update, grad):
        agree = (update * grad > 0).to(grad.dtype)
        return {"update": update * agree / agree.mean().clamp(min=1e-3)}

    p, q = param(1.0, 2.0, grad=[1.0, -2.0]), param(1.0, 2.0, grad=[1.0, -2.0])
    stepped(p, sgd_cb, lr=0.5)
    stepped(q, cautious, descend, lr=0.5)
    assert p.tolist() == q.tolist() == [0.5, 3.0]
