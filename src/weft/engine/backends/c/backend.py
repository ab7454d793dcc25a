"""The CPU's backend: what the door asks for, in C."""

from collections.abc import Sequence

from weft.engine.backends.c.kernel import Kernel, build
from weft.engine.backends.c.launch import CLaunch, CStep
from weft.engine.backends.source.layout import lay_out
from weft.engine.backends.source.ops import lowers
from weft.engine.ir.graph import Node
from weft.engine.plan.plan import Plan
from weft.engine.toolchain.compiler import find_compiler

__all__ = ["C"]


class C:
    """Kernels in C, built by the machine's compiler, run on torch's threads."""

    device, waits = "cpu", False

    def require(self) -> None:
        """See that there is a compiler."""
        find_compiler()

    def capturing(self) -> bool:
        """A CPU records nothing."""
        return False

    def lowers(self, n: Node) -> bool:
        """Whether there is C for an op."""
        return lowers(n)

    def lay_out(self, plan: Plan) -> None:
        """Chunks, sizes, and memory for vectors."""
        lay_out(plan)

    def compile(self, plan: Plan, title: str) -> Kernel:
        """The kernel of a plan."""
        return build(plan, title)

    def launch(self, kernel: Kernel, plans: Sequence[Plan], sizes: Sequence[int]) -> CLaunch:
        """The table of a launch."""
        return CLaunch(kernel, plans, sizes)

    def whole_step(self, launches: Sequence[CLaunch], counts: int) -> CStep:
        """Launches in order, then the counts."""
        return CStep(launches, counts)
