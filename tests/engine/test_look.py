"""What a step notices about its tensors, looked at from C and from Python."""

from typing import ClassVar

import pytest
import torch

import weft
from weft.engine.run import look
from weft.hooks import hooked


@pytest.fixture(params=["from C", "from Python"])
def way(request, monkeypatch):
    if request.param == "from Python":
        monkeypatch.setattr(look, "_offset", lambda: None)
    elif look._offset() is None:
        pytest.skip("this torch or Python does not let C look at tensors")
    return request.param


def parameters(*shapes):
    torch.manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    for p in made:
        p.grad = torch.randn_like(p)
    return made


def test_c_can_look_at_the_tested_torch():
    assert look._offset() is not None


def test_memory(way):
    a, b = parameters((3, 4), (5,))
    memory = look.watch_memory([a, b])
    assert memory.unmoved()
    a.data = a.data.clone()
    assert not memory.unmoved()
    memory = look.watch_memory([a, b])
    b.data = b.data[:3]
    assert not memory.unmoved()


def test_grads(way):
    a, b, c = parameters((3, 4), (4, 4), ())
    grads = look.watch_grads([a, b, c])
    assert grads.look()
    assert grads.which == b""
    assert list(grads.at) == [p.grad.data_ptr() for p in (a, b, c)]
    layout = grads.remember()
    assert grads.laid_out(layout)
    b.grad = b.grad.t()
    assert grads.look()
    assert not grads.laid_out(layout)
    b.grad = None
    assert grads.look()
    assert grads.which == bytes([1, 0, 1])
    assert list(grads.at) == [a.grad.data_ptr(), c.grad.data_ptr()]
    assert not grads.laid_out(layout)
    a.grad = c.grad = None
    assert grads.look()
    assert not len(grads.at)
    assert grads.which == bytes(3)


def test_a_grad_of_another_dtype_at_the_same_place(way):
    (p,) = parameters((8,))
    grads = look.watch_grads([p])
    assert grads.look()
    layout = grads.remember()
    p.grad.data = p.grad.data.view(torch.int32)
    assert grads.look()
    assert not grads.laid_out(layout)


def test_a_sparse_grad_has_no_memory_of_its_own(way, capfd):
    p = torch.nn.Parameter(torch.randn(4, 2))
    p.grad = torch.randn(4, 2).to_sparse()
    assert not look.watch_grads([p]).look()
    assert capfd.readouterr().err == ""


def test_holders(way):
    dicts = [{"a": torch.ones(2), "b": torch.zeros(1)} for _ in range(3)]
    holders = look.watch_holders(["a", "a", "b"], dicts)
    assert holders.hold()
    kept = dicts[1]["a"]
    dicts[1]["a"] = torch.ones(2)
    assert not holders.hold()
    dicts[1]["a"] = kept
    assert holders.hold()
    dicts[2]["c"] = 1
    assert not holders.hold()
    del dicts[2]["c"], dicts[2]["b"]
    assert not holders.hold()


CHANGES = {
    "data replaced": lambda p, own: setattr(p, "data", p.data.clone()),
    "implementations swapped": lambda p, own: torch.utils.swap_tensors(
        p, torch.nn.Parameter(p.detach().clone())
    ),
    "state replaced": lambda p, own: own.update(exp_avg=own["exp_avg"].clone()),
    "state re-pointed": lambda p, own: setattr(own["exp_avg"], "data", own["exp_avg"].data + 0),
    "state resized in place": lambda p, own: own["exp_avg"].set_(own["exp_avg"].clone()),
    "step replaced": lambda p, own: own.update(step=torch.tensor(7.0)),
    "step written": lambda p, own: own["step"].fill_(7.0),
    "grad transposed": lambda p, own: setattr(p, "grad", p.grad.t().contiguous().t()),
    "grad re-pointed": lambda p, own: setattr(p.grad, "data", p.grad.data * 1),
    "grad missing": lambda p, own: setattr(p, "grad", None),
    "state gone": lambda p, own: own.clear(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_notices(way, change):
    """After any of these a fused step is what the eager one is."""
    ends = []
    for engine in ("eager", "fused"):
        params = parameters((4, 3), (5,), (2, 2))
        opt = weft.AdamW(params, lr=0.1, engine=engine)
        for _ in range(2):
            opt.step()
        p = params[0]
        grad = p.grad.clone()
        if change == "implementations swapped":
            p.grad = None
        CHANGES[change](p, opt.state[p])
        if change == "implementations swapped":
            p.grad = grad
        for _ in range(2):
            opt.step()
        ends.append([*params, *(s for q in params for s in opt.state[q].values())])
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_nobody_listens_and_somebody_does():
    heard = []

    class Thing:
        _optimizer_step_pre_hooks: ClassVar[dict] = {}
        _optimizer_step_post_hooks: ClassVar[dict] = {}

        def _optimizer_step_code(self):
            heard.append("code")

        @hooked
        def step(self, x):
            heard.append(x)
            return x

    thing = Thing()
    assert thing.step(1) == 1
    assert heard == [1]
    Thing._optimizer_step_pre_hooks = {0: lambda *a: heard.append("before")}
    assert thing.step(2) == 2
    assert heard == [1, "before", 2, "code"]


def test_a_subclass_that_overrides_step_runs_its_hooks_once():
    calls = []

    class Mine(weft.SGD):
        def step(self, closure=None):
            return super().step(closure)

    opt = Mine(parameters((3,)), lr=0.1)
    opt.register_step_pre_hook(lambda *a: calls.append("before"))
    opt.register_step_post_hook(lambda *a: calls.append("after"))
    opt.step()
    assert calls == ["before", "after"]


def test_the_profiler_sees_a_step():
    opt = weft.AdamW(parameters((3,)))
    opt.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        opt.step()
    assert any(e.key == "Optimizer.step#AdamW.step" for e in seen.key_averages())
