"""The table of a launch: what has moved is sent by one copy that nobody waits for."""

import ctypes
from array import array
from collections.abc import Sequence

import torch

from weft.engine.backends.cuda.kernel import ROW, THREADS, Args, Device, Kernel, Planned, launcher
from weft.engine.backends.source.inputs import Inputs
from weft.engine.backends.source.layout import laid
from weft.engine.host.native import native
from weft.engine.plan.plan import Plan

__all__ = ["CudaLaunch", "CudaStep", "DeviceError"]

CHUNK = 4096  # elements of a block: with more, a small model leaves most of the GPU idle at its end


class DeviceError(RuntimeError):
    """The driver refused a launch."""

    def __init__(self, code: int):
        super().__init__(
            f"the GPU's driver refused to launch a kernel: error {code} of cuLaunchKernel"
        )


class CudaLaunch(Inputs):
    """A kernel's memory for one set of tensors, on the host and on the device."""

    def __init__(self, kernel: Kernel, plans: Sequence[Plan], sizes: Sequence[int], device: Device):
        super().__init__(plans, device.memory)
        self.kernel, self.device, self.elements = kernel, device, sum(sizes)
        self.lib, self.moving, self.sends = launcher(), None, 0
        self.streams = {device.stream()}
        self.spare: list[torch.Tensor] = []
        self.captured: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.recorded = False
        first, start, length, owner = _chunks(plans, sizes)
        dims = array("q", [size for p in plans for size in laid(p).sizes])
        parts = (dims, first, start, length, owner)
        self.grid = f"{len(owner):,} blocks of {THREADS} threads"
        fixed = torch.tensor([x for part in parts for x in part], device="cpu")
        self.fixed = fixed.to(device.memory)
        self.partial = torch.empty(
            max(1, len(owner) * self.plan.reductions), dtype=torch.float64, device=device.memory
        )
        places = [self.fixed.data_ptr()]
        for part in parts:
            places.append(places[-1] + 8 * len(part))
        self.args = Args(
            tensors=self.tensors, scalars=self.scalars, values=self.per_tensor,
            dims=len(dims) // self.tensors, reductions=self.plan.reductions,
            value=self.values.data_ptr(), partial=self.partial.data_ptr(),
            dim=places[0], first=places[1], start=places[2], length=places[3], owner=places[4],
        )  # fmt: skip
        self.c = Planned(
            tensors=self.tensors, scalars=self.scalars, ptr=ctypes.addressof(self.ptr),
            rows=ctypes.addressof(self.rows), pointers=len(self.ptr), args=ctypes.addressof(self.args),
            passes=ctypes.addressof(kernel.passes), stages=ctypes.addressof(kernel.stages),
            phases=len(self.plan.phases), blocks=len(owner),
        )  # fmt: skip

    def set_rows(self, rows: Sequence[Sequence[float]], row_of: Sequence[int] | None) -> None:
        """Set the host scalars; which tensor has which is sent with the pointers."""
        self.begin()
        super().set_rows(rows, row_of)
        if row_of is not None:
            self.c.sent = None

    def begin(self) -> None:
        """A step begins: what a graph has recorded is its own, and it takes nothing of other steps'."""
        capturing, self.sends = self.device.capturing(), 0
        if capturing or self.recorded:
            self.moving = self.c.sent = None
        self.recorded = capturing

    def send(self) -> None:
        """Give the device what has moved: pointers, numbers where they do not travel, who has which."""
        self.c.numbers, self.c.few = len(self.rows), len(self.rows) <= ROW
        if not self.lib.weft_cuda_moved(self.inputs):
            return
        numbers = b"" if self.c.few else bytes(self.rows)
        self.sent = bytes(self.ptr) + numbers + bytes(self.row_of)
        self.c.sent = ctypes.cast(ctypes.c_char_p(self.sent), ctypes.c_void_p)
        host = self._pinned(len(self.sent))
        ctypes.memmove(host.data_ptr(), self.sent, len(self.sent))
        if self.moving is None or len(self.moving) != len(host):
            self.moving = torch.empty_like(host, device=self.device.memory, pin_memory=False)
            address = self.args.ptr = self.moving.data_ptr()
            self.args.rows = None if self.c.few else address + 8 * len(self.ptr)
            self.args.row_of = address + 8 * len(self.ptr) + len(numbers)
        self.moving.copy_(host, non_blocking=True)
        self.device.keep([self.moving])
        if self.recorded:  # each replay copies again
            self.captured.append((host, self.moving))

    def _pinned(self, size: int) -> torch.Tensor:
        """Memory that a device reads by itself; none is made while a graph is recorded.

        A recorded step sends once more than others at most, as it takes nothing of theirs.
        """
        self.sends += 1
        fitting = [t for t in self.spare if len(t) == size]
        if self.recorded and fitting:
            self.spare = fitting[1:]
            return fitting[0]
        wanted = 0 if self.recorded else self.sends + 1 - len(fitting)
        self.spare = fitting + [self._page_locked(size) for _ in range(wanted)]
        return self._page_locked(size)

    def _page_locked(self, size: int) -> torch.Tensor:
        pinned = self.device.memory.type == "cuda"
        return torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=pinned)

    def leave_out(self, flag: torch.Tensor | None) -> None:
        """Have kernels write nothing where this float32 of the device is not 0."""
        self.args.left_out = None if flag is None else flag.data_ptr()

    def value(self, tensor: int, place: int) -> float:
        """One of the values; the device is waited for."""
        return float(self.values[tensor, place])

    def run(self, begin: int, end: int) -> None:
        """Phases `begin` to `end`, each with the scalars after it."""
        self.send()
        self.keep()
        _check(self.device.call(self.lib.weft_cuda_run, self.inputs, begin, end))

    def run_scalars(self, phase: int) -> None:
        """The scalars before `phase`, again."""
        self.send()
        self.keep()
        _check(self.device.call(self.lib.weft_cuda_stage, self.inputs, phase))

    def keep(self) -> None:
        """Memory that a stream of its own works with is given to no other before that is done."""
        stream = self.device.stream()
        if stream not in self.streams:
            self.streams.add(stream)
            self.device.keep([self.values, self.partial, self.fixed, self.scratch])


