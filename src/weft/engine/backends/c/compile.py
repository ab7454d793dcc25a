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

__all__ = ["Compiler", "NoCompiler", "compile_c", "cpu_type", "find_compiler"]

# IEEE arithmetic as torch has it: no contraction into fma, no fast-math; errno and traps are nobody's
FLAGS = (
    "-O3", "-std=gnu11", "-fPIC", "-shared", "-w", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-fwrapv", "-fvisibility=default",
)  # fmt: skip
NATIVE = ("-march=native",)
TIMEOUT = 120


class NoCompiler(Exception):
    """There is no compiler, or it does not compile; the chain runs eagerly."""


class Compiler(NamedTuple):
    """How to call it, and what tells it from another version of itself."""

    command: tuple[str, ...]
    identity: str


def find_compiler() -> Compiler:
    """WEFT_CC where it is set, else the first of cc, gcc and clang.

    Raises:
        NoCompiler: where there is none.
    """
    wanted = os.environ.get("WEFT_CC")
    for command in [wanted] if wanted is not None else ["cc", "gcc", "clang"]:
        words = shlex.split(command)
        path = shutil.which(words[0]) if words else None
        if path is not None:
            real = os.path.realpath(path)
            seen = os.stat(real)
            identity = f"{' '.join(words)} {real} {seen.st_size} {seen.st_mtime_ns}"
            return Compiler((path, *words[1:]), identity)
    raise NoCompiler(
        f"the C compiler {wanted!r} (WEFT_CC) is not there" if wanted is not None
        else "there is no C compiler (cc, gcc, clang, or WEFT_CC)"
    )  # fmt: skip


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


def compile_c(compiler: Compiler, source: str, to: Path, extra: tuple[str, ...] = ()) -> None:
    """Compile C text to a shared library.

    Raises:
        NoCompiler: with what the compiler said.
        OSError: where nothing can be written.
    """
    with tempfile.TemporaryDirectory(prefix="weft-") as build:
        c = Path(build, "kernel.c")
        c.write_text(source, encoding="utf-8")
        said = ""
        for native in (NATIVE, ()):  # some compilers do not know -march=native
            command = [
                *compiler.command,
                *FLAGS,
                *native,
                *extra,
                "-o",
                str(to),
                str(c),
                "-lm",
                "-lpthread",
            ]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=TIMEOUT, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as e:
                raise NoCompiler(f"the C compiler {compiler.command[0]} did not run: {e}") from e
            if done.returncode == 0 and to.exists():
                return
            said = (done.stderr or done.stdout).strip()[:500]
            if "No space left" in said:
                raise OSError(said)
        raise NoCompiler(f"the C compiler {compiler.command[0]} failed: {said}")
