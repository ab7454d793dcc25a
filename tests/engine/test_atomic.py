"""A fused step is all or nothing; an eager one says where it stopped."""

import signal

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import weft
from weft.engine.backends.c.launch import CLaunch, CStep
from weft.engine.runtime import regions
from weft.engine.runtime.interrupts import Uninterrupted


def params_of(opt):
    return [p for g in opt.param_groups for p in g["params"]]


def picture(opt):
    """Parameters, grads, and the state that has been made; zeros may have been made on the way."""
    own = [
        {k: v.clone() for k, v in opt.state[p].items() if v.count_nonzero()} for p in params_of(opt)
    ]
    return (
        [p.detach().clone() for p in params_of(opt)],
        [p.grad.clone() for p in params_of(opt)],
        own,
    )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return len(a) == len(b) and all(map(same, a, b))


def give_grads(opt):
    torch.manual_seed(1)
    for p in params_of(opt):
        p.grad = torch.randn(p.shape)


def two_groups(first, second):
    torch.manual_seed(0)
    groups = [
        {"params": [torch.nn.Parameter(torch.randn(6, 4)) for _ in range(2)], "cbs": first},
        {"params": [torch.nn.Parameter(torch.randn(5, 3)) for _ in range(2)], "cbs": second},
    ]
    opt = weft.Optimizer(groups, [], lr=0.1, engine="fused")
    give_grads(opt)
    return opt


class OutOfMemory(TorchDispatchMode):
    """The n-th operation of torch that makes a tensor fails."""

    def __init__(self, n):
        super().__init__()
        self.left = n

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        memory = {t.untyped_storage()._cdata for t in tensors_in((args, kwargs))}
        if any(t.untyped_storage()._cdata not in memory for t in tensors_in(out)):
            self.left -= 1
            if self.left == 0:
                raise MemoryError("no memory")
        return out


def tensors_in(x):
    if isinstance(x, torch.Tensor):
        return [x]
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, tuple | list) else ()
    return [t for part in parts for t in tensors_in(part)]


def remember(update):
    return {"update": update @ update.T @ update, "basis": torch.linalg.qr(update)[0]}


def rotate(p, grad):
    return {"p": (p @ grad.T @ grad).to(p.dtype)}


MOMENTUM = weft.SGD.chain(momentum=0.9)
OF_TORCH = {
    "muon": weft.Muon.chain(),
    "shampoo": weft.Shampoo.chain(),
    "a state that torch makes": weft.chain(remember, weft.callbacks.descend),
    "a parameter that torch computes": weft.chain(rotate),
}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("name", OF_TORCH)
def test_an_allocation_that_fails_comes_before_the_first_write(monkeypatch, name, together):
    if not together:
        monkeypatch.setattr(regions, "BATCH", 1)
    opt, other = two_groups(MOMENTUM, OF_TORCH[name]), two_groups(MOMENTUM, OF_TORCH[name])
    for o in (opt, other):  # the last of each group has no state yet when memory runs out
        for _ in range(2):
            for g in o.param_groups:
                g["params"][-1].grad = None
            o.step()
            give_grads(o)
    before, n = picture(opt), 0
    while True:
        n += 1
        try:
            with OutOfMemory(n):
                opt.step()
        except MemoryError:
            assert same(picture(opt), before), n
        else:
            break
    assert n > 4
    other.step()
    assert same(picture(opt), picture(other))


def inverse(x):
    return torch.linalg.inv(x.T @ x)


@pytest.mark.parametrize("order", [1, -1])
def test_torchs_own_work_fails_before_any_group_writes(order):
    total = weft.over_params("total", lambda grad: grad.square().sum(), op="sum", scope="group")

    def whiten(update, total):
        return {"update": (update / total) @ inverse(update)}

    hard = weft.chain(total, whiten, weft.callbacks.descend)
    opt = two_groups(*[MOMENTUM, hard][::order])
    opt.step()
    give_grads(opt)
    params_of(opt)[0 if order < 0 else -1].grad.zero_()  # a singular matrix
    before = picture(opt)
    with pytest.raises(RuntimeError, match="singular"):
        opt.step()
    assert same(picture(opt), before)


CLIPPED = weft.AdamW.chain() + weft.callbacks.clip_global_norm


@pytest.fixture(autouse=True)
def interruptible():
    """Python's own handler, also where tests run in the background, without one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("chains", "of"),
    [((CLIPPED, CLIPPED), CLaunch), ((CLIPPED, MOMENTUM), CLaunch),
     ((MOMENTUM, MOMENTUM), CStep), ((weft.AdamW.chain(), weft.Lion.chain()), CStep)],
)  # fmt: skip
def test_an_interrupt_within_the_commit_waits_for_its_end(monkeypatch, chains, of):
    opt, other = two_groups(*chains), two_groups(*chains)
    opt.step()
    other.step()
    real = of.run

    def run(*args):
        if of is CLaunch:  # several calls: it comes before the first of them
            signal.raise_signal(signal.SIGINT)
        real(*args)
        if of is CStep:  # one call: Python handles it when that is through
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(of, "run", run)
        with pytest.raises(KeyboardInterrupt):
            opt.step()
    other.step()
    assert same(picture(opt), picture(other))
    opt.step()
    other.step()
    assert same(picture(opt), picture(other))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_before_the_step_is_not_kept():
    with pytest.raises(KeyboardInterrupt), Uninterrupted():
        signal.raise_signal(signal.SIGINT)
    with Uninterrupted():
        pass


def test_eager_says_where_it_stopped_and_puts_grads_back():
    def halve_then_fail(p, grad):
        if p.shape == (2,):
            raise FloatingPointError("too much")
        return {"grad": grad / 2}

    params = [("a", torch.nn.Parameter(torch.ones(3))), ("b", torch.nn.Parameter(torch.ones(2)))]
    opt = weft.Optimizer(params, [halve_then_fail, weft.callbacks.descend], lr=0.1, engine="eager")
    grads = [torch.full((3,), 2.0), torch.full((2,), 2.0)]
    for (_, p), g in zip(params, grads, strict=True):
        p.grad = g
    message = r"halve_then_fail.*FloatingPointError for parameter 'b' \(2,\).*1 of 2 parameters had already"
    with pytest.raises(weft.StepError, match=message):
        opt.step()
    for (_, p), g in zip(params, grads, strict=True):
        assert p.grad is g
        assert torch.equal(g, torch.full_like(g, 2.0))
