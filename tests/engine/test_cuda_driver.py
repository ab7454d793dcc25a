"""The driver's side of a GPU, without one: NVRTC is real, the driver is played."""

import contextlib
import ctypes
from types import SimpleNamespace

import pytest
import torch

import weft
from weft.engine import backends
from weft.engine.backends.cuda import driver as room
from weft.engine.backends.cuda import nvrtc as compiler
from weft.engine.backends.cuda.backend import Cuda
from weft.engine.backends.cuda.driver import Driver, NoDriver
from weft.engine.backends.cuda.nvrtc import NoCudaCompiler, nvrtc
from weft.engine.toolchain import cache

SOURCE = 'extern "C" __global__ void f(float *p) { p[threadIdx.x] += 1; }'


class Played:
    """What is asked of libcuda.so; a code other than 0 is what it answers to a load."""

    def __init__(self):
        self.loaded, self.code = [], 0
        self.cuLaunchKernel = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0)

    def cuModuleLoadData(self, module, body):
        if not self.code:
            self.loaded.append(body)
            module._obj.value = len(self.loaded)
        return self.code

    def cuModuleGetFunction(self, function, module, name):
        function._obj.value = 77
        return 0 if name == b"f" else 500

    def cuDeviceGet(self, device, index):
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):
        return 0

    def cuCtxSetCurrent(self, context):
        return 0

    def cuGetErrorString(self, code, said):
        said._obj.value = b"no kernel image is available"
        return 0


@pytest.fixture
def card(monkeypatch, tmp_path):
    """A GPU that is played, and an empty cache; its capability may be set."""
    try:
        nvrtc()
    except NoCudaCompiler as e:
        pytest.skip(f"{e}: the extra gpu-test brings it")
    played = Played()
    played.capability = (9, 0)
    monkeypatch.setattr(room, "libcuda", lambda: played)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: played.capability)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_loaded", {})
    monkeypatch.setattr(cache, "_failed", {})
    played.folder = tmp_path / "cache" / "kernels"
    return played


def library(card, monkeypatch, source=SOURCE):
    """As another process would get it."""
    monkeypatch.setattr(cache, "_loaded", {})
    return Driver(torch.device("cuda")).library(source)


def test_a_cubin_is_built_once(card, monkeypatch):
    first, then = (library(card, monkeypatch) for _ in range(2))
    assert (first.built, then.built) == (True, False)
    assert card.loaded[0] == card.loaded[1]
    assert card.loaded[0].startswith(b"\x7fELF")
    assert [f.suffix for f in sorted(card.folder.iterdir())] == [".cubin", ".json"]
    then.note("trusted", ["yes"])
    assert library(card, monkeypatch).notes == {"trusted": ["yes"]}


def test_another_card_has_another_cubin(card, monkeypatch):
    keys = set()
    for card.capability in ((8, 0), (9, 0), (10, 0)):
        keys.add(library(card, monkeypatch).key)
    assert len(keys) == 3


def test_a_broken_cubin_is_built_again(card, monkeypatch):
    library(card, monkeypatch)
    next(card.folder.glob("*.cubin")).write_bytes(b"half of it")
    assert library(card, monkeypatch).built
    assert not library(card, monkeypatch).built


def test_a_kernel_by_its_name(card, monkeypatch):
    device = Driver(torch.device("cuda", 0))
    module = device.library(SOURCE).lib
    assert device.function(module, "f") == 77
    with pytest.raises(NoCudaCompiler, match="no kernel image"):
        device.function(module, "g")


def test_what_the_driver_refuses(card, monkeypatch):
    card.code = 209
    with pytest.raises(NoDriver, match=r"sm_90: cuModuleLoadData: no kernel image is available"):
        library(card, monkeypatch)


def test_an_old_card(card):
    card.capability = (6, 1)
    with pytest.raises(NoDriver, match="an sm_61, and kernels need sm_70"):
        Driver(torch.device("cuda", 0)).require()


def test_what_does_not_compile(card, monkeypatch):
    with pytest.raises(NoCudaCompiler, match=r'for sm_90: weft.cu.*error.*"wrong" is undefined'):
        library(card, monkeypatch, SOURCE.replace("1;", "wrong;"))


def absent(*_, **__):
    raise OSError("not there")


def test_without_nvrtc(monkeypatch):
    monkeypatch.setattr(compiler, "_installed", list)
    monkeypatch.setattr(compiler, "ctypes", SimpleNamespace(CDLL=absent))
    compiler.nvrtc.cache_clear()
    try:
        with pytest.raises(NoCudaCompiler, match="pip install nvidia-cuda-nvrtc"):
            nvrtc()
    finally:
        compiler.nvrtc.cache_clear()


def test_without_a_driver_steps_are_eager_and_say_so(monkeypatch):
    """Once, and with the reason."""
    monkeypatch.setattr(room, "ctypes", SimpleNamespace(CDLL=absent, cast=ctypes.cast))
    room.libcuda.cache_clear()
    monkeypatch.setattr(backends, "_open", {})
    monkeypatch.setitem(
        backends.ROOMS, "cpu", lambda device: Cuda(device, Driver(torch.device("cuda", 0)))
    )
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    opt = weft.SGD([p], lr=0.1)
    try:
        with pytest.warns(weft.WeftWarning, match="no NVIDIA driver"):
            opt.step()
        opt.step()  # a second warning would be an error
        torch.testing.assert_close(p.data, torch.full((3,), 0.8))
        with pytest.raises(weft.StepError, match="no NVIDIA driver"):
            weft.SGD([p], lr=0.1, engine="fused").step()
    finally:
        room.libcuda.cache_clear()
