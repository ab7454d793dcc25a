"""The door: what the engine asks of a backend, and all that it may know of one."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from weft.engine.ir.graph import Node
from weft.engine.plan.plan import Plan

__all__ = ["Backend", "Kernel", "Launch", "WholeStep"]


class Kernel(Protocol):
    """A plan as code that runs.

    Attributes:
        source: in words, for people.
        key: tells it from every other kernel, on this machine.
        notes: words that are remembered with it: the verdicts of the trust check.
    """

    source: str
    key: str

    @property
    def notes(self) -> Mapping[str, list[str]]: ...

    def note(self, name: str, words: list[str]) -> None:
        """Remember something, for later processes too where that can be."""
        ...


class Launch(Protocol):
    """A kernel's memory for one set of tensors: pointers, numbers, and values of no dimensions.

    Attributes:
        values: `[tensors, values]` in double: what passes have reduced, and what follows from it.
        inputs: the address of `weft_inputs` (host/native/inputs.h), through which the host's C writes
            pointers and numbers; None where a step cannot be repeated that way.
        tensors: how many there are; elements: of all of them.
        grid: how a pass is split, in words.
    """

    values: torch.Tensor
    tensors: int
    elements: int
    grid: str

    @property
    def inputs(self) -> int | None: ...

    def point(self, slot: int, addresses: Sequence[int]) -> None:
        """Set the addresses of one slot, of all tensors."""
        ...

    def point_one(self, slot: int, tensor: int, address: int) -> None:
        """Set the address of one slot of one tensor."""
        ...

    def set_rows(self, rows: Sequence[Sequence[float]], row_of: Sequence[int] | None) -> None:
        """Set the host scalars: a row for each group and step, and which tensor has which."""
        ...

    def vector(self, slot: int, tensor: int, elements: int) -> torch.Tensor:
        """The first elements of a vector that is kept between passes."""
        ...

    def value(self, tensor: int, place: int) -> float:
        """One of the values."""
        ...

    def leave_out(self, flag: torch.Tensor | None) -> None:
        """Write nothing while this float32 is not 0; only asked where reading it would wait."""
        ...

    def run(self, begin: int, end: int) -> None:
        """Phases `begin` to `end`, each with the scalars that are known after it."""
        ...

    def run_scalars(self, phase: int) -> None:
        """The scalars that are known before `phase`, again."""
        ...


class WholeStep(Protocol):
    """All that a step does, in one call, which no interrupt of Python's comes between."""

    def run(self) -> None: ...


class Backend(Protocol):
    """What builds and runs kernels for a kind of device.

    Attributes:
        device: the kind, as torch calls it.
        waits: whether reading a value waits for the device: then it is read when somebody asks.
    """

    device: str
    waits: bool

    def require(self) -> None:
        """See that kernels can be built.

        Raises:
            Unavailable: says why not.
        """
        ...

    def capturing(self) -> bool:
        """Whether launches are recorded now, to be repeated with the numbers of this step."""
        ...

    def lowers(self, n: Node) -> bool:
        """Whether it has code for a pointwise op or a full reduction."""
        ...

    def lay_out(self, plan: Plan) -> None:
        """Say how what a plan computes between passes lies in memory, with slots of its own for it."""
        ...

    def compile(self, plan: Plan, title: str) -> Kernel:
        """The kernel of a plan.

        Raises:
            Unavailable: where it cannot be built.
        """
        ...

    def launch(self, kernel: Any, plans: Sequence[Plan], sizes: Sequence[int]) -> Launch:
        """Lay out the launch of a kernel for tensors of these sizes, each with its plan."""
        ...

    def whole_step(self, launches: Sequence[Any], counts: int) -> WholeStep:
        """Launches in order, then the counts at this address (`weft_counts`) go on."""
        ...
