"""CUDA C to a cubin, by the NVRTC that torch's wheels bring; no GPU, no driver and no nvcc are needed."""

import ctypes
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weft.engine.fallback import Unavailable

__all__ = ["FLAGS", "NoCudaCompiler", "Nvrtc", "nvrtc"]

# as eager rounds: no contraction into fma; quotients and roots are exact unless asked otherwise
FLAGS = ("--std=c++17", "--fmad=false", "--disable-warnings")


class NoCudaCompiler(Unavailable):
    """There is no NVRTC, or it does not compile; the chain runs eagerly."""


class Nvrtc:
    """The library.

    Attributes:
        version: (major, minor).
    """

    def __init__(self, lib: Any):
        self.lib = lib
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("Version", ctypes.byref(major), ctypes.byref(minor))
        self.version = major.value, minor.value

    def _call(self, name: str, *args: Any) -> None:
        code = getattr(self.lib, f"nvrtc{name}")(*args)
        if code:
            said = self.lib.nvrtcGetErrorString(code).decode()
            raise NoCudaCompiler(f"NVRTC could not compile a kernel: {said} (in nvrtc{name})")

    def compile(self, source: str, arch: str, *options: str) -> tuple[bytes, str]:
        """The cubin for an architecture (`sm_90`), and what the compiler said.

        Raises:
            NoCudaCompiler: with the first error that it found.
        """
        program = ctypes.c_void_p()
        self._call(
            "CreateProgram", ctypes.byref(program), source.encode(), b"weft.cu", 0, None, None
        )
        try:
            given = [o.encode() for o in (*FLAGS, f"--gpu-architecture={arch}", *options)]
            code = self.lib.nvrtcCompileProgram(
                program, len(given), (ctypes.c_char_p * len(given))(*given)
            )
            said = self._read(program, "ProgramLog").decode(errors="replace").rstrip("\0")
            if code:
                error = next((x for x in said.splitlines() if "error" in x), said[:200])
                raise NoCudaCompiler(f"NVRTC could not compile a kernel for {arch}: {error}")
            return self._read(program, "CUBIN"), said
        finally:
            self._call("DestroyProgram", ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        body = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, body)
        return body.raw


def _installed() -> Iterator[tuple[Path, list[Path]]]:
    """Each NVRTC in the wheels of NVIDIA, with the libraries that it looks for; the newest first."""
    spec = importlib.util.find_spec("nvidia")
    for root in sorted(map(Path, spec.submodule_search_locations or ())) if spec else ():
        for lib in sorted(root.glob("*/lib/libnvrtc.so.*"), reverse=True):
            yield lib, sorted(lib.parent.glob("libnvrtc-builtins.so.*"))


@functools.cache
def nvrtc() -> Nvrtc:
    """The NVRTC of this environment: of torch's wheels, else the system's.

    Raises:
        NoCudaCompiler: says what to install.
    """
    for path, builtins in _installed():
        try:
            for other in builtins:  # it is looked for by name, and found where it is loaded already
                ctypes.CDLL(str(other), mode=ctypes.RTLD_GLOBAL)
            return Nvrtc(ctypes.CDLL(str(path)))
        except OSError:
            continue
    for name in ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"):
        try:
            return Nvrtc(ctypes.CDLL(name))
        except OSError:
            continue
    raise NoCudaCompiler(
        "there is no NVRTC to compile kernels for the GPU: pip install nvidia-cuda-nvrtc"
    )
