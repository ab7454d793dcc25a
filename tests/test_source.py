"""What a callback's source says: read, never called."""

import functools
import pickle

import pytest

import weft
from contract import param
from weft.callback import read
from weft.source import may_write, returned


def names(fn):
    got = returned(fn.__code__)
    return set(got.names), got.opaque


def test_lambdas_two_of_them_on_one_line():
    a, b = lambda grad, x=0.0: {"x": x + grad}, lambda grad, x=0.0: {"update": x * grad}
    assert names(a) == ({"x"}, False)
    assert names(b) == ({"update"}, False)
    assert read(a).states.keys() == {"x"}
    assert read(b).hypers == {"x": 0.0}


# fmt: off
def test_lambdas_over_several_lines():
    cb = lambda grad, x=0.0: {
        "x": x,
        "update": grad,
    }
    nested = (lambda p:
              (lambda q: {"inner": q}) and {"outer": p})
    assert names(cb) == ({"x", "update"}, False)
    assert names(nested)[0] == {"outer"}
# fmt: on


def test_conditional_returns_are_united():
    def cb(p, a, b):
        if a:
            return {"one": 1}
        if b:
            return {"two": 2} if b > 1 else {"three": 3}
        for _ in range(3):
            return dict(four=4)  # noqa: C408
        return None

    assert names(cb) == ({"one", "two", "three", "four"}, False)


def test_booleans_and_unions():
    assert names(lambda p, a: a and {"x": p}) == ({"x"}, True)
    assert names(lambda p: {"x": p} | {"y": p}) == ({"x", "y"}, False)


def test_what_functions_inside_return_does_not_count():
    def cb(p):
        def inner():
            return {"inner": 1}

        class Inner:
            def method(self):
                return {"method": 1}

        key = lambda: {"lambda": 1}
        return {"outer": (inner, Inner, key)}

    assert names(cb) == ({"outer"}, False)


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda p: {**p}, True),
        (lambda p: {"a": 1, **p}, True),
        (lambda p: {p: 1}, True),
        (lambda p: dict(p), True),
        (lambda p: dict(p, a=1), True),
        (lambda p: p.update(), True),
        (lambda p: p, True),
        (lambda p: p.data.add_(1), False),
        (lambda p: 2 * p, False),
        (lambda p: (p, p), False),
        (lambda p: {}, False),
        (lambda p: None, False),
    ],
)
def test_what_can_be_seen(fn, expected):
    assert names(fn)[1] is expected


def decorate(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(*args, **kwargs)

    return wrapper


@decorate
@weft.mark(place="update")
def decorated(update, decay=0.5, total=0.0):
    return {"total": total + 1, "update": update * decay}


def test_a_decorated_function_is_read_through():
    spec = read(decorated)
    assert (spec.name, spec.returns, spec.place) == ("decorated", {"total", "update"}, "update")
    assert (set(spec.states), spec.hypers) == ({"total"}, {"decay": 0.5})
    assert spec.line == decorated.__wrapped__.__code__.co_firstlineno


class Counter:
    def __call__(self, p, count=0):
        return {"count": count + 1}

    def method(self, p, other=0):
        return {"other": other + 1}

    @staticmethod
    def static(p, third=0):
        return {"third": third + 1}

    @classmethod
    def cls(cls, p, fourth=0):
        return {"fourth": fourth + 1}


def test_methods_and_objects():
    assert set(read(Counter()).states) == {"count"}
    assert set(read(Counter().method).states) == {"other"}
    assert set(read(Counter.static).states) == {"third"}
    assert set(read(Counter.cls).states) == {"fourth"}
    assert read(Counter()).name == "Counter"


class TestWithoutSource:
    @staticmethod
    def make(text):
        scope = {}
        exec(text, scope)
        return scope["cb"]

    @pytest.mark.parametrize(
        "text",
        [
            "def cb(update, x=1.0): return {'update': update * x}",
            "def cb(p, x=1.0): p.data.mul_(x)",
            "def cb(p, x=1.0):\n if x: return {'a': p, 'b': p}\n return None",
            "cb = lambda update, x=1.0: {'update': update * x}",
        ],
    )
    def test_a_hyper_that_is_provably_one(self, text):
        assert read(self.make(text)).hypers == {"x": 1.0}

    @pytest.mark.parametrize(
        "text",
        [
            "def cb(update, x=1.0): return {'x': update * x}",
            "def cb(update, x=1.0): return dict(x=update)",
            "def cb(update, x=1.0): return locals()",
            "def cb(update, x=1.0): return {**update}",
            "def cb(update, x=1.0):\n k = 'x'\n return {k: update}",
            "def cb(update, x=1.0):\n out = {}\n return out",
        ],
    )
    def test_where_it_could_be_state_it_is_an_error(self, text):
        with pytest.raises(weft.ChainError, match=r"x=weft.state\(1.0\)"):
            read(self.make(text))

    def test_declared_state_needs_no_source(self):
        cb = self.make("def cb(grad, x): return {'x': x + grad}")
        p = param(1.0)
        opt = weft.Optimizer([p], [functools.partial(cb, x=weft.zeros)])
        opt.step()
        assert opt.state[p]["x"].item() == 1


def test_reading_again_sees_what_was_said_meanwhile():
    def cb(update, x=1.0):
        out = {"update": update * x}
        return out  # noqa: RET504

    with pytest.raises(weft.ChainError):
        read(cb)
    cb.defaults = {"x": 1.0}
    assert read(cb).hypers == {"x": 1.0}
    cb.defaults, cb.place = {"x": 2.0}, "after"
    assert (read(cb).hypers, read(cb).place) == ({"x": 2.0}, "after")


def test_reading_does_not_keep_a_callback_alive():
    import gc
    import weakref

    class Big:
        def __call__(self, p):
            p.data.sub_(1)

    big = Big()
    held = weakref.ref(big)
    read(big)
    weft.chain(big).explain()
    del big
    gc.collect()
    assert held() is None


def test_the_first_values_pickle_as_themselves():
    for state in (weft.zeros, weft.ones, weft.copy_of_param):
        assert pickle.loads(pickle.dumps(state)) is state


def test_may_write():
    def looks(p, lr):
        return {"norm": p.norm() * lr}

    def deletes(p):
        del p.data[0]

    def calls_out(p):
        helper(p)

    assert [may_write(f) for f in (looks, deletes, calls_out)] == [False, True, True]


def helper(p):
    p.data.sub_(1)
