"""Why a chain runs eagerly: one exception, and its kinds."""

from weft.contract.bind import Binding

__all__ = [
    "EngineBug",
    "Fallback",
    "KernelMismatch",
    "TooManyVariants",
    "Unavailable",
    "Unsupported",
]


class Fallback(Exception):
    """Kernels cannot run a chain; nothing has been written.

    Attributes:
        binding: the chain, None for all.
    """

    binding: Binding | None

    def __init__(self, reason: str, binding: Binding | None = None):
        super().__init__(reason)
        self.binding = binding


class Unsupported(Fallback):
    """Memory, a dtype or a device that kernels do not serve."""


class Unavailable(Fallback):
    """There is no compiler, or it does not compile."""


class TooManyVariants(Fallback):
    """A chain of more variants than are worth building."""


class KernelMismatch(Fallback):
    """A kernel that disagrees with the eager loop."""


class EngineBug(Fallback):
    """A mistake of the engine in building a kernel: it costs the kernel, not the step."""
