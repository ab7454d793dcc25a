"""What a callback's code says: read from its bytecode, wherever it comes from."""

import functools
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packing import IN_PLACE, KEY, WAYS, decorate, keyed, pack

import weft
from contract import descend, param
from weft.callback import read
from weft.contract import introspect as source
from weft.contract.bytecode import run
from weft.contract.introspect import look

HERE = Path(__file__).parent


def names(fn):
    got = look(fn)
    return set(got.names), got.opaque


def test_lambdas_two_of_them_on_one_line():
    a, b = lambda grad, x=0.0: {"x": x + grad}, lambda grad, x=0.0: {"update": x * grad}
    assert names(a) == ({"x"}, False)
    assert names(b) == ({"update"}, False)
    assert read(a).states.keys() == {"x"}
    assert read(b).hypers == {"x": 0.0}


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
    assert names(lambda p, a: a and {"x": p}) == ({"x"}, False)
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


# ---------------------------------------------------------------- every way to pack a dict


@pytest.mark.parametrize("cb", WAYS, ids=lambda cb: getattr(cb, "__name__", type(cb).__name__))
def test_every_way_to_pack_a_dict(cb):
    assert names(cb) == ({"update"}, False)


@pytest.mark.parametrize("cb", WAYS[:-3], ids=lambda cb: getattr(cb, "__name__", type(cb).__name__))
def test_and_where_the_modifier_goes(cb):
    assert (weft.AdamW.chain() + cb).elements[-2] is cb


@pytest.mark.parametrize("cb", IN_PLACE, ids=lambda cb: cb.__name__)
def test_what_is_changed_in_place(cb):
    assert look(cb).writes == {"update"}
    assert (weft.AdamW.chain() + cb).elements[-2] is cb


def test_what_is_changed_in_place_elsewhere():
    new = lambda update: {"update": update.abs().mul_(2)}
    assert not look(new).writes
    assert look(lambda p: p.grad.data.add_(p.data)).writes == {"p.grad"}
    assert look(lambda p, lr: step_of(p, lr)).writes == {"p"}


def step_of(p, lr):
    p.data.sub_(lr)


def test_may_write():
    def looks(p, lr):
        return {"norm": p.norm() * lr}

    def deletes(p):
        del p.data[0]

    def calls_out(p):
        unknown(p)  # noqa: F821

    assert [look(f).may_write("p") for f in (looks, deletes, calls_out)] == [False, True, True]


@pytest.mark.parametrize(
    ("fn", "opaque"),
    [
        (lambda p: {**p}, True),
        (lambda p: {"a": 1, **p}, True),
        (lambda p: {p: 1}, True),
        (lambda p: dict(p), True),
        (lambda p: dict(p, a=1), True),
        (lambda **kwargs: kwargs, True),
        (lambda p: locals(), True),
        (lambda p: p.data.add_(1), False),
        (lambda p: 2 * p, False),
        (lambda p: (p, p), False),
        (lambda p: {}, False),
        (lambda p: None, False),
    ],
)
def test_what_can_be_seen(fn, opaque):
    assert look(fn).opaque is opaque


def test_what_takes_too_long_is_unknown():
    body = "".join(f"    if a: out['n{i}'] = b = out\n" for i in range(3000))
    scope = {}
    exec(f"def cb(a):\n    out = {{}}\n{body}    return out", scope)
    assert look(scope["cb"]).opaque


# ---------------------------------------------------------------- a call on trial


