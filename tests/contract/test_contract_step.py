"""DESIGN 1.1, the built-in step, and a chain that keeps its own."""

import copy

import pytest
import torch

import weft
from contract import descend, param, stepped
from weft.callbacks import fastai

pytestmark = pytest.mark.usefixtures("engine")


def by_step(p, step):
    return {"p": p + step}


def test_it_is_one_in_the_first_step_and_counts_each_parameters_own():
    a, b = param(0.0), param(0.0)
    opt = weft.Optimizer([a, b], [by_step])
    opt.step()
    b.grad = None
    opt.step()
    assert (a.item(), b.item()) == (3, 1)
    assert [opt.state[p]["step"].item() for p in (a, b)] == [2, 1]


def test_it_is_kept_as_torch_keeps_it_and_read_as_a_number():
    def cb(p, step):
        assert not isinstance(step, torch.Tensor)
        return {"p": p * 0.5**step}

    p = param(1.0, dtype=torch.bfloat16)
    opt = stepped(p, cb)
    kept = opt.state[p]["step"]
    assert (kept.dtype, kept.shape, kept.item()) == (torch.float32, (), 1)


def test_it_is_counted_for_a_parameter_that_has_no_grad_yet():
    a, b = param(0.0), param(0.0)
    b.grad = None
    opt = weft.Optimizer([a, b], [by_step])
    opt.step()
    assert opt.state[b]["step"].item() == 0


def test_it_is_kept_only_where_a_callback_reads_it():
    p = param(0.0)
    assert not stepped(p, descend).state.get(p)
    p = param(0.0)
    maybe = lambda update, step=None: {"update": step * update}
    opt = stepped(p, maybe, descend, steps=2)
    assert p.item() == -3
    assert opt.state[p]["step"].item() == 2


def test_a_step_that_fails_is_not_counted():
    def bad(p, step):
        if step == 2:
            raise RuntimeError("no")

    p = param(0.0)
    opt = stepped(p, bad, descend)
    with pytest.raises(weft.StepError, match="no"):
        opt.step()
    assert opt.state[p]["step"].item() == 1


def test_it_goes_on_from_a_state_dict():
    p, q = param(0.0), param(0.0)
    saved = copy.deepcopy(stepped(p, by_step, steps=3).state_dict())
    opt = weft.Optimizer([q], [by_step])
    opt.load_state_dict(saved)
    opt.step()
    assert q.item() == 4


class TestOwnStep:
    def test_a_chain_that_keeps_its_own_owns_the_name_from_there(self):
        def use(p, step):
            return {"p": p + 100 * step}

        p = param(0.0)
        opt = stepped(p, fastai.step_stat, use, steps=2)
        assert p.item() == 300
        assert opt.state[p]["step"] == 2
        assert isinstance(opt.state[p]["step"], int)
        assert "step" not in opt.param_groups[0]

    def test_a_reader_before_it_is_an_error(self):
        with pytest.raises(
            weft.ChainError, match=r"by_step .* reads 'step' before step_stat .*move the reader"
        ):
            weft.Optimizer([param(1.0)], [by_step, fastai.step_stat])

    def test_returned_without_an_initial_value_is_an_error(self):
        def count(step):
            return {"step": step + 1}

        with pytest.raises(weft.ChainError, match=r"count .*step=0"):
            weft.Optimizer([param(1.0)], [count, descend], lr=1.0)

    def test_survives_save_and_load(self):
        p, q = param(0.0), param(0.0)
        saved = copy.deepcopy(stepped(p, fastai.step_stat, by_step, steps=3).state_dict())
        opt = weft.Optimizer([q], [fastai.step_stat, by_step])
        opt.load_state_dict(saved)
        opt.step()
        assert q.item() == 4
        assert opt.state[q]["step"] == 4
