"""Values over all parameters that come with a callback; the place of decay; spikes."""

import copy
import math
from functools import partial

import pytest
import torch

import weft
from weft import callbacks as cb


def params(seed=0, shapes=((4, 3), (5,), ())):
    gen = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(s, generator=gen, dtype=torch.float64)) for s in shapes]


def give(ps, t):
    gen = torch.Generator().manual_seed(100 + t)
    for p in ps:
        p.grad = torch.randn(p.shape, generator=gen, dtype=p.dtype)


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_global_clipping_is_torchs_over_two_groups(engine):
    ours, theirs = params(), params()
    opt = (weft.AdamW.chain() + cb.clip_global_norm)(
        [{"params": ours[:1]}, {"params": ours[1:], "lr": 0.1}],
        lr=0.01,
        max_norm=1.5,
        engine=engine,
    )
    ref = torch.optim.AdamW([{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.1}], lr=0.01)
    for t in range(10):
        give(ours, t)
        give(theirs, t)
        torch.nn.utils.clip_grad_norm_(theirs, 1.5)
        opt.step()
        ref.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_clipping_comes_before_decay_and_penalty():
    assert (weft.AdamW.chain() + cb.clip_unit).names[:2] == ("clip_unit", "weight_decay")
    assert (weft.SGD.chain() + cb.clip_global_norm).names[:2] == ("clip_global_norm", "l2")


def test_the_limit_is_a_hyper_that_can_be_scheduled_or_bound():
    p = torch.nn.Parameter(torch.zeros(1))
    opt = (weft.SGD.chain() + cb.clip_global_norm)([p], lr=1.0)
    opt.set_hypers(max_norm=0.25)
    p.grad = torch.ones(1)
    opt.step()
    assert float(p.detach()) == pytest.approx(-0.25, rel=1e-5)
    bound = (weft.SGD.chain() + partial(cb.clip_global_norm, max_norm=0.5))([p], lr=1.0)
    bound.step()
    assert float(p.detach()) == pytest.approx(-0.75, rel=1e-5)


def test_two_callbacks_share_an_equal_value_and_refuse_another():
    def scale(update, grad_sq_norm=cb.units.grad_sq_norm):
        return {"update": update / grad_sq_norm}

    bound = weft.SGD.chain() + cb.clip_global_norm + scale
    assert bound([torch.nn.Parameter(torch.ones(1))], lr=1.0)._bound[0].binding.over == (
        "grad_sq_norm",
    )

    other = weft.over_params("grad_sq_norm", lambda grad: grad.abs().sum())

    def another(update, grad_sq_norm=other):
        return {"update": update / grad_sq_norm}

    with pytest.raises(weft.ChainError, match="in two ways"):
        (weft.SGD.chain() + cb.clip_global_norm + another)(params(), lr=1.0)


@pytest.mark.parametrize("name", ["Prodigy", "DAdaptAdam", "DoG", "MoMo", "AdGD", "AdaGC"])
def test_what_is_learned_survives_a_checkpoint_to_the_bit(name):
    ours, theirs = params(), params()
    opt, again = getattr(weft, name)(ours), getattr(weft, name)(theirs)
    for t in range(9):
        if t == 4:
            for a, b in zip(ours, theirs, strict=True):
                b.data.copy_(a.data)
            again = getattr(weft, name)(theirs)
            again.load_state_dict(copy.deepcopy(opt.state_dict()))
        for ps, o in ((ours, opt), (theirs, again)):
            give(ps, t)
            o.step(loss=1.0 / (t + 1))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def test_one_d_for_all_groups():
    ps = params()
    opt = weft.Prodigy([{"params": ps[:1]}, {"params": ps[1:], "lr": 0.5}], d0=1e-2)
    for t in range(10):
        give(ps, 0)
        opt.step()
    first, second = (g["d"] for g in opt.param_groups)
    assert first == second > 1e-2


def test_a_step_that_is_not_finite_is_skipped_and_forgotten():
    ps = params()
    opt = (weft.AdamW.chain() + weft.SkipSpikes(window=4))(ps, lr=0.1)
    give(ps, 0)
    opt.step()
    before, norms = [p.detach().clone() for p in ps], opt.param_groups[0]["skipspikes_norms"]
    ps[0].grad[0, 0] = math.inf
    opt.step()
    assert all(torch.equal(a, b) for a, b in zip(ps, before, strict=True))
    assert opt.param_groups[0]["skipspikes_norms"] == norms
    assert opt.param_groups[0]["skipspikes_skipped"] == 1
    assert float(opt.state[ps[0]]["step"]) == 1


@pytest.mark.filterwarnings("ignore:.*rounded away in 16 bits")
def test_a_bfloat16_parameter_keeps_its_numbers_in_double():
    p = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    opt = weft.LDoG([p])
    p.grad = torch.full_like(p, 0.01)
    for _ in range(3):
        opt.step()
    assert opt.state[p]["sq_sum"].dtype == torch.float64


def state_norm(m, weight=2.0):
    return weight * (m * m).sum()


def over_state(update, m=weft.zeros, total=weft.over_params("total", state_norm)):
    m = 0.5 * m + update
    return {"m": m, "update": update / (1 + total)}


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_a_renamed_state_or_hyper_is_the_one_that_a_value_reads(engine):
    plain, renamed = params(), params()
    a = weft.Optimizer(plain, [over_state, cb.descend], lr=0.1, weight=3.0, engine=engine)
    slow = weft.rename(over_state, m="slow", weight="share")
    b = weft.Optimizer(renamed, [slow, cb.descend], lr=0.1, share=3.0, engine=engine)
    for t in range(4):
        give(plain, t)
        give(renamed, t)
        a.step()
        b.step()
    for x, y in zip(plain, renamed, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(a.state[x]["m"], b.state[y]["slow"])


def test_two_that_are_renamed_alike_share_the_value():
    def reader(update, m, total=weft.over_params("total", state_norm)):
        return {"update": update / (1 + total)}

    both = [weft.rename(f, m="slow", total="all") for f in (over_state, reader)]
    chain = weft.chain(*both, cb.descend, lr=0.1)
    names = [c.name for c in chain(params())._bound[0].binding.calls]
    assert names == ["all", "over_state", "reader", "descend"]
