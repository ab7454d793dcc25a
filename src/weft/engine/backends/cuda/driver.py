"""One NVIDIA GPU: its driver, called through ctypes; kernels run on torch's current stream."""

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch

from weft.engine.backends.cuda.nvrtc import FLAGS, NoCudaCompiler, nvrtc
from weft.engine.fallback import Unavailable
from weft.engine.toolchain.cache import Entry, built

__all__ = ["Cubins", "Driver", "NoDriver"]

NO_CONTEXT = 201  # CUDA_ERROR_INVALID_CONTEXT: the thread is new, and nothing has been launched
OLDEST = (7, 0)  # of the cards that NVRTC and torch still compile for


class NoDriver(Unavailable):
    """Kernels cannot be launched on this GPU; the chain runs eagerly."""


@functools.cache
def libcuda() -> Any:
    """The driver.

    Raises:
        NoDriver: where it is not there.
    """
    for name in ("libcuda.so.1", "libcuda.so", "nvcuda.dll"):
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            continue
        lib.cuGetErrorString.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
        return lib
    raise NoDriver("there is no NVIDIA driver (libcuda.so.1) to launch kernels with")


def _call(name: str, *args: Any) -> None:
    """Call the driver.

    Raises:
        OSError: with what it says.
    """
    code = getattr(libcuda(), name)(*args)
    if code:
        said = ctypes.c_char_p()
        libcuda().cuGetErrorString(code, ctypes.byref(said))
        raise OSError(f"{name}: {(said.value or b'error %d' % code).decode()}")


@functools.cache
def _context(index: int) -> ctypes.c_void_p:
    """The context that torch works in on a GPU."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _call("cuDeviceGet", ctypes.byref(device), index)
    _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    return context


def _enter(index: int) -> None:
    """Make it this thread's own, as the first operation of torch in a thread does."""
    _call("cuCtxSetCurrent", _context(index))


class Cubins:
    """Modules of one GPU, by NVRTC."""

    suffix = ".cubin"

    def __init__(self, memory: torch.device, arch: str):
        self.memory, self.arch, self.nvrtc = memory, arch, nvrtc()
        self.parts = ("nvrtc", *map(str, self.nvrtc.version), *FLAGS, arch, str(memory))

    def build(self, source: str, key: str) -> bytes:
        """The cubin of a source."""
        return self.nvrtc.compile(source, self.arch)[0]

    def load(self, path: Path, key: str) -> ctypes.c_void_p:
        """The module, in the context of its GPU, for as long as the process lives."""
        module = ctypes.c_void_p()
        with torch.cuda.device(self.memory):
            _enter(self.memory.index)
            _call("cuModuleLoadData", ctypes.byref(module), path.read_bytes())
        return module

    def unloadable(self, why: OSError) -> NoDriver:
        """The driver refused it."""
        return NoDriver(f"the driver of {self.memory} does not load kernels for {self.arch}: {why}")


class Driver:
    """What compiles and launches on one GPU.

    Attributes:
        memory: where tensors are.
        launch: the address of cuLaunchKernel.
    """

    def __init__(self, memory: torch.device):
        index = torch.cuda.current_device() if memory.index is None else memory.index
        self.memory = torch.device("cuda", index)
        self.launch = ctypes.cast(libcuda().cuLaunchKernel, ctypes.c_void_p).value or 0

    def require(self) -> None:
        """See that the card is no older than NVRTC compiles for."""
        assert self._builder

    @functools.cached_property
    def _builder(self) -> Cubins:
        major, minor = torch.cuda.get_device_capability(self.memory)
        if torch.version.hip:
            raise NoDriver("there are kernels for NVIDIA's GPUs only")
        if (major, minor) < OLDEST:
            raise NoDriver(f"{self.memory} is an sm_{major}{minor}, and kernels need sm_70")
        return Cubins(self.memory, f"sm_{major}{minor}")

    def library(self, source: str) -> Entry:
        """A module, compiled or from the cache."""
        return built(self._builder, source)

    def function(self, library: ctypes.c_void_p, name: str) -> int:
        """The address of one of its kernels."""
        found = ctypes.c_void_p()
        try:
            _call("cuModuleGetFunction", ctypes.byref(found), library, name.encode())
        except OSError as e:
            raise NoCudaCompiler(f"a kernel is not in what NVRTC made: {e}") from e
        return found.value or 0

    def capturing(self) -> bool:
        """Whether a CUDA graph is recorded."""
        return torch.cuda.is_current_stream_capturing()

    def stream(self) -> int:
        """Torch's current stream of this GPU."""
        return torch._C._cuda_getCurrentRawStream(self.memory.index)

    def call(self, function: Any, *args: Any) -> int:
        """A function of the host's library that launches; another device may be the current one."""
        if torch.cuda.current_device() == self.memory.index:
            code = function(*args, self.stream())
            if abs(code) != NO_CONTEXT:
                return code
        with torch.cuda.device(self.memory):
            _enter(self.memory.index)
            return function(*args, self.stream())

    def keep(self, tensors: list[torch.Tensor]) -> None:
        """The allocator is told of a stream that is not the one that memory was allocated on."""
        for t in tensors:
            t.record_stream(torch.cuda.current_stream(self.memory))
