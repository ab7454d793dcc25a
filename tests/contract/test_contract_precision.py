"""DESIGN 1.1, 16 bits and random numbers."""

import pytest
import torch

import weft
from contract import descend, param, stepped

pytestmark = pytest.mark.usefixtures("engine")

LOW = [torch.bfloat16, torch.float16]


def ema(grad, exp_avg=weft.zeros):
    return {"exp_avg": 0.9 * exp_avg + 0.1 * grad}


def use(exp_avg):
    return {"update": exp_avg * 3.0}


@pytest.mark.parametrize("dtype", LOW, ids=str)
class TestSixteenBits:
    def test_computed_in_float32_and_rounded_once(self, dtype):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(64).to(dtype))
        grads = [torch.randn(64).to(dtype) for _ in range(3)]
        master, avg = p.detach().clone(), torch.zeros(64, dtype=dtype)
        opt = weft.Optimizer([p], [ema, use, descend], lr=0.1)
        for g in grads:
            p.grad = g.clone()
            opt.step()
            exact = 0.9 * avg.float() + 0.1 * g.float()
            master = (master.float() - 0.1 * (exact * 3.0)).to(dtype)
            avg = exact.to(dtype)
            torch.testing.assert_close(opt.state[p]["exp_avg"], avg, rtol=0, atol=0)
            torch.testing.assert_close(p.detach(), master, rtol=0, atol=0)

    def test_what_callbacks_see_is_float32_and_what_is_kept_is_not(self, dtype):
        def check(p, grad, update, exp_avg=weft.zeros, made=None):
            seen = {t.dtype for t in (p, p.data, p.grad, p.grad.data, grad, update, exp_avg)}
            assert seen == {torch.float32}
            assert made is None or made.dtype == torch.float32
            return {"made": exp_avg + 1, "exp_avg": exp_avg}

        p = param(1.0, dtype=dtype)
        mine = p.grad
        opt = stepped(p, check, descend, steps=2)
        assert p.dtype == p.grad.dtype == dtype
        assert p.grad is mine
        assert {k: v.dtype for k, v in opt.state[p].items()} == {"exp_avg": dtype, "made": dtype}

    def test_in_place_work_is_kept(self, dtype):
        def original(p, lr, exp_avg=weft.zeros):
            p.grad.data.add_(1)
            exp_avg.add_(p.grad)
            p.data.sub_(lr * exp_avg)

        p = param(10.0, grad=[1.0], dtype=dtype)
        opt = stepped(p, original)
        assert (p.item(), p.grad.item(), opt.state[p]["exp_avg"].item()) == (8, 2, 2)

    def test_a_returned_grad_leaves_the_users(self, dtype):
        def double(grad):
            return {"grad": 2 * grad}

        def scribble(p):
            p.grad.data.mul_(100)

        p = param(10.0, dtype=dtype)
        stepped(p, double, scribble, descend)
        assert p.grad.item() == 1

    def test_small_sums_in_between_are_not_lost(self, dtype):
        def add(p):
            return {"p": p + 2.0**-12}

        def take(p):
            return {"p": p - 1}

        p = param(1.0, dtype=dtype)
        stepped(p, add, take)
        assert p.item() == 2.0**-12

    def test_state_declared_wider_stays_wider(self, dtype):
        def cb(p, exp_avg=weft.state(torch.zeros_like, dtype=torch.float32)):
            return {"exp_avg": exp_avg + 2.0**-20 + 1}

        p = param(1.0, dtype=dtype)
        opt = stepped(p, cb, descend)
        kept = opt.state[p]["exp_avg"]
        assert (kept.dtype, kept.item()) == (torch.float32, 1 + 2.0**-20)

    def test_state_declared_narrower_under_a_float32_parameter(self, dtype):
        def cb(p, exp_avg=weft.state(torch.zeros_like, dtype=dtype)):
            assert exp_avg.dtype == torch.float32
            return {"exp_avg": exp_avg + 1 + 2.0**-12}

        def after(exp_avg):
            return {"update": exp_avg}

        p = param(0.0)
        opt = stepped(p, cb, after, descend)
        assert p.item() == -(1 + 2.0**-12)
        assert opt.state[p]["exp_avg"].dtype == dtype

    def test_a_16_bit_grad_of_a_float32_parameter(self, dtype):
        def check(p, grad, lr):
            assert p.grad.dtype == grad.dtype == torch.float32
            p.grad.data.add_(1)
            p.data.sub_(lr * (grad * (1 + 2.0**-12)))

        p = torch.nn.Parameter(torch.zeros(1))
        p.grad_dtype = dtype
        p.grad = torch.ones(1, dtype=dtype)
        mine = p.grad
        stepped(p, check)
        assert p.item() == -(1 + 2.0**-12)
        assert p.grad is mine
        assert (mine.dtype, mine.item()) == (dtype, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_state_has_the_parameters_dtype(dtype):
    def cb(p, a=weft.zeros, b=None):
        return {"a": a + 1, "b": torch.ones(1, dtype=torch.float64)}

    p = param(1.0, dtype=dtype)
    opt = stepped(p, cb, descend)
    assert [opt.state[p][n].dtype for n in "ab"] == [dtype, dtype]


class TestRandomNumbers:
    @staticmethod
    def noise(p, lr):
        p.data.add_(torch.randn(p.shape), alpha=lr)

    def test_are_drawn_with_torchs_generator_in_parameter_order(self):
        params = [torch.nn.Parameter(torch.zeros(n)) for n in (3, 5)]
        for p in params:
            p.grad = torch.ones_like(p)
        opt = weft.Optimizer(params, [self.noise], lr=1.0)
        torch.manual_seed(7)
        opt.step()
        opt.step()
        torch.manual_seed(7)
        a, b = torch.randn(3), torch.randn(5)
        assert torch.equal(params[0], a + torch.randn(3))
        assert torch.equal(params[1], b + torch.randn(5))

    def test_those_of_initial_state_too(self):
        def cb(start=weft.state(torch.randn_like)):
            return {"update": start}

        params = [param(0.0), param(0.0)]
        opt = weft.Optimizer(params, [cb, descend], lr=1.0)
        torch.manual_seed(7)
        opt.step()
        torch.manual_seed(7)
        assert [-p.item() for p in params] == [torch.randn(1).item() for _ in params]

    def test_building_and_looking_never_touch_the_generator(self):
        torch.manual_seed(7)
        before = torch.get_rng_state()
        opt = weft.Optimizer([param(0.0)], [self.noise], lr=1.0)
        str(opt.explain())
        opt.kernel_source()
        opt.state_dict()
        weft.chain(self.noise, lr=1.0).explain()
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_step_that_draws_nothing_leaves_it_alone(self):
        opt = weft.Optimizer([param(0.0)], [ema, use, descend], lr=1.0)
        torch.manual_seed(7)
        before = torch.get_rng_state()
        opt.step()
        opt.step()
        assert torch.equal(torch.get_rng_state(), before)
