"""Functions of torch without a handler of their own: composed, left to torch, or refused in a line."""

import warnings

import pytest
import torch
import torch.nn.functional as F

import weft
from weft.callbacks import descend

SHAPE = (4, 3)
STEPS = 5


@torch.jit.script
def scripted(x: torch.Tensor, y: torch.Tensor):
    return torch.where(x > 0, x * y, y.tanh())


@torch.jit.script
def scripted_with_a_number(x: torch.Tensor, y: torch.Tensor, by: float):
    return x * by + y * (1.0 - by) ** 2


def in_place_on_temporaries(g, p, k):
    rows = torch.cat([p.data.abs().unsqueeze(0), g.abs().add_(1e-8).unsqueeze_(0)], 0)
    turned = g.clone().t_().mul_(k).transpose_(0, 1)
    return torch.amax(rows, 0) + turned.unsqueeze(0).squeeze_(0)


def inplace(g, p, k):
    x = g.clone()
    F.relu(x, inplace=True)
    F.silu(x, inplace=True)
    return F.elu(x.sub_(k), inplace=True)


def muon_in_bfloat16(g, p, k):
    x = g.bfloat16()
    x /= x.norm() + 1e-7
    for _ in range(2):
        a = x @ x.T
        x = 1.5 * x - 0.5 * (a @ x)
    return x.to(p.dtype) * k


# what is made of the grad, the parameter and a hyper
REAL = {
    "conj": lambda g, p, k: p.data.addcmul(g, g.conj(), value=k),
    "conj_physical": lambda g, p, k: g.conj_physical().mul_(k) + g,
    "resolve": lambda g, p, k: g.resolve_conj().resolve_neg() * k,
    "real": lambda g, p, k: torch.real(g) * k,
}
SCRIPTS = {
    "script": lambda g, p, k: scripted(g, p.data) * k,
    "script of a hyper": lambda g, p, k: scripted_with_a_number(g, p.data, k),
}
SIXTEEN = {
    "bfloat16": lambda g, p, k: k * g.bfloat16().float(),
    "half": lambda g, p, k: (k * g).half().float(),
    "to": lambda g, p, k: g.to(torch.bfloat16).to(g.dtype) * k,
    "number": lambda g, p, k: g * torch.tensor(k, dtype=torch.bfloat16),
    "arithmetic": lambda g, p, k: g.bfloat16().mul(k).add(p.data.bfloat16(), alpha=k).float(),
    "composed": lambda g, p, k: g.half().addcmul_(p.data.half(), p.data.half(), value=k).float(),
    "mean": lambda g, p, k: g.bfloat16().mean() * k * g,
    "comparison": lambda g, p, k: (g.bfloat16() > 0.1) * g * k,
    "integer": lambda g, p, k: (g * 900).int().half().float() * k,
    "foreach": lambda g, p, k: torch._foreach_lerp([g.half()], [p.data.half()], k)[0].float(),
    "two results": lambda g, p, k: torch.var_mean(g.half(), 0)[1].float() * g * k,
    "update": lambda g, p, k: g.bfloat16() * k,
    "muon": muon_in_bfloat16,
}
MADE = {
    "shapes in place": in_place_on_temporaries,
    "constant_": lambda g, p, k: g + torch.nn.init.constant_(torch.empty_like(p), 1e-3) * k,
    "new": lambda g, p, k: g * k + g.new(g.size()).zero_() + g.new([0.5]),
    "new_zeros": lambda g, p, k: g * k + g.new_zeros(SHAPE) + torch.zeros(p.size()),
    "type": lambda g, p, k: g.double().type(torch.float32).type_as(p) * k,
    "type by name": lambda g, p, k: (g > 0).type("torch.FloatTensor") * k,
    "type in words": lambda g, p, k: g * k if g.type() == "torch.FloatTensor" else g,
}
OTHERS = {
    "inplace": inplace,
    "relu6": lambda g, p, k: F.relu6(g * 9) * k,
    "threshold": lambda g, p, k: F.threshold(g, 0.1, 0.0) * k,
    "glu": lambda g, p, k: F.glu(torch.cat([g, g * k], -1), -1),
    "linear": lambda g, p, k: F.linear(g, torch.eye(3)) * k,
    "mse_loss": lambda g, p, k: F.mse_loss(g, p.data) * g * k,
    "l1_loss": lambda g, p, k: F.l1_loss(g, p.data) * g * k,
    "smooth_l1_loss": lambda g, p, k: F.smooth_l1_loss(g, p.data) * g * k,
    "huber_loss": lambda g, p, k: F.huber_loss(g, p.data) * g * k,
    "isposinf": lambda g, p, k: g * k + torch.isposinf(g) * 1.0 + torch.isneginf(g),
    "logaddexp2": lambda g, p, k: torch.logaddexp2(g, p.data) * k,
    "round": lambda g, p, k: torch.round(g, decimals=1) * k + torch.round(g * 99, decimals=-1),
    "atleast": lambda g, p, k: torch.atleast_3d(torch.atleast_2d(g)).squeeze(-1) * k,
    "column_stack": lambda g, p, k: torch.column_stack([g[:, 0], g[:, 1] * k]).sum() * g,
    "tensor_split": lambda g, p, k: torch.cat(g.tensor_split(3)) * k + g.tensor_split((1, 9))[1][0],
    "foreach_lgamma": lambda g, p, k: torch._foreach_lgamma([g.abs() + k])[0],
    "attributes": lambda g, p, k: g * k if p.name is None and g.get_device() < 0 else g,
    "unfold": lambda g, p, k: g.unfold(0, 2, 2).sum() * g * k,
    "vsplit": lambda g, p, k: torch.cat(g.vsplit(2)) * k,
    "isin": lambda g, p, k: torch.isin(g.sign(), torch.tensor([1.0])) * g * k,
    "nuclear": lambda g, p, k: g * k / g.norm("nuc"),
    "spectral": lambda g, p, k: g * k / torch.linalg.matrix_norm(g, ord=2),
    "norm 2": lambda g, p, k: g * k / torch.linalg.norm(g, 2),
    "norm 1": lambda g, p, k: g * k / torch.linalg.norm(g, 1),
    "norm -1": lambda g, p, k: g * k / torch.linalg.norm(g, -1),
    "norm inf": lambda g, p, k: g * k / torch.linalg.norm(g, float("inf")),
    "norms of a stack": lambda g, p, k: g * k * torch.linalg.matrix_norm(g.view(2, 2, 3)).sum(),
}
CASES = REAL | SCRIPTS | SIXTEEN | MADE | OTHERS


