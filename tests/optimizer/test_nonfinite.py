"""What a step does about infinities and NaNs in its grads: decided whole, before the first write."""

import copy
import pickle

import pytest
import torch

import weft
from weft.optimizer.nonfinite import culprits

pytestmark = pytest.mark.usefixtures("engine")

BAD = [float("nan"), float("inf"), float("-inf")]


def net(dtype=torch.float32, **hypers):
    """Three named parameters, the last of which has no grad yet; and their AdamW."""
    torch.manual_seed(0)
    params = [
        (n, torch.nn.Parameter(torch.randn(s).to(dtype)))
        for n, s in (("w", (4, 3)), ("b", (3,)), ("c", (2,)))
    ]
    opt = weft.AdamW(params, lr=0.1, **hypers)
    params = [p for _, p in params]
    for p in params[:2]:
        p.grad = torch.randn(p.shape).to(dtype)
    return opt, params


def everything(opt, params):
    return copy.deepcopy(([p.data for p in params], [p.grad for p in params], opt.state_dict()))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) and torch.equal(
            a.isnan(), b.isnan()
        )
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("steps", [0, 2])
def test_skip_leaves_parameters_state_and_counts(bad, dtype, steps):
    opt, params = net(dtype, on_nonfinite="skip")
    for _ in range(steps):
        opt.step()
    params[1].grad[1] = bad
    before = everything(opt, params)
    opt.step()
    assert same(everything(opt, params), before)
    assert opt.skipped_steps == 1
    assert opt.nonfinite == ("'b' (3,)",)
    params[1].grad[1] = 1.0
    opt.step()
    assert opt.skipped_steps == 1
    assert float(opt.state[params[0]]["step"]) == steps + 1


@pytest.mark.parametrize("bad", BAD)
def test_raise_names_the_parameters(bad):
    opt, params = net(on_nonfinite="raise")
    opt.step()
    for p in params[:2]:
        p.grad.view(-1)[0] = bad
    before = everything(opt, params)
    with pytest.raises(weft.NonFiniteError, match=r"parameter 'w' \(4, 3\) and 1 more") as caught:
        opt.step()
    assert isinstance(caught.value, weft.StepError)
    assert caught.value.parameters == ("'w' (4, 3)", "'b' (3,)")
    assert pickle.loads(pickle.dumps(caught.value)).parameters == caught.value.parameters
    assert same(everything(opt, params), before)


def test_keep_is_the_default_and_looks_at_nothing(monkeypatch):
    opt, params = net()
    assert opt.on_nonfinite == "keep"
    monkeypatch.setattr(torch, "_foreach_norm", lambda *a: pytest.fail("a read of the grads"))
    params[0].grad[0, 0] = torch.nan
    opt.step()
    assert params[0].isnan().any()
    assert opt.skipped_steps == 0


def test_unnamed_parameters_are_named_by_place():
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = weft.SGD([{"params": [a]}, {"params": [b]}], lr=0.1, on_nonfinite="raise")
    a.grad, b.grad = torch.ones(2), torch.tensor([torch.nan, 1])
    with pytest.raises(weft.NonFiniteError, match=r"parameter 0 of group 1 \(2,\)"):
        opt.step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_numbers_are_no_alarm(dtype):
    p = torch.nn.Parameter(torch.zeros(1000, dtype=dtype))
    opt = weft.SGD([p], lr=0.0, on_nonfinite="raise")
    p.grad = torch.full((1000,), torch.finfo(dtype).max, dtype=dtype)
    assert not culprits(opt._current())
    opt.step()
    p.grad[-1] = torch.inf
    with pytest.raises(weft.NonFiniteError):
        opt.step()


@pytest.mark.falls_back("complex64")
def test_empty_expanded_and_complex_grads():
    p = [torch.nn.Parameter(torch.zeros(s, dtype=d)) for s, d in
         (((0,), torch.float32), ((3, 2), torch.float32), ((2,), torch.complex64), ((), torch.float64))]  # fmt: skip
    opt = weft.Optimizer(p, [weft.callbacks.descend], lr=0.1, engine="eager", on_nonfinite="skip")
    p[0].grad, p[1].grad = torch.zeros(0), torch.ones(1, 2).expand(3, 2)
    p[2].grad, p[3].grad = torch.ones(2, dtype=torch.complex64), torch.ones((), dtype=torch.float64)
    opt.step()
    assert opt.skipped_steps == 0
    p[2].grad[0] = complex(1.0, float("inf"))
    opt.step()
    assert opt.skipped_steps == 1
    assert "2 of group 0" in opt.nonfinite[0]
    p[2].grad, p[3].grad = None, torch.tensor(torch.nan, dtype=torch.float64)
    opt.step()
    assert opt.skipped_steps == 2


def test_no_grads_at_all():
    opt = weft.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, on_nonfinite="raise")
    opt.step()


def test_it_is_an_attribute_and_survives_copies():
    opt, _ = net(on_nonfinite="skip")
    opt.skipped_steps = 3
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert (other.on_nonfinite, other.skipped_steps) == ("skip", 3)
    opt.load_state_dict(net()[0].state_dict())
    assert opt.on_nonfinite == "skip"
    assert "on_nonfinite" not in opt.param_groups[0]
    with pytest.raises(ValueError, match=r"on_nonfinite must be one of .*not 'ignore'"):
        opt.on_nonfinite = "ignore"
    assert opt.on_nonfinite == "skip"
    with pytest.raises(ValueError, match="on_nonfinite"):
        weft.SGD([torch.nn.Parameter(torch.ones(1))], on_nonfinite="never")


def test_chains_and_create_take_it():
    p = torch.nn.Parameter(torch.ones(1))
    assert weft.AdamW.chain()([p], on_nonfinite="skip").on_nonfinite == "skip"
    assert weft.create("adamw+cautious", [p], lr=0.1, on_nonfinite="raise").on_nonfinite == "raise"


def test_the_closure_is_evaluated_and_its_loss_returned():
    p = torch.nn.Parameter(torch.ones(2))
    opt = weft.SGD([p], lr=0.1, on_nonfinite="skip")

    def closure():
        opt.zero_grad()
        loss = (p * torch.nan).sum()
        loss.backward()
        return loss

    assert opt.step(closure).isnan()
    assert opt.skipped_steps == 1
    assert torch.equal(p.data, torch.ones(2))


def test_inside_sam_the_gradient_that_steps_decides():
    p = torch.nn.Parameter(torch.ones(2))
    opt = weft.SAM(weft.SGD([p], lr=0.1, on_nonfinite="skip"))
    worst = iter([1.0, torch.nan])

    def closure():
        opt.zero_grad()
        loss = (p * next(worst)).sum()
        loss.backward()
        return loss

    assert float(opt.step(closure).detach()) == 2.0
    assert opt.skipped_steps == 1
    assert torch.equal(p.data, torch.ones(2))  # down from the climb, and not stepped


def test_a_scaler_sees_unscaled_grads():
    p = torch.nn.Parameter(torch.ones(2))
    opt = weft.SGD([p], lr=0.1, on_nonfinite="raise")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    scaler.scale((p * 1e-3).sum()).backward()
    scaler.step(opt)
    assert torch.allclose(p.data, torch.full((2,), 1 - 1e-4))
