"""Parameters of every kind: complex, 0-dim, empty, strided, frozen, on the meta device, without grads."""

import pytest
import torch
from contract_problems import CASES, IDS, advance, give_grads, parameters, same, snapshot

import weft

# they put parameters on a manifold where these do not start, or compute them from sums alone
ANEW = {"spel", "spectralsphere", "nero", "ftrl"}
# they compute parameters from the start and a sum, which rounds
ROUNDS = {"madgrad", "accsgd", "dadaptsgd"}


def reads_the_loss(name):
    opt = weft.create(name, parameters((2, 2)), lr=0.1)
    return opt.needs_closure or any(group.binding.reads_loss for group in opt._current())


# those that read the loss refuse a step without one
EVERY = [name for name in weft.list_optimizers() if not reads_the_loss(name)]


def torchs(name, params, **options):
    return getattr(torch.optim, name)(params, foreach=False, **options)


def pair(name, options, make):
    """The same parameters twice, under weft and under torch."""
    ours, theirs = make(), make()
    return ours, getattr(weft, name)(ours, **options), theirs, torchs(name, theirs, **options)


def complex_ones():
    return parameters((4, 3), (5,), (), (0,), dtype=torch.complex128)


def strided_ones():
    """A transposed matrix, a slice of one, channels last, and an expanded-free view."""
    g = torch.Generator().manual_seed(3)
    base = torch.randn(4, 6, generator=g, dtype=torch.float64)
    image = torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64)
    tensors = [
        base.clone().t(),
        base.clone()[:, ::2],
        image.to(memory_format=torch.channels_last),
        image.permute(2, 0, 3, 1).clone(memory_format=torch.preserve_format)[1],
    ]
    return [torch.nn.Parameter(t) for t in tensors]


@pytest.mark.parametrize("make", [complex_ones, strided_ones])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_complex_and_strided_parameters_follow_torch(name, options, make):
    ours, a, theirs, b = pair(name, options, make)
    for t in range(8):
        advance(a, ours, 1, t)
        advance(b, theirs, 1, t)
        same(ours, theirs)
    for p, q in zip(ours, theirs, strict=True):
        assert p.stride() == q.stride()
        for key, value in b.state[q].items():
            if isinstance(value, torch.Tensor):
                assert a.state[p][key].dtype == value.dtype


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_a_complex_parameter_is_a_pair_of_real_ones(name, options):
    whole = parameters((4, 3), dtype=torch.complex128)
    pairs = [torch.nn.Parameter(torch.view_as_real(p.detach()).clone()) for p in whole]
    a, b = (getattr(weft, name)(p, **options) for p in (whole, pairs))
    for t in range(5):
        give_grads(whole, t)
        for p, q in zip(whole, pairs, strict=True):
            q.grad = torch.view_as_real(p.grad).clone()
        a.step()
        b.step()
    same([torch.view_as_real(p.detach()) for p in whole], pairs)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_grads_of_other_strides_than_the_parameters(name, options):
    """torch's own fused CPU step is silently wrong here."""
    ours, a, theirs, b = pair(name, options, lambda: parameters((4, 6)))
    for t in range(5):
        advance(b, theirs, 1, t)
        give_grads(ours, t)
        ours[0].grad = ours[0].grad.t().contiguous().t()
        a.step()
        same(ours, theirs)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_grads_are_never_written(name, options):
    for make in (parameters, complex_ones, lambda: parameters(dtype=torch.bfloat16)):
        params = make()
        opt = getattr(weft, name)(params, **options)
        for t in range(3):
            give_grads(params, t)
            held = [(p.grad, p.grad._version, p.grad.clone()) for p in params]
            opt.step()
            for p, (grad, version, value) in zip(params, held, strict=True):
                assert p.grad is grad
                assert grad._version == version
                assert torch.equal(grad, value)


@pytest.mark.parametrize("name", EVERY)
def test_a_step_bumps_the_version_of_what_it_writes(name):
    """So that autograd notices a backward through a parameter that was stepped in between."""
    params = parameters((4, 3))
    opt = weft.create(name, params, lr=0.1)
    advance(opt, params, 1)  # of some the first step only looks
    version = params[0]._version
    advance(opt, params, 1, 1)
    assert params[0]._version > version


@pytest.mark.parametrize("name", EVERY)
def test_a_step_without_grads_is_a_no_op_and_leaves_no_empty_state(name):
    params = parameters((4, 3), (5, 2))
    frozen = parameters((2, 2))[0].requires_grad_(False)
    opt = weft.create(name, [*params, frozen], lr=0.1)
    before = [p.detach().clone() for p in (*params, frozen)]
    for _ in range(3):
        opt.step()
    for p, held in zip((*params, frozen), before, strict=True):
        assert torch.equal(p, held)
    assert all(opt.state.values())
    assert frozen not in opt.state
    advance(opt, params, 2)
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize("name", EVERY)
def test_zero_grads_and_a_zero_rate_make_all_state_and_move_nothing(name):
    """What torch.distributed.checkpoint does to an optimizer that has not stepped yet."""
    if name in ANEW:
        pytest.skip("its first step does not start from the parameter's value")
    for dtype in (torch.float32, torch.bfloat16):
        params = parameters((4, 3), (5, 2), dtype=dtype)
        opt = weft.create(name, params, lr=0.1)
        before = [p.detach().clone() for p in params]
        for p in params:
            p.grad = torch.zeros_like(p)
        for group in opt.param_groups:
            group["lr"] = 0.0
        opt.step(closure=None)
        same(params, before, 1e-6 if name in ROUNDS else 0)
        for p in params:
            for value in opt.state.get(p, {}).values():
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    assert not value.isnan().any()  # a smallest norm that waits is infinite
        kinds = {p: set(s) for p, s in opt.state.items()}
        for group in opt.param_groups:
            group["lr"] = 0.1
        advance(opt, params, 2)
        assert {p: set(s) for p, s in opt.state.items()} == kinds


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "RAdam", "Lion", "Adagrad"])
def test_zero_grads_without_decay_move_nothing(name):
    params = parameters()
    opt = getattr(weft, name)(params, lr=0.1)
    before = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.zeros_like(p)
    opt.step()
    for p, held in zip(params, before, strict=True):
        assert torch.equal(p, held)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_parameters_without_a_grad_now_and_then(name, options):
    ours, a, theirs, b = pair(name, options, parameters)
    for t in range(9):
        for opt, params in ((a, ours), (b, theirs)):
            give_grads(params, t)
            params[t % 3].grad = None
            opt.step()
        same(ours, theirs)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_a_group_frozen_and_unfrozen(name, options):
    ours, a, theirs, b = pair(name, options, parameters)
    for t in range(9):
        for opt, params in ((a, ours), (b, theirs)):
            params[0].requires_grad_(not 3 <= t < 6)
            give_grads([p for p in params if p.requires_grad], t)
            if not params[0].requires_grad:
                params[0].grad = None
            opt.step()
        same(ours, theirs)


