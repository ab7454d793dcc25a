"""DESIGN 1.1, returns, in place and aliasing: a step follows a simple model of values."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from contract import Probe, descend, param, stepped

pytestmark = pytest.mark.usefixtures("engine")


class TestReturns:
    def test_p_is_written_to_the_parameter_and_seen_by_what_follows(self):
        def double(p):
            return {"p": 2 * p}

        def add(p, lr):
            return {"p": p + lr}

        p = param(3.0)
        address = p.data_ptr()
        stepped(p, double, add)
        assert p.item() == 7
        assert p.data_ptr() == address

    @pytest.mark.falls_back("changes an attribute of Probe")
    def test_update_is_the_grad_until_a_callback_sets_it(self):
        probe, p = Probe(), param(0.0, grad=[5.0])

        def clip(grad):
            return {"grad": grad.clamp(max=2)}

        def halve(update):
            return {"update": update / 2}

        stepped(p, clip, probe, halve, descend)
        assert probe.seen["update"].item() == 2
        assert p.item() == -1

    def test_a_grad_set_after_the_update_leaves_the_update(self):
        def keep(grad):
            return {"update": grad * 1}

        def zero(grad):
            return {"grad": torch.zeros_like(grad)}

        p = param(0.0)
        stepped(p, keep, zero, descend)
        assert p.item() == -1

    def test_grad_is_what_later_callbacks_see_as_grad_and_as_p_grad(self):
        def double(grad):
            return {"grad": 2 * grad}

        def both(p, grad, lr):
            p.data.sub_(lr * (grad + 10 * p.grad + 100 * p.grad.data))

        p = param(0.0, grad=[1.0])
        mine = p.grad
        stepped(p, double, both)
        assert p.item() == -222
        assert p.grad is mine
        assert mine.item() == 1

    def test_any_other_name_is_this_parameters_state(self):
        def count(p, total=weft.zeros):
            return {"total": total + p.grad, "kind": "a string"}

        a, b = param(0.0, grad=[1.0]), param(0.0, grad=[2.0])
        opt = weft.Optimizer([a, b], [count, descend], lr=0.0)
        opt.step()
        opt.step()
        assert [opt.state[p]["total"].item() for p in (a, b)] == [2, 4]
        assert opt.state[b]["kind"] == "a string"

    @pytest.mark.parametrize("value", [None, 3, "p", [("p", 1)], ("p",), torch.ones(1)], ids=repr)
    def test_anything_that_is_not_a_dict_is_ignored(self, value):
        def odd(p, lr):
            p.data.sub_(lr)
            return value

        p = param(1.0)
        stepped(p, odd)
        assert p.item() == 0

    def test_what_the_source_hides_is_state_all_the_same(self):
        def hidden(grad):
            out = {"seen": grad + 1}
            return out  # noqa: RET504

        p = param(0.0)
        opt = stepped(p, hidden, descend)
        assert opt.state[p]["seen"].item() == 2

    @pytest.mark.parametrize("name", ["p", "grad", "update"])
    @pytest.mark.parametrize("value", [torch.ones(3), 1.0, None], ids=["shape", "number", "None"])
    def test_a_vector_of_another_kind_is_an_error_that_says_so(self, name, value):
        if name == "update" and isinstance(value, torch.Tensor):
            return  # an update may be in a basis of its own, until something applies it

        def wrong(p, grad):
            out = {name: value}
            return out  # noqa: RET504

        p = param(1.0, 2.0)
        with pytest.raises(weft.StepError, match=rf"wrong.*it returned '{name}' as"):
            stepped(p, wrong, descend)
        assert p.tolist() == [1, 2]
        assert p.grad.tolist() == [1, 1]

    @pytest.mark.parametrize("name", ["lr", "loss"])
    def test_a_hidden_return_that_clashes_with_a_hyper_is_an_error_too(self, name):
        def wrong(grad, at):
            return dict.fromkeys((name,) if at > 1 else (), grad)

        with pytest.raises(weft.StepError, match=rf"it returned '{name}'"):
            stepped(param(1.0), wrong, descend, at=2.0)


class TestInPlace:
    @pytest.mark.parametrize("write", ["method", "augmented", "subscript", "attribute", "bare"])
    def test_on_the_parameter(self, write):
        def method(p, lr):
            p.data.sub_(lr)

        def augmented(p, lr):
            p.data -= lr

        def subscript(p, lr):
            p.data[:] = p.data - lr

        def attribute(p, lr):
            p.data = p.data - lr

        def bare(p, lr):
            p -= lr

        p = param(1.0)
        stepped(p, locals()[write])
        assert p.item() == 0

    def test_on_state(self):
        def average(grad, exp_avg=weft.zeros):
            exp_avg.mul_(0.5).add_(grad)

        def use(exp_avg):
            return {"update": exp_avg}

        p = param(0.0)
        opt = stepped(p, average, use, descend, steps=2)
        assert opt.state[p]["exp_avg"].item() == 1.5
        assert p.item() == -2.5

    def test_on_p_grad_data_writes_the_users_grad(self):
        def l2(p, wd):
            p.grad.data.add_(p.data, alpha=wd)

        p = param(2.0)
        mine = p.grad
        stepped(p, l2, descend, wd=1.0)
        assert p.grad is mine
        assert mine.item() == 3
        assert p.item() == -1

    @pytest.mark.parametrize("name", ["update", "grad"])
    @pytest.mark.parametrize("through", ["itself", "data", "view"])
    def test_on_update_and_grad_works_on_a_copy_that_what_follows_sees(self, name, through):
        scope = {}
        target = {"itself": name, "data": f"{name}.data", "view": f"{name}[:]"}[through]
        exec(f"def cb({name}): {target}.mul_(3)", scope)
        p = param(0.0)
        stepped(p, scope["cb"], descend)
        assert p.item() == -3
        assert p.grad.item() == 1

    def test_naming_grad_and_writing_p_grad_data_keeps_the_write(self):
        def l2(p, grad, wd):
            p.grad.data.add_(p.data, alpha=wd)

        p = param(2.0)
        stepped(p, l2, descend, wd=1.0)
        assert (p.grad.item(), p.item()) == (3, -1)

    def test_on_a_returned_view_of_the_users_grad_leaves_the_grad(self):
        def view(p):
            return {"grad": p.grad[:]}

        def write(grad, update):
            grad.mul_(5)
            update.mul_(7)

        p = param(0.0)
        stepped(p, view, write, descend)
        assert p.grad.item() == 1

    @pytest.mark.parametrize("name", ["update", "grad"])
    def test_that_no_code_shows_is_seen_by_what_follows(self, name):
        scope = {}
        exec(f"def cb({name}): {name}.__imul__(3.0)", scope)

        def keep(grad, before=weft.zeros):
            return {"before": grad}

        p = param(0.0)
        opt = stepped(p, keep, scope["cb"], weft.rename(keep, before="after"), descend)
        assert (p.item(), p.grad.item()) == (-3, 1)
        assert opt.state[p]["before"].item() == 1
        assert opt.state[p]["after"].item() == (3 if name == "grad" else 1)

    def test_on_an_update_that_is_a_grad_from_a_callback_leaves_that_grad(self):
        def double(p):
            p.grad = 2 * p.grad

        def take(grad):
            return {"update": grad}

        def scale(update):
            update.mul_(5)

        def keep(grad, seen=weft.zeros):
            return {"seen": grad}

        p = param(0.0)
        opt = stepped(p, double, take, scale, keep, descend)
        assert (p.item(), p.grad.item()) == (-10, 1)
        assert opt.state[p]["seen"].item() == 2

    def test_on_an_update_that_was_a_state_leaves_the_state(self):
        def average(grad, exp_avg=weft.zeros):
            exp_avg.add_(grad)
            return {"update": exp_avg}

        def scale(update):
            update.mul_(4)

        p = param(0.0)
        opt = stepped(p, average, scale, descend)
        assert p.item() == -4
        assert opt.state[p]["exp_avg"].item() == 1


class TestReturnedStateIsCopied:
    @pytest.mark.parametrize("source", ["p", "p.data", "p.grad", "p.data[:]", "p.data.view(-1)"])
    def test_where_it_aliases_the_parameter_or_the_grad(self, source):
        scope = {}
        exec(f"def cb(p): return {{'kept': {source}}}", scope)
        p = param(1.0, 2.0, grad=[3.0, 4.0])
        opt = stepped(p, scope["cb"], descend)
        assert opt.state[p]["kept"].tolist() == ([3, 4] if "grad" in source else [1, 2])
        p.grad.zero_()
        assert opt.state[p]["kept"].tolist() == ([3, 4] if "grad" in source else [1, 2])

    def test_where_it_aliases_another_state_or_another_name(self):
        def alias(grad, a=weft.zeros):
            both = a + grad
            return {"a": both, "b": both, "update": both}

        def write(update, b):
            update.mul_(2)
            b.mul_(3)

        p = param(0.0)
        opt = stepped(p, alias, write, descend)
        state = opt.state[p]
        assert (state["a"].item(), state["b"].item(), p.item()) == (1, 3, -2)

    def test_swapped_states_are_swapped(self):
        def swap(a=weft.zeros, b=weft.ones):
            return {"a": b, "b": a}

        p = param(0.0)
        opt = stepped(p, swap, descend)
        assert (opt.state[p]["a"].item(), opt.state[p]["b"].item()) == (1, 0)

    def test_a_state_and_a_parameter_returned_transposed(self):
        def turn(p, m=weft.copy_of_param):
            return {"p": p.data.t(), "m": m.t()}

        p = torch.nn.Parameter(torch.arange(9.0).reshape(3, 3))
        p.grad = torch.zeros_like(p)
        before = p.detach().clone()
        opt = stepped(p, turn)
        assert torch.equal(p, before.t())
        assert torch.equal(opt.state[p]["m"], before.t())

    def test_one_tensor_from_outside_for_all_parameters(self):
        common = torch.zeros(1)

        def keep(p, grad, held=None):
            if held is None:
                held = common
            held = held.add_(grad) if held is not common else common
            return {"held": held}

        a, b = param(0.0, grad=[1.0]), param(0.0, grad=[2.0])
        opt = weft.Optimizer([a, b], [keep, descend], lr=0.0)
        opt.step()
        opt.step()
        assert [opt.state[p]["held"].item() for p in (a, b)] == [1, 2]
        assert common.item() == 0

    def test_an_initial_value_that_aliases(self):
        table = torch.zeros(1)

        def cb(grad, x=weft.state(lambda p: p), y=weft.state(table), z=weft.state(lambda p: table)):
            x.add_(grad)
            y.add_(grad)
            z.add_(grad)

        a, b = param(5.0), param(7.0)
        opt = weft.Optimizer([a, b], [cb, descend], lr=0.0)
        opt.step()
        assert (a.item(), b.item(), table.item()) == (5, 7, 0)
        assert [opt.state[b][n].item() for n in "xyz"] == [8, 1, 1]


# Random chains of callbacks that return and change things, against values that cannot alias.

NAMES = ("p", "grad", "update", "a", "b")
EXPRESSION = st.one_of(
    st.sampled_from(NAMES),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).map(lambda t: f"{t[0]} - 2 * {t[1]}"),
)
RETURNS = st.dictionaries(st.sampled_from(NAMES), EXPRESSION, max_size=4)
WRITES = st.lists(
    st.sampled_from(["grad.add_(1)", "update.mul_(2)", "a.sub_(1)", "b.add_(3)", "p.data.add_(1)"]),
    max_size=2,
)
CALLBACK = st.tuples(WRITES, RETURNS)


def callback(index, writes, returns):
    """`writes` in place and then `returns`, as a callback that names all it reads."""
    pairs = ", ".join(f"{k!r}: {v}" for k, v in returns.items())
    body = "".join(f"    {w}\n" for w in writes)
    scope = {}
    exec(f"def cb{index}(p, grad, update, a, b):\n{body}    return {{{pairs}}}", scope)
    return scope[f"cb{index}"]


def start(lr, a=weft.zeros, b=weft.ones):
    pass


def model(program, p, grad, a, b):
    """One step on integers held in a dict: no two names share anything."""
    v = {"p": p, "grad": grad, "update": None, "a": a, "b": b}
    for writes, returns in program:
        now = {**v, "update": v["grad"] if v["update"] is None else v["update"]}
        touched = set()
        for write in writes:
            name, rest = write.replace(".data", "").split(".")
            op, by = rest[:3], int(rest[5])
            now[name] = {"add": now[name] + by, "sub": now[name] - by, "mul": now[name] * by}[op]
            touched.add(name)
        v |= {name: now[name] for name in touched}
        v |= {name: eval(e, {}, now) for name, e in returns.items()}
    return v


@pytest.mark.filterwarnings("ignore:.*nobody writes it")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(CALLBACK, min_size=1, max_size=3))
def test_random_programs_follow_the_model(engine, program):
    cbs = [callback(i, *part) for i, part in enumerate(program)]
    p = param(2.0, grad=[3.0], dtype=torch.float64)
    opt = weft.Optimizer([p], [start, *cbs, descend], lr=0.0)
    values = {"p": 2, "a": 0, "b": 1}
    for _ in range(2):
        opt.step()
        values = model(program, values["p"], 3, values["a"], values["b"])
        got = {"p": p.item(), "a": opt.state[p]["a"].item(), "b": opt.state[p]["b"].item()}
        assert got == {k: values[k] for k in got}
        assert p.grad.item() == 3
