"""What cannot be meant is refused, or warned about once, with the mend."""

import copy
import pickle
import warnings

import pytest
import torch

import weft
from contract import descend, param, stepped
from weft.errors import did_you_mean, slip_of

pytestmark = pytest.mark.usefixtures("engine")


def build(*cbs, **hypers):
    return weft.Optimizer([param(1.0)], [*cbs, descend], lr=1.0, **hypers)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("weight_decy", "weight_decay"), ("wieght_decay", "weight_decay"), ("Update", "update"),
        ("weightdecay", "weight_decay"), ("weight-decay", "weight_decay"), ("esp", "eps"),
        ("updates", "update"), ("upadte", "update"), ("gard", "grad"), ("LR", "lr"), ("beta1", "betas"),
        ("beta", "betas"), ("momentm", "momentum"),
    ],
)  # fmt: skip
def test_a_slip_is_found(slip, meant):
    assert (
        slip_of(slip, ["lr", "weight_decay", "betas", "eps", "momentum", "update", "grad"]) == meant
    )


@pytest.mark.parametrize(
    "name",
    ["initial_lr", "max_lr", "min_lr", "base_lr", "swa_lr", "lr_scale", "lr_mult", "max_momentum",
     "base_momentum", "weight_decay_mult", "decoupled_weight_decay", "name", "layer_id", "grad_norm",
     "grad_avg", "n", "q", "norm_1"],
)  # fmt: skip
def test_another_name_is_none(name):
    assert slip_of(name, ["lr", "weight_decay", "momentum", "grad", "update", "p", "norm"]) is None


def test_a_hint_knows_beginnings():
    assert "'grad'" in did_you_mean("g", ["grad", "lr"])
    assert did_you_mean("x", ["grad", "lr"]) == ""


class TestResults:
    @pytest.mark.parametrize(
        "cb",
        [
            lambda update: update / 2,
            lambda update: update.clamp(-1, 1),
            lambda update: torch.sign(update),
            lambda update, grad: (update / 2, grad),
            lambda p, lr: p - lr * p.grad,
        ],
    )
    def test_a_tensor_or_a_tuple_is_refused_when_the_chain_is_built(self, cb):
        with pytest.raises(
            weft.ChainError, match=r"no dict and changes nothing.*\"update\": \.\.\."
        ):
            build(cb)

    def test_or_at_the_step_where_it_shows_only_there(self):
        def some(update, flag=1.0):
            if flag > 0:
                return update / 2
            return {"update": update}

        opt = build(some)
        with pytest.raises(weft.StepError, match=r"some .*returns something that is no dict"):
            opt.step()
        assert opt.param_groups[0]["params"][0].item() == 1

    @pytest.mark.parametrize(
        "cb",
        [
            lambda p, lr: p.data.sub_(lr),
            lambda update: update.mul_(2),
            lambda update: torch.mul(update, 2, out=update),
            lambda p, grad: p.grad.data.add_(1),
            lambda exp_avg, grad: exp_avg.add_(grad),
        ],
    )
    def test_not_after_work_in_place(self, cb):
        def average(exp_avg=weft.zeros):
            exp_avg.add_(1)

        build(average, cb).step()

    @pytest.mark.parametrize(
        ("name", "meant"),
        [("updates", "update"), ("Update", "update"), ("upadte", "update"), ("grads", "grad"),
         ("P", "p"), ("exp_avgs", "exp_avg"), ("exp-avg", "exp_avg")],
    )  # fmt: skip
    def test_a_returned_name_that_nobody_reads(self, name, meant):
        scope = {"weft": weft}
        exec(
            f"def cb(update, grad, exp_avg=weft.zeros): return {{{name!r}: update + exp_avg}}",
            scope,
        )
        with pytest.raises(weft.ChainError, match=rf"returns '{name}'.*did you mean '{meant}'"):
            build(scope["cb"])

    def test_a_name_that_somebody_reads_or_declares_is_none(self):
        def gives(grad):
            return {"grads": grad * 2}

        def takes(grads):
            return {"update": grads}

        def keeps(grad, updates=None):
            return {"updates": grad}

        def both(grad):
            return {"grad": grad, "grad2": grad}

        def looks(p, **kwargs):
            return {"n": kwargs["grads"].sum()}

        build(gives, takes).step()
        build(keeps).step()
        build(both).step()
        build(gives, looks).step()