class TestOnTrial:
    def test_finds_what_the_code_does_not_show(self):
        def zipped(update, by=2.0):
            return dict(zip((KEY, "seen"), (update * by, 1), strict=True))

        spec = read(zipped)
        assert (spec.returns, spec.place) == ({"update", "seen"}, "update")
        assert spec.hypers == {"by": 2.0}

    def test_gives_all_names_to_kwargs(self):
        def every(p, **kwargs):
            return {k: v * 2 for k, v in kwargs.items() if k == "update"}

        assert read(every).returns == {"update"}

    def test_draws_nothing_of_the_users_random_numbers(self):
        def noisy(update):
            return {f"{KEY}": update + torch.randn_like(update)}

        before = torch.get_rng_state()
        assert read(noisy).place == "update"
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("what", ["a hyper", "a state", "a tuple", "a matrix"])
    def test_whatever_it_needs(self, what):
        uses = {
            "a hyper": lambda update, x: {f"{KEY}": update * math_only(x)},
            "a state": lambda update, x: {f"{KEY}": update * x.mean(dim=0)},
            "a tuple": lambda update, x: {f"{KEY}": update * x[0] * len(x)},
            "a matrix": lambda update, x: {f"{KEY}": torch.linalg.qr(update)[0] @ update},
        }
        assert read(uses[what]).place == "update"

    def test_is_not_made_where_the_code_changes_something_else(self):
        calls = []

        def counts(update):
            calls.append(1)
            return {f"{KEY}": update}

        chain = weft.AdamW.chain()
        with pytest.raises(weft.ChainError, match=r"counts .*weft.mark\(place="):
            chain + counts
        assert not calls
        assert (chain + weft.mark(place="update")(counts)).names[-2] == "counts"
        del counts.place
        assert (chain + weft.mark(returns=("update",))(counts)).names[-2] == "counts"
        assert not calls

    def test_where_it_raises_too(self):
        def broken(update):
            raise ValueError
            return {f"{KEY}": update}

        def needs(update, x):
            return {f"{KEY}": x.no_such_attribute}

        assert look(broken).names == set()
        with pytest.raises(weft.ChainError, match=r"needs .*weft.mark\(place="):
            weft.AdamW.chain() + needs


def math_only(x):
    return x.__float__() if type(x) is float else 1 / 0


# ---------------------------------------------------------------- decorated, methods, objects


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


def test_two_closures_of_one_function_are_two():
    assert names(keyed("a")) == ({"a"}, False)
    assert names(keyed("b")) == ({"b"}, False)


# ---------------------------------------------------------------- without a file


SNIPPET = re.search(r"```python\n(.*?)```", (HERE.parents[1] / "README.md").read_text(), re.DOTALL)[
    1
]
SAYS = "print(*(weft.AdamW.chain() + cautious).names[-2:], opt.explain().fallbacks)\n"


def python(*args, stdin=""):
    env = {**os.environ, "PYTHONPATH": str(Path(weft.__file__).parents[1]), "WEFT_ENGINE": "auto"}
    done = subprocess.run(
        [sys.executable, *args], input=stdin, capture_output=True, text=True, env=env, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


class TestWithoutSource:
    def test_the_first_snippet_of_the_readme_through_stdin(self):
        out, errors = python("-", stdin=SNIPPET + SAYS)
        assert (out.splitlines()[-1], errors) == ("cautious descend []", "")

    def test_and_as_a_command(self):
        out, errors = python("-c", SNIPPET + SAYS)
        assert (out.splitlines()[-1], errors) == ("cautious descend []", "")

    def test_and_at_a_prompt(self):
        lines = re.sub(r"\n(?=\S)", "\n\n", SNIPPET + SAYS).replace("    opt.zero", "    opt.zero")
        out, _ = python("-i", "-q", stdin=lines)
        assert out.endswith("cautious descend []")

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
            "def cb(update, x=1.0):\n out = {}\n return out",
        ],
    )
    def test_a_hyper(self, text):
        assert read(self.make(text)).hypers == {"x": 1.0}

    @pytest.mark.parametrize(
        "text",
        [
            "def cb(update, x=1.0): return {'x': update * x}",
            "def cb(update, x=1.0): return dict(x=update)",
            "def cb(update, x=1.0): return locals()",
            "def cb(update, x=1.0):\n k = 'x'\n return {k: update}",
            "def cb(p, lr, x=1.0, **kw):\n p.data.sub_(lr)\n return {'x': x + 1}",
        ],
    )
    def test_a_state(self, text):
        assert read(self.make(text)).states["x"].init == 1.0

    def test_the_originals_count(self):
        count = self.make("def cb(p, lr, n=0, **kw): return {'n': n + 1}")
        p = param(1.0)
        opt = weft.Optimizer([p], [count, descend], lr=1.0)
        opt.step()
        opt.step()
        assert opt.state[p] == {"n": 2}

    def test_declared_state(self):
        cb = self.make("def cb(grad, x): return {'x': x + grad}")
        p = param(1.0)
        opt = weft.Optimizer([p], [functools.partial(cb, x=weft.zeros), descend], lr=0.0)
        opt.step()
        assert opt.state[p]["x"].item() == 1


