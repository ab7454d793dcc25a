"""The C backend: every op against torch, exact conversions and constants, and the cache on disk."""

import json
import os
import subprocess
import sys

import pytest
import torch

from weft.engine.backends.c import kernel
from weft.engine.backends.c.launch import CLaunch
from weft.engine.backends.source import ops
from weft.engine.backends.source.layout import lay_out
from weft.engine.ir.graph import Graph
from weft.engine.ir.ops import POINTWISE, PREDICATES
from weft.engine.plan.partition import make_plan
from weft.engine.toolchain import cache

SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    3.5,
    1e-42,
    1e30,
    -1e30,
    float("inf"),
    -float("inf"),
    float("nan"),
]


def run(make, inputs, out, reduce=None):
    """Run a graph of one phase on tensors; `make(graph, *loads)` gives the value to store."""
    shape = tuple(inputs[0].shape)
    g = Graph()
    names = ["p", "grad", "third"][: len(inputs)]
    loads = [g.load(n, shape, t.dtype) for n, t in zip(names, inputs, strict=True)]
    g.output("state", "out", make(g, *loads))
    held = {n: (shape, t.dtype) for n, t in zip(names, inputs, strict=True)}
    stores = {"out": (tuple(out.shape), out.dtype)}
    plan = make_plan(g, shape, held, stores, ops.lowers)
    lay_out(plan)
    launch = CLaunch(kernel.build(plan, "test"), [plan], [inputs[0].numel()])
    where = dict(zip(names, inputs, strict=True)) | {"out": out}
    for i, s in enumerate(plan.slots):
        launch.point(i, [where[s.name].data_ptr()])
    launch.run(0, len(plan.phases))
    return out


FLOAT_OPS = [o for o in POINTWISE if o not in ("and", "or", "xor", "not", "cast", "where")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", FLOAT_OPS)
def test_each_op_as_torch_has_it(op, dtype):
    a = torch.tensor(SPECIAL, dtype=dtype)
    if op in ("fmod", "remainder"):  # torch's own give NaN for a denormal divisor
        a = a[a != 1e-42] if dtype is torch.float64 else a[a.abs() != torch.tensor(1e-42)]
    a, b = a.repeat_interleave(len(a)), a.repeat(len(a))
    args = (a, b)[: POINTWISE[op]]
    wanted = getattr(torch, op)(*args)
    kind = torch.bool if op in PREDICATES else dtype
    out = run(
        lambda g, *x: g.add(op, x, shape=tuple(a.shape), dtype=kind),
        args,
        torch.empty(a.shape, dtype=kind),
    )
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=0, equal_nan=True)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_16_bit_values_are_read_exactly_and_rounded_to_nearest_even(half):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(half)
    g = Graph()
    shape = tuple(every.shape)
    x = g.load("p", shape, torch.float32)
    g.output("state", "out", x)
    plan = make_plan(g, shape, {"p": (shape, half)}, {"out": (shape, torch.float32)}, ops.lowers)
    lay_out(plan)
    wide = torch.empty(shape)
    launch = CLaunch(kernel.build(plan, "read"), [plan], [every.numel()])
    for i, s in enumerate(plan.slots):
        launch.point(i, [(every if s.name == "p" else wide).data_ptr()])
    launch.run(0, 1)
    torch.testing.assert_close(wide, every.float(), rtol=0, atol=0, equal_nan=True)
    torch.manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (200_000,), dtype=torch.int64).to(torch.int32)
    floats = torch.cat(
        [
            bits.view(torch.float32),
            wide,
            torch.nextafter(wide, torch.tensor(1e9)),
            wide * 1.00048828125,
        ]
    )
    out = run(lambda g, x: x, (floats,), torch.empty(floats.shape, dtype=half))
    torch.testing.assert_close(out, floats.to(half), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("op", ["sum", "amax", "amin"])
@pytest.mark.parametrize("n", [1, 15, 16, 513, 16384, 100_001])
def test_reductions_are_close_to_float64(op, n):
    torch.manual_seed(n)
    x = torch.rand(n)
    out = run(
        lambda g, x: g.add(op, (x,), shape=(), dtype=x.dtype, dims=(0,), keepdim=False),
        (x,),
        torch.empty(()),
    )
    wanted = getattr(x.double(), op)().float()
    torch.testing.assert_close(out, wanted, rtol=1e-7, atol=0)


def test_the_error_of_a_sum_does_not_grow_with_size():
    x = torch.full((5_000_000,), 0.1)
    out = run(
        lambda g, x: g.add("sum", (x,), shape=(), dtype=x.dtype, dims=(0,), keepdim=False),
        (x,),
        torch.empty(()),
    )
    torch.testing.assert_close(out, x.double().sum().float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "value", [0.1, -0.0, 1e-45, 3.4e38, 1e39, float("inf"), float("nan"), 1 / 3]
)
def test_constants_are_exact(value):
    x = torch.zeros(3)
    out = run(
        lambda g, x: g.add("add", (x, g.const(value)), shape=(3,), dtype=x.dtype),
        (x,),
        torch.empty(3),
    )
    torch.testing.assert_close(out, x + torch.tensor(value), rtol=0, atol=0, equal_nan=True)


def test_names_cannot_leave_their_comments():
    g = Graph()
    g.source = "evil */ int system(const char *); /* \n#include <stdlib.h>"
    x = g.load("p", (3,), torch.float32)
    g.output("p", "", g.add("neg", (x,), shape=(3,), dtype=x.dtype))
    plan = make_plan(g, (3,), {"p": ((3,), torch.float32)}, {}, ops.lowers)
    lay_out(plan)
    source = kernel.build(plan, "a */ b").source
    assert "evil __" in source
    assert "#include <stdlib.h>" not in source
    assert "*/ int" not in source


# ---------------------------------------------------------------- the cache

SOURCE = "int weft_test_{n}(void) {{ return {n}; }}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_loaded", {})
    return tmp_path / "cache" / "kernels"


