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
