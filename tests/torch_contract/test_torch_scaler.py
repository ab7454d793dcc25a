"""torch's GradScaler, in both of its protocols."""

import pytest
import torch
from contract_problems import parameters, same

import weft

PROTOCOLS = ["the scaler unscales", "the optimizer unscales"]


def train(cls, protocol, grads, scale=1024.0, clip=False, **options):
    """Steps under a scaler; the grads are given unscaled."""
    params = parameters((4, 3), (5,), dtype=torch.float32)
    opt = cls(params, lr=0.1, **options)
    if protocol == PROTOCOLS[1]:
        opt._step_supports_amp_scaling = True
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
    for factor in grads:
        opt.zero_grad()
        loss = sum((p * (p.detach() + 1) * factor).sum() for p in params)
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(opt)
            torch.nn.utils.clip_grad_norm_(params, 0.5)
        scaler.step(opt)
        scaler.update()
    return params, opt, scaler


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop"])
def test_a_scaled_step_is_torchs(name, protocol, clip):
    grads = [1.0, 0.5, float("inf"), 2.0, float("nan"), 1.0]
    ours, opt, scaler = train(getattr(weft, name), protocol, grads, clip=clip)
    theirs, _, other = train(getattr(torch.optim, name), PROTOCOLS[0], grads, clip=clip)
    same(ours, theirs, 1e-5)
    assert scaler.get_scale() == other.get_scale()
    assert not hasattr(opt, "found_inf")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_overflow_leaves_everything_as_it_was(protocol):
    once, opt, _ = train(weft.AdamW, protocol, [1.0])
    twice, after, scaler = train(weft.AdamW, protocol, [1.0, float("inf")])
    for a, b in zip(once, twice, strict=True):
        assert torch.equal(a, b)
        assert opt.state[a]["step"] == after.state[b]["step"] == 1
        assert torch.equal(opt.state[a]["exp_avg"], after.state[b]["exp_avg"])
    assert scaler.get_scale() == 512.0


def test_both_protocols_come_to_the_same_bits():
    grads = [1.0, 0.3, 0.7]
    a, *_ = train(weft.AdamW, PROTOCOLS[0], grads, scale=3.0)
    b, *_ = train(weft.AdamW, PROTOCOLS[1], grads, scale=3.0)
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y)


def test_an_overflow_does_not_count_for_what_goes_around_the_step():
    params = parameters((3,), dtype=torch.float32)
    opt = weft.Lookahead(weft.SGD(params, lr=0.1), k=2)
    opt._step_supports_amp_scaling = True
    opt.grad_scale, opt.found_inf = torch.tensor(2.0), torch.tensor(3.0)  # any number but 0
    params[0].grad = torch.ones(3)
    before = params[0].detach().clone()
    opt.step()
    assert torch.equal(params[0], before)
    assert opt.param_groups[0]["lookahead_step"] == 0


def test_a_scheduler_sees_skipped_steps_as_torchs_does():
    """The first step overflowed, so the scheduler's warning about the order is not ours to add."""
    params = parameters((3,), dtype=torch.float32)
    opt = weft.SGD(params, lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1)
    for _ in range(2):
        scaler.scale(params[0].sum()).backward()
        scaler.step(opt)
        scaler.update()
        scheduler.step()
    assert opt.param_groups[0]["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_scaler_with_a_chain_over_all_parameters(protocol):
    """A clip within the chain sees grads that have been unscaled."""
    norm = weft.over_params("norm_sq", lambda grad: grad.square().sum())

    def clip(grad, norm_sq, max_norm=0.5):
        return {"grad": grad * (max_norm / norm_sq.sqrt()).clamp(max=1)}

    chain = weft.chain(norm, clip, weft.callbacks.descend)
    ours, *_ = train(lambda p, lr: chain(p, lr=lr), protocol, [1.0, 0.3])
    theirs, *_ = train(torch.optim.SGD, PROTOCOLS[0], [1.0, 0.3], clip=True)
    same(ours, theirs, 1e-5)


# ---------------------------------------------------------------- closures

SHARP = [weft.SAM, weft.ASAM, weft.GCSAM, weft.GSAM, weft.WSAM, weft.LookSAM, weft.FriendlySAM]


def with_closure(wrapper, protocol, options=None):
    """A parameter, an optimizer with a wrapper around it, and a scaler."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    opt = weft.SGD([p], lr=0.1, **(options or {}))
    opt = wrapper(opt) if wrapper else opt
    if protocol == PROTOCOLS[1]:
        opt._step_supports_amp_scaling = True
    return p, opt, torch.amp.GradScaler("cpu", init_scale=1024.0)


def evaluation(p, opt, scale, divided=1.0):
    def closure():
        opt.zero_grad()
        loss = (p**4).sum()
        scale(loss).backward()
        p.grad.div_(divided)
        return loss

    return closure


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "wrapper", [*SHARP, weft.GPA, weft.Mechanic, weft.TRAC, weft.Lookahead, None]
)
def test_a_closure_that_calls_backward_is_refused(wrapper, protocol, scheduled):
    p, opt, scaler = with_closure(wrapper, protocol)
    if scheduled:
        torch.optim.lr_scheduler.StepLR(opt, 1)  # it wraps the step
    closure = evaluation(p, opt, scaler.scale)
    closure()
    with pytest.raises(weft.StepError, match="divides the grads by the scale"):
        scaler.step(opt, closure)
    assert p.tolist() == [1.0, -2.0]
    opt.step(evaluation(p, opt, lambda loss: loss))  # nothing of the scaler is left


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("wrapper", SHARP)
def test_the_way_that_works_is_the_step_without_a_scale(wrapper, protocol):
    p, opt, scaler = with_closure(wrapper, protocol)
    q, plain, _ = with_closure(wrapper, protocol)
    for _ in range(4):
        opt.step(evaluation(p, opt, scaler.scale, divided=scaler.get_scale()))
        plain.step(evaluation(q, plain, lambda loss: loss))
    assert torch.equal(p, q)


@pytest.mark.parametrize("wrapper", SHARP)
def test_an_overflow_there_is_skipped(wrapper):
    p, opt, _ = with_closure(wrapper, PROTOCOLS[0], {"on_nonfinite": "skip"})
    opt.step(evaluation(p, opt, lambda loss: loss * float("inf")))
    assert p.tolist() == [1.0, -2.0]
    assert opt.skipped_steps == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_closure_that_gives_the_loss_alone_is_taken(protocol):
    p, opt, scaler = with_closure(None, protocol)
    evaluation(p, opt, scaler.scale)()
    assert scaler.step(opt, lambda: torch.tensor(3.0)) == 3
    torch.testing.assert_close(p.detach(), torch.tensor([1.0 - 0.4, -2 + 3.2]))


def test_a_scaler_that_is_off_takes_any_closure():
    p, opt, _ = with_closure(weft.SAM, PROTOCOLS[0])
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    scaler.step(opt, evaluation(p, opt, scaler.scale))
    assert p.tolist() != [1.0, -2.0]
