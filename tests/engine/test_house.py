"""The house: a door for backends, no circles, nothing that is too long to be looked through."""

import ast
from pathlib import Path

import pytest
import torch
from corpus import all_chains
from test_fused_corpus import assert_same
from toy import Toy

import weft
from weft.engine import backends

SOURCES = Path(weft.__file__).parent


@pytest.fixture
def toy(monkeypatch):
    """In the C backend's place."""
    monkeypatch.setattr(backends, "_open", {"cpu": Toy()})


@pytest.mark.parametrize("chain", all_chains(), ids=lambda c: c.name)
def test_a_second_backend_runs_the_corpus(chain, toy):
    opt = assert_same(chain, torch.float32, chain.tolerance)
    assert "weft_table" not in opt.kernel_source()


def imports(path):
    """The modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_no_room_imports_a_backend_but_the_door():
    known = []
    for path in SOURCES.rglob("*.py"):
        inside = path.is_relative_to(SOURCES / "engine" / "backends")
        for name in imports(path):
            room = name.removeprefix("weft.engine.backends.")
            if room != name and room != "base" and not inside:
                known.append(f"{path.relative_to(SOURCES)} imports {name}")
    assert not known


def test_a_device_that_has_no_backend(monkeypatch):
    assert backends.for_device(torch.device("meta")) is None


# ---------------------------------------------------------------- circles


def module_of(path):
    parts = path.relative_to(SOURCES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path, modules):
    """The modules of weft that a file imports, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names]
        else:
            continue
        for name in names:
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name not in ("", "weft", module_of(path)):
                yield name


def for_types_only(path):
    """What only a type checker imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (n.module for n in node.body if isinstance(n, ast.ImportFrom))


def test_no_circle_of_imports_early_or_late():
    files = {module_of(path): path for path in SOURCES.rglob("*.py")}
    left = {
        name: set(imported(path, files)) - set(for_types_only(path)) for name, path in files.items()
    }
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        for name in free:
            del left[name]
    assert not left, "in a circle, or behind one: " + ", ".join(sorted(left))


ROOMS = (
    "ir",
    "eager",
    "trace",
    "plan",
    "toolchain",
    "host",
    "sharded",
    "backends",
    "runtime",
    "explain",
)


def test_rooms_of_the_engine_know_those_above_them_only():
    """In the order of the table in docs/engine.md."""
    files = {module_of(path): path for path in SOURCES.rglob("*.py")}
    upwards = []
    for name, path in files.items():
        place = {f"weft.engine.{room}": i for i, room in enumerate(ROOMS)}
        own = place.get(".".join(name.split(".")[:3]))
        for other in imported(path, files) if own is not None else ():
            if place.get(".".join(other.split(".")[:3]), -1) > own:
                upwards.append(f"{name} imports {other}")
    assert not upwards


# ---------------------------------------------------------------- sizes


def test_no_module_has_more_than_400_lines():
    longest = {
        p.name: len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES.rglob("*.py")
    }
    assert not {name: n for name, n in longest.items() if n > 400}


def test_no_function_has_more_than_50_lines_of_code():
    found = []
    for path in SOURCES.rglob("*.py"):
        for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(n, ast.FunctionDef):
                docstring = n.body[0] if ast.get_docstring(n) else None
                words = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
                if n.end_lineno - n.lineno + 1 - words > 50:
                    found.append(f"{path.name}: {n.name}")
    assert not found
