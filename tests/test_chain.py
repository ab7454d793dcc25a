"""DESIGN 1.3: an immutable sequence of callbacks that makes optimizers."""

import pickle

import pytest

import weft
from contract import descend, param
from weft import callbacks as cb
from weft.callbacks import fastai

pytestmark = pytest.mark.usefixtures("engine")


def halve(update):
    return {"update": update / 2}


def double_grad(grad):
    return {"grad": 2 * grad}


def track(p, mean=weft.zeros):
    return {"mean": (mean + p) / 2}


base = weft.chain(cb.ema, cb.debias, cb.descend, lr=0.1, betas=(0.5, 0.9))


def test_called_with_parameters_it_makes_an_optimizer():
    p = param(1.0)
    opt = base([p], lr=1.0)
    opt.step()
    assert type(opt) is weft.Optimizer
    assert p.item() == 0
    assert opt.param_groups[0]["betas"] == (0.5, 0.9)
    assert base.defaults["lr"] == 0.1


def test_it_serves_where_a_list_of_callbacks_does_and_in_a_group():
    p, q = param(1.0), param(1.0)
    opt = weft.Optimizer([{"params": [p], "cbs": base}, {"params": [q]}], [descend], lr=1.0)
    assert [g["lr"] for g in opt.param_groups] == [0.1, 1.0]
    opt.step()
    assert (p.item(), q.item()) == (pytest.approx(0.9), 0)


def test_insert_before_and_after_by_name_and_by_callback():
    assert base.insert(halve, before="descend").names == ("ema", "debias", "halve", "descend")
    assert base.insert(halve, after=cb.ema).names == ("ema", "halve", "debias", "descend")
    assert base.names == ("ema", "debias", "descend")
    with pytest.raises(weft.ChainError, match="either before= or after="):
        base.insert(halve)
    with pytest.raises(weft.ChainError, match="either before= or after="):
        base.insert(halve, before="ema", after="ema")


def test_replace_and_without():
    assert base.replace("debias", halve).names == ("ema", "halve", "descend")
    assert base.without(cb.debias).names == ("ema", "descend")
    with pytest.raises(weft.ChainError, match=r"no 'debais' \(did you mean 'debias'\?\)"):
        base.without("debais")
    with pytest.raises(weft.ChainError, match="no 'halve'"):
        base.replace(halve, cb.ema)


def test_bound_methods_and_renamed_ones_are_found():
    class Box:
        def method(self, update):
            return {"update": update}

    box, slow = Box(), weft.rename(cb.ema, exp_avg="slow")
    woven = weft.chain(slow, box.method, descend)
    assert woven.without(box.method).names == ("ema", "descend")
    assert woven.without(cb.ema).names == ("method", "descend")


def test_it_is_immutable():
    with pytest.raises(TypeError):
        base[0] = halve
    with pytest.raises(TypeError):
        base.defaults["lr"] = 1.0
    with pytest.raises(AttributeError):
        base.anything = 1
    assert not hasattr(base, "append")