# ---------------------------------------------------------------- other versions of Python


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_other_versions_of_python_read_the_same(version):
    """Their opcodes differ; torch is not needed to look at code that only calls it."""
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-V"], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version} on this machine")
    script = HERE / "source_elsewhere.py"
    got = [
        subprocess.run([exe, script], capture_output=True, text=True, timeout=120)
        for exe in (python, sys.executable)
    ]
    assert not got[0].returncode, got[0].stderr
    assert got[0].stdout == got[1].stdout
    assert got[0].stdout.count("\n") > 30


# what `dis` gives for these in Python 3.14, by its documentation
OF_3_14 = {
    "out = {}; out['update'] = update * 2; return out": [
        ("RESUME", 0, 0), ("BUILD_MAP", 0, 0), ("STORE_FAST", 1, "out"),
        ("LOAD_FAST_BORROW", 0, "update"), ("LOAD_SMALL_INT", 2, 2), ("BINARY_OP", 5, 5, "*"),
        ("LOAD_FAST_BORROW", 1, "out"), ("LOAD_CONST", 1, "update"), ("STORE_SUBSCR", None, None),
        ("LOAD_FAST_BORROW", 1, "out"), ("RETURN_VALUE", None, None),
    ],
    "return {'update': update * update[0]}": [
        ("RESUME", 0, 0), ("LOAD_CONST", 1, "update"),
        ("LOAD_FAST_BORROW_LOAD_FAST_BORROW", 0, ("update", "update")), ("LOAD_SMALL_INT", 0, 0),
        ("BINARY_OP", 26, 26, "[]"), ("BINARY_OP", 5, 5, "*"), ("BUILD_MAP", 1, 1),
        ("RETURN_VALUE", None, None),
    ],
    "return dict(update=update)": [
        ("RESUME", 0, 0), ("LOAD_GLOBAL", 1, "dict", "dict + NULL"), ("LOAD_FAST_BORROW", 0, "update"),
        ("LOAD_CONST", 1, ("update",)), ("CALL_KW", 1, 1), ("RETURN_VALUE", None, None),
    ],
    "update.mul_(2); return {**pack(update)}": [
        ("RESUME", 0, 0), ("LOAD_FAST_BORROW", 0, "update"),
        ("LOAD_ATTR", 1, "mul_", "mul_ + NULL|self"), ("LOAD_SMALL_INT", 2, 2), ("CALL", 1, 1),
        ("POP_TOP", None, None), ("BUILD_MAP", 0, 0), ("LOAD_GLOBAL", 3, "pack", "pack + NULL"),
        ("LOAD_FAST_BORROW", 0, "update"), ("CALL", 1, 1), ("DICT_UPDATE", 1, 1),
        ("RETURN_VALUE", None, None),
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", OF_3_14)
def test_the_opcodes_of_3_14(text, monkeypatch):
    """They are in the table under their names: no count of this Python's own is asked."""
    scope = {"pack": pack}
    exec(f"def cb(update): {text}", scope)
    code, here = scope["cb"].__code__, run.disassembled
    listing = [
        SimpleNamespace(
            opname=name,
            arg=arg,
            argval=value,
            argrepr=words[0] if words else "",
            offset=2 * at,
            opcode=-1,
        )
        for at, (name, arg, value, *words) in enumerate(OF_3_14[text])
    ]
    monkeypatch.setattr(run, "disassembled", lambda c: (listing, []) if c is code else here(c))
    monkeypatch.setattr(source, "_seen", source._seen.__wrapped__)
    seen = look(scope["cb"])
    assert (seen.names, seen.opaque) == ({"update"}, False)
    assert seen.writes == ({"update"} if "mul_" in text else set())


# ---------------------------------------------------------------- reading again


def test_reading_again_sees_what_was_said_meanwhile():
    def cb(update, x=1.0):
        return {f"{KEY}": update * x, **unseen}

    unseen = {}
    assert read(cb).hypers == {"x": 1.0}
    cb.defaults, cb.place = {"x": 2.0}, "after"
    assert (read(cb).hypers, read(cb).place) == ({"x": 2.0}, "after")


def test_reading_does_not_keep_a_callback_alive():
    import gc
    import weakref

    class Big:
        def __call__(self, p):
            p.data.sub_(1)
            return {f"{KEY}s_of_p": p}

    big = Big()
    held = weakref.ref(big)
    read(big)
    weft.chain(big).explain()
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    weft.Optimizer([p], [big]).step()
    del big
    gc.collect()
    assert held() is None


def test_the_first_values_pickle_as_themselves():
    for state in (weft.zeros, weft.ones, weft.copy_of_param):
        assert pickle.loads(pickle.dumps(state)) is state
