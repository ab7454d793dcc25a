"""What lies where it may not, moves, or is of a kind that kernels do not know: as the eager loop has it."""

import multiprocessing

import pytest
import torch

import weft
from weft.callbacks import descend

engines = pytest.mark.parametrize("engine", ["eager", "auto"])
quiet = pytest.mark.filterwarnings("ignore::weft.WeftWarning")


def parameter(value=1.0, shape=(3,), **options):
    p = torch.nn.Parameter(torch.full(shape, value, **options))
    p.grad = torch.ones_like(p)
    return p


@quiet
@engines
def test_a_captured_parameter_that_steps_too(engine):
    a, b = parameter(), parameter()

    def scaled(p, grad, lr):
        return {"p": p - lr * grad * a}

    opt = weft.Optimizer([a, b], [scaled], lr=0.5, engine=engine)
    opt.step()
    assert torch.equal(b.detach(), torch.full((3,), 0.75))


@quiet
@engines
def test_a_hyper_that_is_a_parameter(engine):
    a, b = parameter(0.5, ()), parameter()
    a.grad.fill_(0.5)
    weft.Optimizer([a, b], [descend], lr=a.data, engine=engine).step()
    assert torch.equal(b.detach(), torch.full((3,), 0.75))


@quiet
@engines
def test_memory_that_cannot_be_written_is_refused_before_the_first_write(engine):
    def decay(p, wd=0.1):
        p.grad.data.add_(p.data, alpha=wd)

    a, b = parameter(), parameter()
    a.grad = torch.ones(1).expand(3)
    opt = weft.Optimizer([a, b], [decay, descend], lr=0.1, engine=engine)
    with pytest.raises(weft.errors.StepError, match="parameter 0 of group 0"):
        opt.step()
    assert torch.equal(a, torch.ones(3))
    assert torch.equal(b, torch.ones(3))

    p = parameter()
    opt = weft.AdamW([p], weight_decay=0.0, engine=engine)
    opt.step()
    before = p.detach().clone()
    opt.state[p]["exp_avg"] = torch.zeros(1).expand(3)
    with pytest.raises(weft.errors.StepError, match="parameter 0 of group 0"):
        opt.step()
    assert torch.equal(p, before)


@quiet
def test_a_parameter_that_becomes_a_negated_view_of_itself():
    ends = []
    for engine in ("eager", "auto"):
        p = parameter()
        opt = weft.SGD([p], lr=0.1, engine=engine)
        opt.step()
        opt.step()
        p.data = torch._neg_view(p.data)
        opt.step()
        ends.append(p.detach().resolve_neg())
    assert torch.equal(*ends)


@quiet
@engines
def test_another_default_device(engine):
    a, b = parameter(), parameter()
    opt = weft.AdamW([a, b], lr=0.1, engine=engine)
    opt.step()
    try:
        torch.set_default_device("meta")
        a.grad = None
        opt.step()
        c = torch.nn.Parameter(torch.ones(2, 2, device="cpu"))
        c.grad = torch.ones_like(c)
        weft.Muon([c], engine=engine).step()
    finally:
        torch.set_default_device(None)
    assert opt.state[b]["step"].item() == 2
    assert not torch.equal(c, torch.ones(2, 2))


def _steps(opt, p):
    for _ in range(5):
        p.grad = torch.ones(3)
        opt.step()


@pytest.mark.processes
def test_counts_in_shared_memory_are_counted_there():
    """Processes that train one model together share its states, counts included."""
    p = parameter()
    p.share_memory_()
    opt = weft.AdamW([p], lr=0.01)
    opt.step()
    p.grad = None
    step = opt.state[p]["step"]
    for t in opt.state[p].values():
        t.share_memory_()
    fork = multiprocessing.get_context("fork")
    for _ in range(2):
        child = fork.Process(target=_steps, args=(opt, p))
        child.start()
        child.join(60)
        assert child.exitcode == 0
    assert opt.state[p]["step"] is step
    assert step.item() == 11


@quiet
@engines
@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Lion", "RAdam"])
def test_a_tensor_among_the_betas(engine, name):
    p = parameter()
    beta = torch.tensor(0.8)
    opt = getattr(weft, name)([p], betas=(beta, 0.99), engine=engine)
    plain = parameter()
    other = getattr(weft, name)([plain], betas=(0.8, 0.99), engine="eager")
    for value in (0.8, 0.5, 0.6):
        beta.fill_(value)
        other.set_hyper("betas", (beta.item(), 0.99))
        opt.step()
        other.step()
    torch.testing.assert_close(p, plain, rtol=1e-5, atol=1e-6)
    assert not opt.explain().fallbacks


@engines
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_in_tensors_of_16_bits(engine, dtype):
    p, q = parameter(), parameter()
    rate = torch.tensor(0.1, dtype=dtype)
    opt, other = weft.AdamW([p], lr=rate, engine=engine), weft.AdamW([q], lr=rate.item())
    for _ in range(3):
        opt.step()
        other.step()
    torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)
    loss = torch.tensor(1.0, dtype=dtype)
    weft.PolyakSGD([p], engine=engine).step(loss=loss)


def draws(p, grad, lr):
    direction = grad.sign() if p.ndim == 2 else grad
    return {"p": p - lr * direction + 0.1 * torch.randn_like(p)}


@pytest.mark.parametrize("name", ["draws", "PSGDKron"])
def test_random_numbers_are_drawn_in_the_order_of_parameters(name):
    """Whatever kernels they have: two chains, two shapes, two ranks."""
    ends = []
    for engine in ("eager", "fused"):
        ps = [parameter(0.5, s) for s in ((6,), (6, 8), (6,), (6, 8))]
        if name == "draws":
            groups = [{"params": ps[::2]}, {"params": ps[1::2], "lr": 0.2}]
            opt = weft.Optimizer(groups, [draws], lr=0.1, engine=engine)
        else:
            opt = weft.PSGDKron(ps, lr=0.1, engine=engine)
        torch.manual_seed(1)
        for _ in range(3):
            opt.step()
        ends.append([p.detach() for p in ps])
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_shared_value_that_follows_from_the_step_is_the_first_parameters():
    def own(step):
        return {"steps": step}

    def rate(steps, lr, r=weft.shared(0.0)):  # reads no `step`: its group has no count of its own
        return {"r": lr * steps}

    def apply(p, grad, r):
        return {"p": p - r * grad}

    ends = []
    for engine in ("eager", "auto"):
        a, b = parameter(0.0), parameter(0.0)
        opt = weft.Optimizer([a, b], [own, rate, apply], lr=1.0, engine=engine)
        grad, b.grad = b.grad, None
        opt.step()
        b.grad = grad
        if engine == "eager":
            opt.step()
        else:
            with pytest.warns(weft.WeftWarning, match="at different ones"):
                opt.step()
        opt.step()
        ends.append(b.detach())
    assert torch.equal(*ends)