class TestStatesThatNobodyWrites:
    @pytest.mark.parametrize("first", [weft.zeros, weft.ones, weft.state(0.5)], ids=repr)
    def test_are_warned_about(self, first):
        def cb(update, exp_avg=first):
            exp_avg = 0.9 * exp_avg + update
            return {"update": exp_avg}

        with pytest.warns(weft.WeftWarning, match=r"cb .*declares the state 'exp_avg' and nobody"):
            build(cb)

    def test_are_not_where_another_writes_or_they_are_a_copy_or_a_wrapper_may(self):
        def reads(update, exp_avg=weft.zeros):
            return {"update": update + exp_avg}

        def writes(grad, exp_avg):
            exp_avg.add_(grad)

        def anchored(p, update, start=weft.copy_of_param):
            return {"update": update + p - start}

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            build(reads, writes)
            build(anchored)
            weft.Optimizer([param(1.0)], [reads, descend, weft.Lookahead()], lr=1.0)


class TestAnUpdateOfAnotherShape:
    @pytest.mark.parametrize("shape", [(3, 3), (2, 3), (3, 1, 3)])
    def test_that_would_be_spread_is_refused(self, shape):
        def row_norm(update):
            return {"update": update.norm(dim=0)}

        p = torch.nn.Parameter(torch.ones(shape))
        p.grad = torch.ones(shape)
        opt = weft.Optimizer([p], [row_norm, weft.callbacks.descend], lr=1.0)
        with pytest.raises(
            weft.StepError, match=r"descend.*the update is \(.*\) and the parameter is"
        ):
            opt.step()
        assert torch.equal(p.detach(), torch.ones(shape))

    def test_nor_is_a_number(self):
        def total(update):
            return {"update": update.sum()}

        p = param(1.0, 2.0)
        with pytest.raises(weft.StepError, match="keepdim=True"):
            stepped(p, total, descend)
        assert p.tolist() == [1, 2]

    def test_in_a_basis_of_its_own_it_may_be(self):
        def enter(update):
            return {"update": update.sum(dim=0)}

        def leave(update, grad):
            return {"update": update.expand(grad.shape).clone()}

        def halve(p):
            return {"p": p / 2}

        p = torch.nn.Parameter(torch.ones(2, 3))
        p.grad = torch.ones(2, 3)
        stepped(p, enter, halve, leave, descend)
        assert p.unique().tolist() == [-1.5]


