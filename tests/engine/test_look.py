"""What a step notices about its tensors, looked at from C and from Python."""

from typing import ClassVar

import pytest
import torch

import weft
from weft.engine.host import guards
from weft.optimizer.hooks import hooked


@pytest.fixture(params=["from C", "from Python"])
def way(request, monkeypatch):
    if request.param == "from Python":
        monkeypatch.setattr(guards, "_offset", lambda: None)
    elif guards._offset() is None:
        pytest.skip("this torch or Python does not let C look at tensors")
    return request.param


def parameters(*shapes):
    torch.manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    for p in made:
        p.grad = torch.randn_like(p)
    return made


def test_c_can_look_at_the_tested_torch():
    assert guards._offset() is not None


def test_grads(way):
    a, b, c = parameters((3, 4), (4, 4), ())
    grads = guards.watch_grads([a, b, c])
    assert grads.look()
    assert grads.which == b""
    assert list(grads.at) == [p.grad.data_ptr() for p in (a, b, c)]
    b.grad = None
    assert grads.look()
    assert grads.which == bytes([1, 0, 1])
    assert list(grads.at) == [a.grad.data_ptr(), c.grad.data_ptr()]
    a.grad = c.grad = None
    assert grads.look()
    assert not len(grads.at)
    assert grads.which == bytes(3)


def test_a_sparse_grad_has_no_memory_of_its_own(way, capfd):
    p = torch.nn.Parameter(torch.randn(4, 2))
    p.grad = torch.randn(4, 2).to_sparse()
    assert not guards.watch_grads([p]).look()
    assert capfd.readouterr().err == ""


class Scene:
    """Two groups of parameters with states, and all that is looked at of them."""

    def __init__(self):
        self.params = parameters((3, 4), (5,), (4, 4), ())
        self.params[3].grad = None
        self.lists = [self.params[:2], self.params[2:]]
        self.groups = [
            {"params": x, "lr": 0.1, "betas": (0.9, 0.99), "tag": "a"} for x in self.lists
        ]
        self.owns = [{"a": torch.ones(3), "n": 1} for _ in self.params]
        self.state = dict(zip(self.params, self.owns, strict=True))
        kept = [self.owns, *([own["a"], guards.ANY] for own in self.owns)]
        tensors = [*self.params, *(own["a"] for own in self.owns)]
        self.still = guards.watch_all(
            self.lists, self.groups, [self.state, *self.owns], kept, tensors
        )


def test_nothing_changed(way):
    scene = Scene()
    assert scene.still.look() == 0
    scene.owns[0]["n"] = 2
    assert scene.still.look() == 0
    scene.params[0].data.add_(1)
    assert scene.still.look() == 0


CHANGED = {
    "another list": lambda s: s.groups[0].update(params=list(s.lists[0])),
    "a parameter more": lambda s: s.lists[0].append(s.params[3]),
    "a parameter less": lambda s: s.lists[1].pop(),
    "another parameter": lambda s: s.lists[1].__setitem__(0, torch.nn.Parameter(torch.ones(4, 4))),
    "another hyper": lambda s: s.groups[1].update(new=1),
    "a hyper less": lambda s: s.groups[1].pop("lr"),
    "a state more": lambda s: s.owns[2].update(b=torch.ones(1)),
    "a state less": lambda s: s.owns[2].pop("a"),
    "another state": lambda s: s.owns[2].update(a=torch.ones(3)),
    "another state dict": lambda s: s.state.update({s.params[1]: dict(s.owns[1])}),
    "data moved": lambda s: setattr(s.params[0], "data", s.params[0].data.clone()),
    "data cut": lambda s: setattr(s.params[0], "data", s.params[0].data[:2]),
    "state moved": lambda s: setattr(s.owns[3]["a"], "data", torch.ones(3)),
    "a grad less": lambda s: setattr(s.params[0], "grad", None),
    "a grad more": lambda s: setattr(s.params[3], "grad", torch.ones(())),
    "a grad in another layout": lambda s: setattr(s.params[2], "grad", s.params[2].grad.t()),
    "a grad of another dtype": lambda s: setattr(
        s.params[0].grad, "data", s.params[0].grad.data.view(torch.int32)
    ),
    "a sparse grad": lambda s: setattr(s.params[2], "grad", torch.ones(4, 4).to_sparse()),
}


@pytest.mark.parametrize("change", CHANGED)
def test_what_changed_is_seen(way, change):
    scene = Scene()
    CHANGED[change](scene)
    assert scene.still.look() == guards.CHANGED


def test_moved_grads_and_replaced_hypers_are_told_apart(way):
    scene = Scene()
    p = scene.params[1]
    p.grad = p.grad.clone()
    assert scene.still.look() == guards.MOVED
    assert list(scene.still.at) == [q.grad.data_ptr() for q in scene.params[:3]]
    scene.still.was[:] = scene.still.at
    assert scene.still.look() == 0
    scene.groups[1]["lr"], scene.groups[0]["betas"] = 0.2 * p.numel(), (0.8, 0.9)
    seen = scene.still.look()
    assert seen & guards.REPLACED
    if way == "from C":  # which looks at kinds itself
        assert not seen & guards.OTHER
    scene.still.take()
    assert scene.still.look() == 0
    p.grad, scene.groups[0]["lr"] = p.grad.clone(), float(p.numel())
    assert scene.still.look() & (guards.MOVED | guards.REPLACED) == guards.MOVED | guards.REPLACED


def test_hypers_of_another_kind_are_for_python_to_judge(way):
    scene = Scene()
    for name, value in {"lr": 1, "betas": (0.9,), "tag": "b", "lr ": None}.items():
        scene.groups[0][name.strip()] = value
        seen = scene.still.look()
        assert seen & guards.OTHER
        scene.still.take()
        assert scene.still.look() == 0


def test_a_hyper_that_takes_the_address_of_the_one_before_is_seen(way):
    scene = Scene()
    for k in range(100):
        scene.groups[0]["lr"] = 0.5 + k
        scene.groups[0]["lr"] = 1.5 + k  # may be where the one of the last look was
        assert scene.still.look() & guards.REPLACED
        scene.still.take()


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
