"""The machine's compiler: which it is, and how it is called."""

import functools
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from weft.engine.fallback import Unavailable

__all__ = ["Compiler", "NoCompiler", "compile_c", "cpu_type", "find_compiler"]

# IEEE arithmetic as torch has it: no contraction into fma, no fast-math; errno and traps are nobody's
FLAGS = (
    "-O3", "-std=gnu11", "-fPIC", "-shared", "-w", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-fwrapv", "-fvisibility=default",
)  # fmt: skip
NATIVE = ("-march=native",)
TIMEOUT = 120


class NoCompiler(Unavailable):
    """There is no compiler, or it does not compile; the chain runs eagerly."""


class Compiler(NamedTuple):
    """How to call it, and what tells it from another version of itself."""

    command: tuple[str, ...]
    identity: str

    @property
    def name(self) -> str:
        """What it is called in a reason."""
        return self.command[0]


_hangs: set[Compiler] = set()  # what was waited for once, and is not again


def find_compiler() -> Compiler:
    """WEFT_CC where it is set, else the first of cc, gcc and clang.

    Raises:
        NoCompiler: where there is none.
    """
    wanted = os.environ.get("WEFT_CC")
    try:
        for command in [wanted] if wanted is not None else ["cc", "gcc", "clang"]:
            words = shlex.split(command)
            path = shutil.which(words[0]) if words else None
            if path is not None:
                identity = "\n".join([shlex.join(words), *map(_version, words)])
                return Compiler((path, *words[1:]), identity)
    except (OSError, ValueError) as e:
        raise NoCompiler(f"the C compiler {wanted or 'cc'!r} cannot be called: {e}") from e
    raise NoCompiler(
        f"the C compiler {wanted!r} (WEFT_CC) is not there" if wanted is not None
        else "there is no C compiler (cc, gcc, clang, or WEFT_CC)"
    )  # fmt: skip


def _version(word: str) -> str:
    """What changes when a program or a file of a command is replaced; `env mycc` has two."""
    real = os.path.realpath(shutil.which(word) or word)
    if not os.path.isfile(real):
        return ""
    seen = os.stat(real)
    return f"{real} {seen.st_size} {seen.st_mtime_ns}"


@functools.cache
def cpu_type() -> str:
    """The CPU that `-march=native` compiles for."""
    lines: list[str] = []
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
            for line in f:
                if not line.strip() and lines:
                    break
                if line.startswith(
                    ("model", "flags", "Features", "CPU ", "cpu family", "stepping")
                ):
                    lines.append(line.strip())
    except OSError:
        lines.append(platform.processor())
    return "\n".join([platform.machine(), platform.system(), *lines])


def compile_c(compiler: Compiler, source: str, extra: tuple[str, ...] = ()) -> bytes:
    """Compile C text to a shared library, and read that.

    Raises:
        NoCompiler: with what the compiler said, or the disk.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="weft-", ignore_cleanup_errors=True) as build:
            c, so = Path(build, "kernel.c"), Path(build, "kernel.so")
            c.write_text(source, encoding="utf-8")
            said = ""
            for native in (NATIVE, ()):  # some compilers do not know -march=native
                files = ("-o", str(so), str(c), "-lm", "-lpthread")
                said = _call(compiler, *FLAGS, *native, *extra, *files)
                body = so.read_bytes() if said is None and so.is_file() else b""
                if body:
                    return body
    except OSError as e:
        raise NoCompiler(f"there is nowhere to compile: {e}") from e
    raise NoCompiler(f"the C compiler {compiler.name} failed: {said or 'it wrote nothing'}")


def _call(compiler: Compiler, *options: str) -> str | None:
    """Run the compiler; what it said, where it failed.

    Raises:
        NoCompiler: where it does not run at all, or without end.
    """
    slow = f"the C compiler {compiler.name} was not done after {TIMEOUT} seconds"
    if compiler in _hangs:
        raise NoCompiler(slow)
    try:
        done = subprocess.run(
            [*compiler.command, *options],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as e:
        _hangs.add(compiler)
        raise NoCompiler(slow) from e
    except OSError as e:
        raise NoCompiler(f"the C compiler {compiler.name} did not run: {e}") from e
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).decode(errors="replace").strip()
    return _gist(said) or f"exit status {done.returncode}"


def _gist(said: str) -> str:
    """The line that matters of what a compiler said."""
    lines = said.splitlines()
    return next((x for x in lines if "error" in x), lines[0] if lines else "")[:200]