def value(n):
    entry = cache.library(SOURCE.format(n=n))
    return entry, getattr(entry.lib, f"weft_test_{n}")()


def test_built_once_then_loaded(folder, monkeypatch):
    entry, got = value(1)
    assert (entry.built, got) == (True, 1)
    monkeypatch.setattr(cache, "_loaded", {})
    entry, got = value(1)
    assert (entry.built, got) == (False, 1)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_corrupted_entry_is_built_again(folder, monkeypatch):
    entry, _ = value(2)
    for spoil in (b"", b"not a library", (folder / f"{entry.key}.so").read_bytes()[:-1]):
        aside = folder / "aside"
        aside.write_bytes(spoil)
        os.replace(aside, folder / f"{entry.key}.so")
        monkeypatch.setattr(cache, "_loaded", {})
        again, got = value(2)
        assert (again.built, got) == (True, 2)
    (folder / f"{entry.key}.json").write_text(json.dumps({"format": "other"}))
    monkeypatch.setattr(cache, "_loaded", {})
    assert value(2)[0].built


def test_a_folder_that_others_can_write_is_not_trusted(folder):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    entry, got = value(3)
    assert got == 3
    assert entry.folder != folder
    assert not list(folder.iterdir())


def test_a_folder_that_is_a_link_is_not_trusted(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert value(4)[0].folder != folder


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(cache, "_loaded", {})
    assert value(5)[1] == 5


def test_another_compiler_has_its_own_entries(folder, tmp_path, monkeypatch):
    key = value(6)[0].key
    wrapper = tmp_path / "mycc"
    wrapper.write_text('#!/bin/sh\nexec cc "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("WEFT_CC", str(wrapper))
    monkeypatch.setattr(cache, "_loaded", {})
    assert value(6)[0].key != key


@pytest.mark.processes
def test_several_processes_build_at_once(folder):
    code = (
        "from weft.engine.toolchain import cache\n"
        "e = cache.library('int weft_race(void) { return 7; }')\n"
        "assert e.lib.weft_race() == 7\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [r.wait() for r in racers] == [0, 0, 0]
    assert not [f for f in folder.iterdir() if f.name.startswith(".")]


def test_types_have_names():
    assert ops.CTYPE[torch.float32] == "float"
