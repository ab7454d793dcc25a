"""The cache on disk: what is trusted, what is built again, and what happens where nothing can be."""

import json
import os
import shlex
import stat
import subprocess
import sys
import tempfile
import time
import warnings

import pytest
import torch

import weft
from weft.callbacks import descend
from weft.engine.backends.c import kernel
from weft.engine.toolchain import cache, compiler, trusted_files

SOURCE = "int weft_test(void) {{ return {n}; }}\n"
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs files of another user"
)


@pytest.fixture
def forget(monkeypatch):
    """Makes this process forget what it has loaded, and what failed."""

    def forgets():
        monkeypatch.setattr(cache, "_loaded", {})
        monkeypatch.setattr(cache, "_failed", {})
        monkeypatch.setattr(compiler, "_hangs", set())
        monkeypatch.setattr(trusted_files, "_private", [])

    forgets()
    return forgets


@pytest.fixture
def folder(tmp_path, monkeypatch, forget):
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("WEFT_CC", raising=False)
    return tmp_path / "cache" / "kernels"


def value(n=1):
    entry = cache.library(SOURCE.format(n=n))
    return entry, entry.lib.weft_test()


def paths(entry):
    return [entry.folder / f"{entry.key}.{ext}" for ext in ("so", "json")]


def put(path, body):
    """Another file under this name: what is loaded from the old one has its memory still."""
    path.with_name("new").write_bytes(body)
    path.with_name("new").chmod(0o600)
    path.with_name("new").replace(path)


# ---------------------------------------------------------------- what is trusted