class TestPlus:
    def test_puts_a_modifier_where_it_belongs(self):
        assert (base + halve).names == ("ema", "debias", "halve", "descend")
        assert (base + double_grad).names == ("double_grad", "ema", "debias", "descend")
        assert (base + weft.mark(place="after")(track)).names[-1] == "track"

    def test_adamw_plus_cautious_is_cautious_before_descend(self):
        def cautious(update, grad):
            return {"update": update * (update * grad > 0)}

        names = (weft.AdamW.chain() + cautious).names
        assert names[-2:] == ("cautious", "descend")

    def test_the_order_of_those_of_one_place_is_the_order_of_adding(self):
        def third(update):
            return {"update": update / 3}

        assert (base + halve + third).names[-3:] == ("halve", "third", "descend")

    def test_over_params_and_wrappers_and_chains(self):
        norm = weft.over_params("norm", lambda grad: grad.norm())
        assert (base + norm).names[0] == "norm"
        assert (base + weft.Lookahead()).names[-1] == "lookahead"
        both = base + weft.chain(halve, double_grad, lr=0.5)
        assert both.names == ("double_grad", "ema", "debias", "halve", "descend")
        assert both.defaults["lr"] == 0.5

    @pytest.mark.parametrize(
        ("cb", "place"),
        [
            (lambda update, s=weft.zeros: {"update": s, "s": s + update}, "update"),
            (lambda update, s=None: {"update": update, "s": update}, "update"),
            (lambda update, grad, s=weft.zeros: {"update": s, "s": s + grad}, "update"),
            (lambda grad, s=weft.zeros: {"update": s, "s": s + grad}, "statistics"),
            (lambda p, s=None: {"update": p.grad, "s": p.grad}, "statistics"),
            (lambda grad, exp_avg: {"update": exp_avg + grad}, "update"),
            (lambda update, s=weft.zeros: {"s": s + update}, "statistics"),
            (lambda grad, s=weft.zeros: s.add_(grad), "statistics"),
            (lambda update, grad: {"grad": grad - update}, "update"),
            (lambda update: print(update), "update"),
            (lambda grad: print(grad), "grad"),
            (lambda grad: grad.mul_(2), "grad"),
            (lambda p, wd: p.grad.data.add_(p.data, alpha=wd), "grad"),
            (lambda p, lr, wd: p.data.mul_(1 - lr * wd), "grad"),
            (lambda p, lr: p.data.add_(p.grad.data, alpha=-lr), "descend"),
            (lambda p, lr, **kwargs: p.data.sub_(lr * kwargs["update"]), "descend"),
            (lambda w, update, lr: {"p": w - lr * update}, "descend"),
            (weft.rename(double_grad, grad="update"), "update"),
            (weft.rename(halve, update="grad"), "grad"),
        ],
    )
    def test_the_rule_of_the_page(self, cb, place):
        assert weft.callback.read(cb).place == place

    def test_the_blocks_say_their_places_themselves(self):
        values = {"eta_energy", "settled_rate", "second_moment_sum", "size"}  # of over_params
        blocks = {n: getattr(weft.callbacks, n) for n in weft.callbacks.__all__ if n != "fastai"}
        assert {n for n, b in blocks.items() if not hasattr(b, "place")} <= values

    def test_a_place_that_was_said_wins(self):
        def odd(update):
            return {"update": update}

        odd.place = "grad"
        assert (base + odd).names[0] == "odd"
        with pytest.raises(weft.ChainError, match="place must be one of"):
            weft.mark(odd, place="nowhere")

    def test_with_anything_else_is_a_type_error(self):
        with pytest.raises(TypeError):
            base + 3

    @pytest.mark.parametrize(
        ("cb", "place"),
        [
            (fastai.l2_reg, "decay"),
            (fastai.average_grad, "statistics"),
            (fastai.adam_step, "descend"),
            (cb.weight_decay, "decay"),
            (cb.ema, "statistics"),
            (cb.precondition, "update"),
            (cb.descend, "descend"),
            (double_grad, "grad"),
            (halve, "update"),
            (descend, "descend"),
        ],
    )
    def test_places(self, cb, place):
        assert weft.callback.read(cb).place == place


class TestAsASequence:
    def test_iteration_length_index_and_membership(self):
        assert list(base) == [cb.ema, cb.debias, cb.descend]
        assert (len(base), base[0], base[-1]) == (3, cb.ema, cb.descend)
        assert cb.ema in base
        assert halve not in base

    def test_a_slice_is_a_chain(self):
        part = base[1:]
        assert isinstance(part, weft.Chain)
        assert part.names == ("debias", "descend")
        assert part.defaults == base.defaults

    def test_equality_and_hash(self):
        same = weft.chain(cb.ema, cb.debias, cb.descend, lr=0.1, betas=(0.5, 0.9))
        assert same == base
        assert hash(same) == hash(base)
        assert base != same.without("debias")
        assert base != weft.chain(*base, lr=0.2, betas=(0.5, 0.9))
        assert len({base, same, base + halve}) == 2

    def test_chains_flatten(self):
        assert weft.chain(double_grad, base, lr=0.5).names == (
            "double_grad", "ema", "debias", "descend",
        )  # fmt: skip
        assert weft.chain(double_grad, base, lr=0.5).defaults["lr"] == 0.5

    def test_only_callbacks(self):
        for wrong in (3, weft.Lookahead, "ema", None):
            with pytest.raises(weft.ChainError, match="a chain takes callbacks"):
                weft.chain(wrong)


def test_repr():
    assert repr(base) == "chain(ema, debias, descend, lr=0.1, betas=(0.5, 0.9))"


@pytest.mark.parametrize(
    "woven",
    [base, base + halve, weft.AdamW.chain(), base + weft.Lookahead(k=3), weft.chain(track, halve)],
)
def test_pickle(woven):
    again = pickle.loads(pickle.dumps(woven))
    assert again.names == woven.names
    assert again.defaults == woven.defaults
    assert repr(again) == repr(woven)
    if not any(isinstance(e, weft.Wrapper) for e in woven):
        assert again == woven


def test_a_pickled_chain_steps_alike():
    p, q = param(1.0, 2.0), param(1.0, 2.0)
    a, b = base([p]), pickle.loads(pickle.dumps(base))([q])
    for _ in range(3):
        a.step()
        b.step()
    assert p.tolist() == q.tolist()


def test_explain_says_what_each_reads_and_returns():
    text = str((base + halve).explain())
    for word in ("ema", "statistics", "exp_avg, update", "halve", "p, update, lr"):
        assert word in text
