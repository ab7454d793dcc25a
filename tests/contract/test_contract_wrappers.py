"""DESIGN 1.1, around a step: wrappers, their state in the same state dict, train and eval."""

import copy
from typing import ClassVar

import pytest
import torch

import weft
from contract import descend, param

pytestmark = pytest.mark.usefixtures("engine")


class Anchor(weft.Wrapper):
    """Every k steps the parameters go back to where they were, and evaluation sees twice them."""

    hypers: ClassVar = {"k": 2}
    numbers: ClassVar = {"count": 0}

    def around_step(self, opt, closure):
        for p in self.params(opt):
            opt.state[p].setdefault(self.key("start"), p.detach().clone())
        loss = opt.step(closure)
        self.set(opt, "count", self.get(opt, "count") + 1)
        if self.get(opt, "count") % self.get(opt, "k") == 0:
            for p in self.params(opt):
                p.copy_(opt.state[p][self.key("start")])
        return loss

    def eval(self, opt):
        for p in self.params(opt):
            p.mul_(2)

    def train(self, opt):
        for p in self.params(opt):
            p.div_(2)


def make(p, k=3):
    return weft.Optimizer([p], [Anchor(k=k), descend], lr=1.0)


def test_it_goes_around_the_step_with_the_closure():
    p = param(10.0)
    opt = make(p)
    seen = [(opt.step(lambda: torch.tensor(2.0)).item(), p.item()) for _ in range(4)]
    assert seen == [(2, 9), (2, 8), (2, 10), (2, 9)]


def test_around_an_existing_optimizer_and_in_a_chain_are_the_same():
    def run(build):
        p = param(10.0)
        opt = build(p)
        for _ in range(4):
            opt.step()
        return p.item(), type(opt)

    assert (
        run(lambda p: Anchor(weft.Optimizer([p], [descend], lr=1.0), k=3))
        == run(make)
        == run(lambda p: (weft.chain(descend, lr=1.0) + Anchor(k=3))([p]))
        == (9.0, weft.Optimizer)
    )


def test_its_state_is_in_the_same_state_dict_and_survives(tmp_path):
    p, q = param(10.0), param(10.0)
    opt = make(p)
    for _ in range(2):
        opt.step()
    file = tmp_path / "opt.pt"
    torch.save(opt.state_dict(), file)
    fresh = make(q)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    q.data.copy_(p)
    for o in (opt, fresh):
        o.step()
        o.step()
    assert p.item() == q.item() == 9
    assert fresh.state_dict()["param_groups"][0]["anchor_count"] == 4


def test_a_wrapper_of_tensors_alone_loads_again():
    class Slow(weft.Wrapper):
        def around_step(self, opt, closure):
            opt.step(closure)
            for p in self.params(opt):
                opt.state[p][self.key("sum")] = opt.state[p].get(self.key("sum"), 0) + p

    p, q = param(1.0), param(1.0)
    opt = weft.Optimizer([p], [Slow(), descend], lr=1.0)
    opt.step()
    opt.step()
    fresh = weft.Optimizer([q], [Slow(), descend], lr=1.0)
    fresh.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert fresh.state[q]["slow_sum"].item() == -1


def test_train_and_eval_swap_once_however_often_they_are_called():
    p = param(10.0)
    opt = make(p)
    opt.train()
    assert p.item() == 10
    opt.eval()
    opt.eval()
    assert p.item() == 20
    opt.train()
    opt.train()
    assert p.item() == 10


def test_train_and_eval_always_exist():
    p = param(1.0)
    opt = weft.SGD([p], lr=1.0)
    opt.eval()
    opt.train()
    opt.step()
    assert p.item() == 0


def test_several_are_nested_the_first_outermost():
    order = []

    class Note(weft.Wrapper):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def around_step(self, opt, closure):
            order.append(f"{self.name} in")
            loss = opt.step(closure)
            order.append(f"{self.name} out")
            return loss

    weft.Optimizer([param(1.0)], [Note("a"), Note("b"), descend], lr=1.0).step()
    assert order == ["a in", "b in", "b out", "a out"]


def test_the_gradient_may_be_evaluated_again():
    class Sharp(weft.Wrapper):
        """SAM's shape: step up the gradient, evaluate there, come back, step."""

        def around_step(self, opt, closure):
            with torch.enable_grad():
                loss = closure()
            old = [p.detach().clone() for p in self.params(opt)]
            for p in self.params(opt):
                p.add_(p.grad)
            with torch.enable_grad():
                closure()
            for p, o in zip(self.params(opt), old, strict=True):
                p.copy_(o)
            opt.step()
            return loss

    p = param(1.0)
    opt = weft.Optimizer([p], [Sharp(), descend], lr=0.1)

    def closure():
        opt.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert opt.step(closure).item() == 1
    assert p.item() == pytest.approx(1 - 0.1 * 2 * 3)


def test_the_loss_given_to_step_reaches_the_callbacks_inside():
    def by_loss(p, loss):
        return {"p": p - loss}

    p = param(1.0)
    weft.Optimizer([p], [Anchor(), by_loss]).step(loss=0.25)
    assert p.item() == 0.75


def test_an_unknown_option_is_an_error():
    with pytest.raises(TypeError, match=r"Anchor has no \['kk'\].*; it has \['k'\]"):
        Anchor(kk=3)


def test_lookahead_by_hand():
    p = param(0.0)
    opt = weft.Lookahead(weft.SGD([p], lr=1.0), k=3, alpha=0.5)
    values = []
    for _ in range(6):
        opt.step()
        values.append(p.item())
    assert values == [-1, -2, -1.5, -2.5, -3.5, -3]