def test_only_we_can_read_or_write_what_is_kept(folder):
    before = os.umask(0)
    try:
        entry, _ = value()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(p.stat().st_mode) for p in paths(entry)] == [0o600, 0o600]
    assert [stat.S_IMODE(p.stat().st_mode) for p in (folder, folder.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("which", ["so", "json"])
def test_a_file_that_others_can_write_is_built_again(folder, forget, which):
    entry, _ = value()
    path = folder / f"{entry.key}.{which}"
    for mode in (0o620, 0o602):
        path.chmod(mode)
        forget()
        again, got = value()
        assert (again.built, got) == (True, 1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    forget()
    assert not value()[0].built


@as_root
@pytest.mark.parametrize("which", ["so", "json"])
def test_a_file_of_another_user_is_built_again(folder, forget, which):
    entry, _ = value()
    path = folder / f"{entry.key}.{which}"
    os.chown(path, 12345, 12345)
    forget()
    assert value()[0].built
    assert path.stat().st_uid == os.geteuid()


def test_the_folder_above_has_to_be_closed_too(folder, forget):
    entry, _ = value()
    folder.parent.chmod(0o777)
    forget()
    entry, got = value()
    assert (entry.built, entry.folder == folder, got) == (True, False, 1)


def test_the_folder_above_has_to_be_a_real_one(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder.parent.symlink_to(tmp_path / "elsewhere")
    assert value()[0].folder != folder
    assert not list((tmp_path / "elsewhere").iterdir())


# ---------------------------------------------------------------- what is odd


def test_an_entry_under_the_name_of_another_is_built_again(folder, forget):
    (one, _), (two, _) = value(1), value(2)
    for mine, other in zip(paths(one), paths(two), strict=True):
        put(mine, other.read_bytes())
    forget()
    again, got = value(1)
    assert (again.built, got) == (True, 1)


def test_a_library_of_another_source_is_built_again(folder, forget):
    (one, _), (two, _) = value(1), value(2)
    (so, notes), body = paths(one), paths(two)[0].read_bytes()
    put(so, body)
    put(notes, json.dumps({**cache._head(one.key, body), "notes": {}}).encode())
    forget()
    again, got = value(1)
    assert (again.built, got) == (True, 1)


ODD = ["null", "7", "[]", "{}", '"text"', "[" * 100_000, "{", "\ud800", "1" * 10_000]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_notes_are_built_again(folder, forget, text):
    entry, _ = value()
    (folder / f"{entry.key}.json").write_text(text, errors="surrogatepass")
    forget()
    again, got = value()
    assert (again.built, got) == (True, 1)
    forget()
    assert not value()[0].built


@pytest.mark.parametrize("notes", [None, 3, "text", [], {"a": None}, {"a": "text"}, {"a": [3]}])
def test_verdicts_that_are_not_words_are_built_again(folder, forget, notes):
    entry, _ = value()
    path = folder / f"{entry.key}.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "notes": notes}))
    forget()
    again, _ = value()
    assert (again.built, again.notes) == (True, {})


def test_verdicts_are_kept(folder, forget):
    value()[0].note("a", ["b"])
    forget()
    entry, _ = value()
    assert (entry.built, entry.notes) == (False, {"a": ["b"]})


def large(path):
    with open(path, "wb") as f:
        f.truncate(cache.LARGEST_LIBRARY + 1)


def link(path):
    path.with_name("target").write_bytes(body := path.with_name("body").read_bytes())
    assert body
    path.symlink_to(path.with_name("target"))


@pytest.mark.parametrize("which", ["so", "json"])
@pytest.mark.parametrize("make", [os.mkfifo, large, link, os.mkdir])
def test_what_is_no_plain_file_is_built_again(folder, forget, which, make):
    entry, _ = value()
    path = folder / f"{entry.key}.{which}"
    path.rename(path.with_name("body"))
    make(path)
    forget()
    again, got = value()
    assert (again.built, got) == (True, 1)
    forget()
    assert value()[0].built == (make is os.mkdir)  # which nothing is moved over


# ---------------------------------------------------------------- no compiler, no room


def unlike_all_others(update, scale=1.0):
    return {"update": update * scale * 1.2345 + update.abs() * 0.0321}


def train(engine):
    """A few steps, each with other hypers; gives the parameters and the warnings."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s)) for s in [(4, 3), (5,), ()]]
    opt = weft.Optimizer(params, [unlike_all_others, descend], engine=engine, lr=0.1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for i in range(4):
            opt.set_hypers(lr=0.1 / (i + 1), scale=1.0 + i)
            for p in params:
                p.grad = torch.randn(p.shape)
            opt.step()
    return params, [str(w.message) for w in said], opt.explain().builds


def same(wanted, got, **close):
    for x, y in zip(wanted, got, strict=True):
        torch.testing.assert_close(x, y, **close)


def steps_eagerly(reason):
    """See that a chain runs eagerly, says so once and why in one line, and steps as it would."""
    wanted, _, _ = train("eager")
    got, said, builds = train("auto")
    assert (len(said), builds) == (1, 0)
    assert reason in said[0]
    assert "\n" not in said[0]
    same(wanted, got, rtol=0, atol=0)


@pytest.fixture
def fresh(folder, monkeypatch):
    """A process that has no kernel of the chain yet."""
    monkeypatch.delenv("WEFT_ENGINE", raising=False)
    monkeypatch.setattr(kernel, "_kernels", {})
    return folder


def script(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


TO = 'while [ "$1" != -o ]; do shift; done; '
WRONG = {
    "rubbish": (TO + 'echo rubbish > "$2"', "cannot be loaded"),
    "empty": (TO + ': > "$2"', "wrote nothing"),
    "nothing": ("exit 0", "wrote nothing"),
    "other": (TO + 'echo "int x;" | cc -shared -fPIC -xc - -o "$2"', "another source"),
    "latin": (r"printf 'b\377\376oom\nmore\n' >&2; exit 1", "oom"),
    "long": ("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1", "failed: xxx"),
    "killed": ("kill -9 $$", "exit status -9"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_compiler_that_fails_in_its_own_way(fresh, tmp_path, monkeypatch, name):
    body, reason = WRONG[name]
    monkeypatch.setenv("WEFT_CC", script(tmp_path / name, body))
    steps_eagerly(reason)
    assert not list(fresh.glob("*"))
    assert not list(fresh.glob(".*"))


def test_a_compiler_that_cannot_be_spelled(fresh, monkeypatch):
    monkeypatch.setenv("WEFT_CC", '"x')
    steps_eagerly("No closing quotation")


@pytest.mark.parametrize("where", ["compile", "cache"])
def test_a_disk_where_nothing_can_be_written(fresh, monkeypatch, where):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if where == "compile":
        monkeypatch.setattr(compiler.tempfile, "TemporaryDirectory", full)
    else:
        monkeypatch.setattr(trusted_files.tempfile, "mkstemp", full)
    steps_eagerly("No space left on device")


def test_a_user_without_a_home(fresh, monkeypatch):
    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("WEFT_CACHE_DIR")
    monkeypatch.setattr(trusted_files.Path, "home", none)
    assert value()[1] == 1


LIMITED = """
import resource
import torch, weft
from weft.engine.toolchain import cache, compiler
torch.nn.Linear(2, 2)
resource.setrlimit(resource.RLIMIT_FSIZE, ({n}, {n}))
try:
    cache.library("int weft_test(void) {{ return 1; }}" + " " * 5000)
except compiler.NoCompiler as e:
    print("NoCompiler", e)
"""


@pytest.mark.parametrize("n", [0, 4096, 8192])
def test_a_limit_to_the_size_of_files(folder, n):
    code = LIMITED.format(n=n)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NoCompiler")


# ---------------------------------------------------------------- a folder that cannot be written


def test_a_cache_that_cannot_be_written_is_read_and_otherwise_done_without(
    folder, forget, monkeypatch
):
    value(1)
    real = trusted_files.tempfile.mkstemp

    def refuse(*args, dir, **kwargs):
        if dir == folder:
            raise PermissionError(13, "Permission denied")
        return real(*args, dir=dir, **kwargs)

    monkeypatch.setattr(trusted_files.tempfile, "mkstemp", refuse)
    forget()
    assert not value(1)[0].built
    entry, got = value(2)
    assert (entry.built, entry.folder == folder, got) == (True, False, 2)
    entry.note("a", ["b"])
    assert len(list(folder.iterdir())) == 2


UNRIGHTFUL = """
import os, sys
import torch
from weft.engine.toolchain import cache
cache.cpu_type(), cache.find_compiler()  # what imports has to be done as root
os.setgid(12345), os.setuid(12345)
sys.exit(cache.library('int weft_test(void) { return 7; }').lib.weft_test())
"""


@as_root
def test_a_folder_without_the_right_to_write():
    """As a user who is not root, for whom a mode means something."""
    with tempfile.TemporaryDirectory() as home:
        kernels = os.path.join(home, "kernels")
        os.mkdir(kernels, 0o555)
        for path in (home, kernels):
            os.chown(path, 12345, 12345)
        env = {**os.environ, "WEFT_CACHE_DIR": home}
        assert subprocess.run([sys.executable, "-c", UNRIGHTFUL], env=env).returncode == 7
        assert not os.listdir(kernels)


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_steps_are_fused_whether_or_not_the_cache_is_trusted(fresh, mode):
    fresh.parent.mkdir()
    fresh.parent.chmod(mode)
    wanted, _, _ = train("eager")
    got, said, builds = train("fused")
    assert (said, builds) == ([], 1)
    same(wanted, got)
    assert fresh.exists() == (mode == 0o700)


# ---------------------------------------------------------------- once is enough


def test_a_build_that_failed_is_not_tried_again(fresh, tmp_path, monkeypatch):
    tried = tmp_path / "tried"
    monkeypatch.setenv("WEFT_CC", script(tmp_path / "mycc", f"echo x >> {tried}; exit 1"))
    steps_eagerly("failed")
    once = tried.read_text()
    steps_eagerly("failed")
    assert tried.read_text() == once


def test_a_compiler_that_hangs_is_waited_for_once(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "TIMEOUT", 1)
    monkeypatch.setenv("WEFT_CC", script(tmp_path / "hangs", "exec sleep 30"))
    begin = time.monotonic()
    steps_eagerly("not done after 1 seconds")
    for n in range(3):
        with pytest.raises(compiler.NoCompiler, match="not done"):
            value(n)
    assert time.monotonic() - begin < 15


def test_a_compiler_is_known_by_all_its_files(tmp_path, monkeypatch):
    mycc = script(tmp_path / "mycc", 'exec cc "$@"')
    rules = tmp_path / "rules"
    rules.write_text("")
    monkeypatch.setenv("WEFT_CC", shlex.join(["env", "A=b", mycc, str(rules)]))
    seen = {compiler.find_compiler().identity}
    script(tmp_path / "mycc", '# another\nexec cc "$@"')
    seen.add(compiler.find_compiler().identity)
    rules.write_text("other")
    seen.add(compiler.find_compiler().identity)
    assert len(seen) == 3


# ---------------------------------------------------------------- forks

FORKS = """
import os, threading, time, warnings
import torch, weft, weft.engine.runtime.fused
from weft.engine.host.native import native
from weft.engine.toolchain import compiler

def make():
    p = torch.nn.Parameter(torch.ones(5))
    p.grad = torch.ones(5)
    return weft.SGD([p], lr=0.1)

begun, go_on, real = threading.Event(), threading.Event(), compiler._call

def slow(*args):
    if threading.current_thread() is not threading.main_thread():
        begun.set()
        go_on.wait(60)
    return real(*args)

compiler._call = slow
builds = threading.Thread(target=native)
builds.start()
assert begun.wait(60)
child = os.fork()
if child == 0:
    make().step()
    os._exit(0)
end = time.monotonic() + 60
while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
    if time.monotonic() > end:
        os.kill(child, 9)
        raise SystemExit("the child hangs")
    time.sleep(0.05)
go_on.set()
builds.join()
assert done[1] == 0
make().step()
"""


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_that_is_forked_while_another_thread_builds(folder):
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