def test_a_frozen_parameter_with_a_stale_grad_steps_as_in_torch():
    ours, a, theirs, b = pair("AdamW", {}, parameters)
    for opt, params in ((a, ours), (b, theirs)):
        give_grads(params, 0)
        params[0].requires_grad_(False)
        opt.step()
    same(ours, theirs)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop", "RAdam", "Lion"])
def test_maximize_is_the_minimum_of_the_negative(name):
    up, down = parameters(), parameters()
    a = getattr(weft, name)(up, lr=0.1, weight_decay=0.0, maximize=True)
    b = getattr(weft, name)(down, lr=0.1, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        for p, q in zip(up, down, strict=True):
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            q.grad = -p.grad
        a.step()
        b.step()
    for p, q in zip(up, down, strict=True):
        assert torch.equal(p, q)


def test_maximize_may_differ_by_group_and_change():
    a, b = parameters((3,), (3,))
    opt = weft.SGD([{"params": [a]}, {"params": [b], "maximize": True}], lr=1.0)
    for p in (a, b):
        p.data.zero_()
        p.grad = torch.ones(3, dtype=p.dtype)
    opt.step()
    assert (a[0].item(), b[0].item()) == (-1.0, 1.0)
    opt.param_groups[1]["maximize"] = False
    opt.step()
    assert (a[0].item(), b[0].item()) == (-2.0, 0.0)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "RAdam", "Adagrad"])
@pytest.mark.parametrize("contiguous", [True, False])
def test_the_loss_goes_down_and_up_with_maximize(name, contiguous):
    for maximize in (False, True):
        weight = torch.arange(12.0).reshape(4, 3)
        weight = torch.nn.Parameter((weight if contiguous else weight.t()) / 10)
        opt = getattr(weft, name)([weight, *parameters((3,))], lr=0.01, maximize=maximize)

        def closure():
            opt.zero_grad()
            loss = weight.sub(0.3).square().mean()
            loss.backward()
            return loss

        first = closure().item()
        for _ in range(10):
            opt.step(closure)
        assert (closure().item() < first) != maximize


def test_a_model_on_the_meta_device_materialised_later():
    torch.__future__.set_swap_module_params_on_conversion(True)  # the parameters stay themselves
    try:
        with torch.device("meta"):
            model = torch.nn.Linear(3, 2)
        opt = weft.AdamW(model.parameters(), lr=0.1)
        assert not opt.state
        model.to_empty(device="cpu")
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    torch.manual_seed(0)
    model.reset_parameters()
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.ones(1, 3)).sum().backward()
    opt.step()
    for p, held in zip(model.parameters(), before, strict=True):
        assert not torch.equal(p, held)
        assert opt.state[p]["exp_avg"].device.type == "cpu"


def test_a_step_on_the_meta_device_only_makes_state():
    p = torch.nn.Parameter(torch.empty(3, device="meta"))
    opt = weft.AdamW([p])
    p.grad = torch.empty_like(p)
    opt.step()
    assert opt.state[p]["exp_avg"].is_meta


def test_parameters_that_are_replaced_in_their_group_are_stepped():
    """As wrappers of models do that swap a parameter for a shard of it."""
    params = parameters((3,))
    opt = weft.SGD(params, lr=1.0)
    other = torch.nn.Parameter(torch.zeros(3))
    opt.param_groups[0]["params"][0] = other
    other.grad = torch.ones(3)
    opt.step()
    assert torch.equal(other.detach(), -torch.ones(3))


def test_a_sparse_grad_is_refused_before_anything_is_written():
    table = torch.nn.Embedding(4, 2, sparse=True)
    (dense,) = parameters((3,))
    opt = weft.AdamW([dense, table.weight])
    table(torch.tensor([1])).sum().backward()
    dense.grad = torch.ones_like(dense)
    held = dense.detach().clone()
    with pytest.raises(weft.StepError, match="sparse grad"):
        opt.step()
    assert torch.equal(dense, held)
    snapshot(opt)


def test_changing_a_parameters_data_dtype_and_place_between_steps():
    params = parameters((3,), dtype=torch.float32)
    opt = weft.AdamW(params, lr=0.1)
    advance(opt, params, 2)
    params[0].data = params[0].data.clone()
    advance(opt, params, 2, 2)
    assert int(opt.state[params[0]]["step"]) == 4