class TestKeys:
    @pytest.mark.parametrize("how", ["class", "chain", "added", "own chain", "defaults", "hypers"])
    def test_a_slip_in_a_group_is_an_error(self, how):
        group = {"params": [param(1.0)], "weight_decy": 0.0}
        chain = weft.AdamW.chain()
        ways = {
            "class": lambda: weft.AdamW([group]),
            "chain": lambda: chain([group]),
            "added": lambda: weft.AdamW([param(1.0)]).add_param_group(group),
            "own chain": lambda: weft.Optimizer([{**group, "cbs": chain}], [descend], lr=1.0),
            "defaults": lambda: weft.chain(*chain, lr=0.1, weight_decy=0.1)([param(1.0)]),
            "hypers": lambda: weft.AdamW([param(1.0)]).hypers[0].update(weight_decy=0.1),
        }
        with pytest.raises(weft.ChainError, match=r"'weight_decy'.*did you mean 'weight_decay'"):
            ways[how]()

    def test_an_added_group_with_a_slip_leaves_the_optimizer_as_it_was(self):
        opt = weft.AdamW([param(1.0)])
        with pytest.raises(weft.ChainError, match="group 1 has 'weight_decy'"):
            opt.add_param_group({"params": [param(1.0)], "weight_decy": 0.0})
        assert len(opt.param_groups) == 1
        opt.step()

    def test_keys_of_schedulers_and_trainers_stay(self):
        group = {"params": [param(1.0)], "name": "backbone", "initial_lr": 0.1, "max_momentum": 0.9}
        opt = weft.AdamW([group], lr=0.1)
        assert opt.param_groups[0]["name"] == "backbone"
        torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=10)
        torch.optim.swa_utils.SWALR(opt, 0.05)
        again = weft.AdamW([{**opt.param_groups[0]}], lr=0.1)
        again.step()

    @pytest.mark.parametrize("name", ["adamw", "sgd", "muon", "lion", "prodigy"])
    def test_a_constructors_keyword(self, name):
        cls = weft.optimizers.algorithms()[name]
        words = rf"{cls.__name__}.__init__\(\) got an unexpected keyword argument 'weight_decy'"
        with pytest.raises(TypeError, match=words + r" \(did you mean 'weight_decay'\?\)"):
            cls([param(1.0)], weight_decy=0.1)
        with pytest.raises(TypeError, match="did you mean 'weight_decay'"):
            weft.create(f"{name}(weight_decy=0.1)", [param(1.0)])
        with pytest.raises(TypeError, match="did you mean 'weight_decay'"):
            cls.chain(weight_decy=0.1)

    def test_of_wrappers_and_modifiers(self):
        with pytest.raises(TypeError, match="did you mean 'rho'"):
            weft.SAM(roh=0.1)
        with pytest.raises(TypeError, match="did you mean 'alpha'"):
            weft.create("adamw+lookahead(alhpa=0.5)", [param(1.0)])
        with pytest.raises(weft.ChainError, match="did you mean 'max_norm'"):
            weft.create("adamw+clip_norm(max_nrom=1.0)", [param(1.0)])
        with pytest.raises(weft.ChainError, match="did you mean 'clip_norm'"):
            weft.create("adamw+clip_nrom", [param(1.0)])
        with pytest.raises(ValueError, match="did you mean 'weight_decay'"):
            weft.AdamW([param(1.0)]).set_hyper("weight_decy", 0.1)

    def test_a_subclass_with_keywords_of_its_own_is_asked_for_those(self):
        class Mine(weft.AdamW):
            def __init__(self, params, strength=1.0, **kwargs):
                super().__init__(params, **kwargs)

        with pytest.raises(TypeError, match="did you mean 'weight_decay'"):
            Mine([param(1.0)], strength=2.0, weight_decy=0.1)
        opt = Mine([param(1.0)], weight_decay=0.1)
        assert pickle.loads(pickle.dumps(weft.AdamW([param(1.0)]))).param_groups
        assert copy.deepcopy(opt).param_groups[0]["weight_decay"] == 0.1


class TestWhatWasWritten:
    @staticmethod
    def error(*cbs, **hypers):
        params = [param(1.0), param(1.0, 2.0)]
        opt = weft.Optimizer(params, cbs, lr=1.0, **hypers)
        with pytest.raises(weft.StepError) as e:
            opt.step()
        return str(e.value)

    def test_nothing_before_the_first_write(self):
        def fails(update):
            return {"update": update / update.no_such_thing}

        text = self.error(fails, descend)
        assert "0 of 2 parameters had already stepped; nothing of this one was written" in text
        assert "half-written" not in text

    def test_something_after_it(self):
        def writes(grad, exp_avg=weft.zeros):
            return {"exp_avg": exp_avg + grad}

        def fails(update):
            if update.numel() > 1:
                raise RuntimeError("two")
            return {"update": update}

        text = self.error(writes, fails, descend)
        assert "1 of 2 parameters had already stepped; this one may be half-written" in text

    def test_something_in_place(self):
        def fails(p, lr):
            p.data.sub_(lr)
            raise RuntimeError

        assert "0 of 2 parameters had already stepped; this one may be half-written" in self.error(
            fails
        )

    def test_and_those_that_wait(self):
        def writes(grad, exp_avg=weft.zeros):
            return {"exp_avg": exp_avg + grad}

        norm = weft.over_params("norm", lambda grad: 1 / 0 if grad.numel() > 1 else grad.norm())
        text = self.error(writes, norm, descend)
        assert "this one may be half-written, and so may 1 that wait for it" in text
