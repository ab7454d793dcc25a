"""A played GPU: torch's device "cuda", the driver and NVRTC, for the tests of the GPU where there is none.

`pytest -p card -m gpu tests/gpu`, with this folder in PYTHONPATH. It has to come before torch: see
card.cpp for what it does with operations. Kernels are compiled for the host, block after block.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import itertools
import subprocess
import sys
import sysconfig
import tempfile
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).parent
ENGINE = HERE.parents[1] / "engine"
POINTER = ctypes.c_void_p


def built(name, *flags):
    """The library of a source beside this file, by the C++ compiler and torch's headers."""
    source, torch = HERE / f"{name}.cpp", torch_folder()
    key = hashlib.sha256(source.read_bytes() + (torch / "version.py").read_bytes()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"weft-played-{key}" / f"{name}.so"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        include = [torch / "include", torch / "include/torch/csrc/api/include"]
        half = path.with_suffix(f".{time.time_ns()}")
        subprocess.run(
            ["c++", "-O1", "-std=c++20", "-shared", "-fPIC", source, "-o", half, *flags]
            + [f"-I{i}" for i in (*include, sysconfig.get_path("include"))],
            check=True,
        )
        half.rename(path)
    return path


def torch_folder():
    """Where torch is, which has not been imported."""
    return Path(importlib.util.find_spec("torch").origin).parent


def opened():
    """The played device, with torch's libraries behind it."""
    assert "torch" not in sys.modules, "the played GPU has to come before torch"
    lib, share = torch_folder() / "lib", {"mode": ctypes.RTLD_GLOBAL}
    ctypes.CDLL(str(built("accelerator")), **share)
    for name in ("libtorch_global_deps.so", "libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(lib / name), **share)
    card = ctypes.CDLL(str(built("card")))
    card.card_begin.argtypes = card.card_replay.argtypes = [ctypes.c_int64]
    card.card_state.argtypes, card.card_state.restype = [POINTER, POINTER], ctypes.c_int64
    card.card_seed.argtypes = [ctypes.c_uint64]
    return card


card = opened()

import torch  # noqa: E402

from weft.engine.toolchain.compiler import find_compiler  # noqa: E402

# ---------------------------------------------------------------- torch.cuda


class Stream:
    """The one that there is."""

    cuda_stream = 0

    def __init__(self, *_, **__): ...
    def wait_stream(self, other): ...
    def wait_event(self, event): ...
    def synchronize(self):
        card.card_synchronize()


class Event:
    """A moment of the host."""

    def __init__(self, **_): ...
    def record(self, *_):
        self.at = time.perf_counter()

    def elapsed_time(self, other):
        return 1e3 * (other.at - self.at)


class Device(contextlib.nullcontext):
    """The only one is the current one."""

    def __init__(self, device):
        super().__init__()
        self.idx = 0


class Graph:
    """What has been recorded."""

    numbers = itertools.count(1)

    def __init__(self):
        self.number = next(self.numbers)

    def replay(self):
        card.card_replay(self.number)


@contextlib.contextmanager
def record(graph, **_):
    """As torch.cuda.graph does."""
    card.card_begin(graph.number)
    try:
        yield
    finally:
        card.card_end()


class Generator:
    """The device's own."""

    def manual_seed(self, seed):
        card.card_seed(seed % 2**64)

    def get_state(self):
        state = torch.empty(card.card_state(None, None), dtype=torch.uint8)
        card.card_state(state.data_ptr(), None)
        return state

    def set_state(self, state):
        card.card_state(None, state.data_ptr())


ONLY, GENERATOR = Stream(), Generator()
PLAYED = {
    "_lazy_init": lambda: None, "is_available": lambda: True, "is_initialized": lambda: True,
    "device_count": lambda: 1, "current_device": lambda: 0, "synchronize": lambda *_: card.card_synchronize(),
    "empty_cache": lambda: None, "Stream": Stream, "Event": Event, "current_stream": lambda *_: ONLY,
    "stream": lambda _: contextlib.nullcontext(), "device": Device,
    "get_device_capability": lambda *_: (9, 0), "manual_seed_all": GENERATOR.manual_seed, "manual_seed": GENERATOR.manual_seed,
    "get_device_properties": lambda *_: SimpleNamespace(name="played", multi_processor_count=1),
    "is_current_stream_capturing": lambda: bool(card.card_is_recording()),
    "CUDAGraph": Graph, "graph": record, "default_generators": (GENERATOR,),
    "set_sync_debug_mode": lambda mode: card.card_strict(mode == "error"),
    "get_rng_state": lambda *_: GENERATOR.get_state(), "set_rng_state": lambda s, *_: GENERATOR.set_state(s),
    "get_rng_state_all": lambda: [GENERATOR.get_state()],
    "set_rng_state_all": lambda states: GENERATOR.set_state(states[0]),
    "_is_in_bad_fork": lambda: False,
}  # fmt: skip
for name, played in PLAYED.items():
    setattr(torch.cuda, name, played)


def bytes_of(storage):
    """A storage as a tensor."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def moved(plain, to):
    """A storage's method, which has no device "cuda" in this build, by way of a tensor."""
    return lambda s, *a: (
        plain(s, *a) if s.device.type == "cpu" else to(bytes_of(s)).untyped_storage()
    )


def sent(plain):
    """torch.storage's `_to`, for the device that this build has no storage of."""
    return lambda s, device, *a: (
        plain(s, device, *a) if device.type == "cpu" else bytes_of(s).to(device).untyped_storage()
    )


torch.storage._to = sent(torch.storage._to)
for name, to in {"clone": torch.Tensor.clone, "cpu": torch.Tensor.cpu}.items():
    setattr(torch.UntypedStorage, name, moved(getattr(torch.UntypedStorage, name), to))
torch._C._cuda_getCurrentRawStream = lambda _: 0
torch.Tensor.record_stream = lambda *_: None

# ---------------------------------------------------------------- NVRTC and the driver


class Compiler:
    """NVRTC: a "cubin" is a library for the host."""

    def __init__(self):
        self.head, self.tail = (
            (ENGINE / n).read_text(encoding="utf-8") for n in ("block.h", "block_run.h")
        )
        self.version = 0, zlib.crc32((self.head + self.tail).encode())

    def compile(self, source, arch, *options):
        with tempfile.TemporaryDirectory() as folder:
            text, out = Path(folder, "kernel.c"), Path(folder, "kernel.so")
            text.write_text(self.head + source + self.tail)
            flags = ("-O1", "-std=gnu11", "-ffp-contract=off", "-shared", "-fPIC", "-w")
            command = (*find_compiler().command, *flags, str(text), "-o", str(out), "-lm")
            subprocess.run(command, check=True)
            return out.read_bytes(), ""


class Function(ctypes.Structure):
    """`Function` of card.cpp."""

    _fields_ = (("run", POINTER), ("kernel", POINTER), ("size", ctypes.c_int64))


class LibCuda:
    """The driver."""

    def __init__(self):
        self.cuLaunchKernel, self.modules, self.functions = card.card_launch, [], []

    def cuDeviceGet(self, device, index):
        device._obj.value = index
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):
        context._obj.value = 1
        return 0

    def cuCtxSetCurrent(self, context):
        card.card_enter()
        return 0

    def cuModuleLoadData(self, module, body):
        with tempfile.NamedTemporaryFile(suffix=".so") as f:
            f.write(body)
            f.flush()
            self.modules.append(ctypes.CDLL(f.name))
        module._obj.value = len(self.modules)
        return 0

    def cuModuleGetFunction(self, function, module, name):
        from weft.engine.backends.cuda.kernel import Args

        lib = self.modules[module.value - 1]
        run, kernel = (
            ctypes.cast(f, POINTER) for f in (lib.block_run, getattr(lib, name.decode()))
        )
        self.functions.append(Function(run, kernel, ctypes.sizeof(Args)))
        function._obj.value = ctypes.addressof(self.functions[-1])
        return 0


from weft.engine.backends.cuda import driver  # noqa: E402

LIBCUDA, COMPILER = LibCuda(), Compiler()
driver.libcuda = lambda: LIBCUDA
driver.nvrtc = lambda: COMPILER