def _check(code: int) -> None:
    if code:
        raise DeviceError(code)


def _chunks(plans: Sequence[Plan], sizes: Sequence[int]) -> tuple[array, array, array, array]:
    """Where the chunks of each tensor begin, then each chunk's start, its length, and whose it is."""
    first, start, length, owner = array("q", [0]), array("q"), array("q"), array("q")
    for t, (plan, size) in enumerate(zip(plans, sizes, strict=True)):
        step = laid(plan).sizes[0] if laid(plan).sizes else CHUNK
        for begin in range(0, size, step):
            start.append(begin)
            length.append(min(step, size - begin))
            owner.append(t)
        first.append(len(start))
    return first, start, length, owner


class CudaStep:
    """Launches that are all that a step does, with the counts that it advances."""

    def __init__(self, launches: Sequence[CudaLaunch], counts: int):
        """`counts` is the address of those that go on."""
        self.launches, self.counts, self.device = launches, counts, launches[0].device
        self.all = (ctypes.c_void_p * len(launches))(*(x.inputs for x in launches))
        self.step = launcher().weft_cuda_step

    def run(self) -> None:
        """All of it in one call; in two, where something has moved."""
        for launch in self.launches:
            launch.begin()
        if self.launches[0].recorded:
            for launch in self.launches:
                launch.run(0, len(launch.plan.phases))
            native().count(self.counts)
            return
        for launch in self.launches:
            launch.keep()
        while code := self.device.call(self.step, self.all, len(self.launches), self.counts):
            _check(-min(code, 0))
            self.launches[code - 1].send()