def run(cbs, engine, shape=SHAPE, **hypers):
    """Parameter, optimizer, and the builds after two steps, of five with moving hypers."""
    torch.manual_seed(0)
    p, builds = torch.nn.Parameter(torch.randn(shape)), 0
    opt = weft.Optimizer([p], cbs, engine=engine, **{"lr": 0.1, **hypers})
    for i in range(STEPS):
        opt.param_groups[0].update(
            {k: v * (1 + 0.07 * i) for k, v in hypers.items()}, lr=0.1 / (i + 1)
        )
        p.grad = torch.randn(shape) * 0.3
        opt.step()
        builds = opt.explain().builds if engine == "fused" and i == 1 else builds
    return p, opt, builds


def assert_fuses(cbs, **hypers):
    p, opt, builds = run(cbs, "fused", **hypers)
    q, reference, _ = run(cbs, "eager", **hypers)
    torch.testing.assert_close(p.data, q.data, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(p.grad, q.grad, rtol=1e-5, atol=1e-7)
    for name, value in reference.state[q].items():
        torch.testing.assert_close(opt.state[p][name], value, rtol=1e-5, atol=1e-7)
    assert opt.explain().builds == builds
    return opt


@pytest.mark.parametrize("name", CASES)
def test_a_function_fuses(name):
    make = CASES[name]

    def cb(grad, p, k):
        return {"update": make(grad, p, k)}

    assert_fuses([cb, descend], k=0.3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_cast_rounds_in_the_kernel(dtype):
    def cb(p, grad, lr):
        p.data.sub_(grad.to(dtype).float().mul_(lr).to(dtype))

    opt = assert_fuses([cb])
    assert opt.explain().phases == ["pass over grad, p; writes p"]
    assert "weft_to_" in opt.kernel_source()


def test_a_state_that_is_returned_in_half():
    def cb(p, grad, lr, beta, m=None):
        m = (grad if m is None else m.float() * beta + grad).half()
        return {"m": m, "p": p - lr * m.float()}

    assert_fuses([cb], beta=0.8)


def test_the_parameter_in_bfloat16_with_casts_of_its_own():
    def cb(p, grad, lr):
        p.data.sub_(lr * grad.bfloat16().float().half().float())

    results = []
    for engine in ("fused", "eager"):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(SHAPE).bfloat16())
        opt = weft.Optimizer([p], [cb], engine=engine, lr=0.1)
        for i in range(STEPS):
            opt.param_groups[0]["lr"] = 0.1 / (i + 1)
            p.grad = torch.randn(SHAPE).bfloat16()
            opt.step()
        results.append(p.data)
    assert torch.equal(*results)


def test_adamax_as_torch_writes_it():
    def cb(p, grad, lr, beta, exp_inf=weft.zeros):
        norms = [exp_inf.mul_(beta).unsqueeze(0), grad.abs().add_(1e-8).unsqueeze_(0)]
        exp_inf.copy_(torch.amax(torch.cat(norms, 0), 0))
        p.data.addcdiv_(grad, exp_inf, value=-lr)

    assert_fuses([cb], beta=0.7)


def test_a_norm_is_clipped_within_a_callback():
    def cb(p, lr, **kwargs):
        torch.nn.utils.clip_grad_norm_([p], 0.5)
        p.data.sub_(lr * p.grad)

    assert_fuses([cb])


def test_a_compiled_helper_is_traced_as_it_was_written():
    def plain(x, y):
        return x * y.abs()

    compiled = torch.compile(plain)
    p, _, _ = run([lambda p, grad, lr: p.data.sub_(lr * compiled(grad, p.data))], "fused")
    q, _, _ = run([lambda p, grad, lr: p.data.sub_(lr * plain(grad, p.data))], "eager")
    torch.testing.assert_close(p, q)


def test_a_module_of_torch():
    torch.manual_seed(0)  # its weights are drawn
    layer = torch.nn.Linear(3, 3).requires_grad_(False)
    assert_fuses([lambda p, grad, lr: p.data.sub_(lr * layer(grad))])


COUNTED = 0


class Halved:
    """A user's object; one of its methods could not be traced, and is not called."""

    half = 0.5

    def __call__(self, x):
        return x * self.half

    def save(self):
        global COUNTED
        COUNTED += 1


def test_a_method_that_nobody_calls_refuses_no_chain(monkeypatch):
    halved = Halved()
    assert_fuses([lambda p, grad, lr: p.data.sub_(lr * halved(grad))])
    assert "assigns to a global" in refusal(lambda grad: (halved.save(), {})[1])
    # as transformers does with every module, once it has made a model
    monkeypatch.setattr(torch.nn.Module, "save", Halved.save, raising=False)
    layer = torch.nn.Linear(3, 3).requires_grad_(False)
    assert_fuses([lambda p, grad, lr: p.data.sub_(lr * layer(grad))])


DRAWS = {
    "dropout": lambda g, k: F.dropout(g, k, training=True),
    "poisson": lambda g, k: torch.poisson(g.abs() * 9) * k,
    "multinomial": lambda g, k: torch.multinomial(g.abs().view(-1), 2).sum() * g * k,
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_function_that_draws(name):
    make = DRAWS[name]
    assert_fuses([lambda grad, k: {"update": make(grad, k) + torch.randn(())}, descend], k=0.3)


# ---------------------------------------------------------------- refused


def refusal(cb):
    """Why a chain runs eagerly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", weft.WeftWarning)
        p, opt, _ = run([cb, descend], "auto")
    q, _, _ = run([cb, descend], "eager")
    assert torch.equal(p, q)
    ((_, _, _, why),) = opt.explain().fallbacks
    assert "\n" not in why
    return why


def test_a_tensor_that_was_given_keeps_its_shape():
    def cb(grad):
        grad.unsqueeze_(0)
        return {"update": grad.squeeze_(0)}

    assert "changes the shape of a tensor that it was given" in refusal(cb)


def test_a_view_that_only_torch_knows_is_not_written():
    def through(grad):
        x = grad * 2
        x.unfold(0, 2, 2).zero_()
        return {"update": x}

    def behind(grad):
        x = grad * 2
        rows = x.unfold(0, 2, 2)
        x.zero_()
        return {"update": grad * rows.sum()}

    assert "writes to what unfold gave in place" in refusal(through)
    assert "changes the base of what unfold gave" in refusal(behind)


def test_what_the_tracer_does_not_see():
    why = refusal(lambda grad: {"update": torch.vmap(torch.sin)(grad)})
    assert "cannot look into" in why


@pytest.mark.parametrize(
    "cb",
    [
        lambda grad: {"update": grad * grad.nonzero().shape[0]},
        lambda grad: {"update": F.dropout(grad, 0.5, training=False)},
        lambda grad: {"update": grad.view(torch.int32).view(torch.float32)},
        lambda grad: {"update": F.batch_norm(grad, torch.zeros(3), torch.ones(3), training=True)},
        lambda grad: {"update": grad * torch.fft.fft(grad).abs().sum()},
        lambda grad: {"update": grad.clone().to_sparse().to_dense()},
    ],
    ids=["shape", "shared", "dtype", "writes", "complex", "sparse"],
)
def test_what_is_not_pure(cb):
    assert len(refusal(cb)) < 200
