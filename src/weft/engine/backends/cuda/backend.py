"""A GPU's backend: what the door asks for, in CUDA C."""

from collections.abc import Sequence

import torch

from weft.engine.backends.cuda.kernel import Device, Kernel, build
from weft.engine.backends.cuda.launch import CudaLaunch, CudaStep
from weft.engine.backends.source.layout import lay_out
from weft.engine.backends.source.ops import lowers
from weft.engine.ir.graph import Node
from weft.engine.plan.plan import Plan

__all__ = ["Cuda"]

MOST = 512  # chunks that add to one column: a block adds them up, for one tensor


class Cuda:
    """Kernels in CUDA C for one device."""

    waits = True

    def __init__(self, memory: torch.device, device: Device):
        self.device, self._device = memory.type, device
        self._kernels: dict[str, Kernel] = {}

    def require(self) -> None:
        """See that kernels can be built and launched."""
        self._device.require()

    def capturing(self) -> bool:
        """Whether the current stream records a CUDA graph."""
        return self._device.capturing()

    def lowers(self, n: Node) -> bool:
        """Whether there is C for an op."""
        return lowers(n)

    def lay_out(self, plan: Plan) -> None:
        """Chunks, sizes, and memory for vectors."""
        lay_out(plan, MOST)

    def compile(self, plan: Plan, title: str) -> Kernel:
        """The kernel of a plan."""
        return build(plan, title, self._device, self._kernels)

    def launch(self, kernel: Kernel, plans: Sequence[Plan], sizes: Sequence[int]) -> CudaLaunch:
        """The table of a launch."""
        return CudaLaunch(kernel, plans, sizes, self._device)

    def whole_step(self, launches: Sequence[CudaLaunch], counts: int) -> CudaStep:
        """Launches in order, then the counts."""
        return CudaStep(launches, counts)
