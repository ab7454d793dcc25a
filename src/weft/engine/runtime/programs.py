"""Programs: what is traced, planned and compiled once, and shared by all parameters that can.

A `VariantSet` is one chain for one signature of parameter. It holds a `Variant` for each outcome of the
chain's conditions; variants of different shapes whose plans have the same skeleton share a `Program`,
so a launch serves them together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch

from weft.contract.bind import Binding
from weft.engine.backends import for_device
from weft.engine.backends.base import Backend, Kernel
from weft.engine.eager.norms import Norms
from weft.engine.fallback import EngineBug, Fallback, TooManyVariants, Unavailable
from weft.engine.host.python_scalars import host_function, host_source
from weft.engine.ir.graph import Node, OutputKind
from weft.engine.ir.ops import HOST_SCOPE
from weft.engine.ir.passes import uses_apart
from weft.engine.ir.traced import Kept, TensorSpec
from weft.engine.plan.partition import make_plan
from weft.engine.plan.plan import TORCH, Plan, Role
from weft.engine.sharded.across import Placed, check_plan, combined
from weft.engine.trace import (
    Example,
    Traced,
    trace,
)
from weft.errors import NoNumber

__all__ = [
    "MOST_VARIANTS",
    "Program",
    "ProgramCache",
    "Variant",
    "VariantSet",
    "chain_key",
    "planned",
]

MOST_VARIANTS = 8
TENSORS = frozenset(("hyper", "shared", "loss"))  # leaves that may be one


def chain_key(binding: Binding) -> tuple[Any, ...]:
    """What makes two bindings the same chain: groups that share one share its kernels."""
    return binding.identity


class Program:
    """A kernel, and a plan that it was rendered from; other plans of its skeleton serve as well."""

    def __init__(self, backend: Backend, plan: Plan, columns: frozenset[int]):
        self.backend, self.plan, self.columns = backend, plan, columns
        self.kernel: Kernel = backend.compile(plan, "weft")


class Variant:
    """One way through a chain for one signature: its graph, its program, its numbers.

    Attributes:
        leaves: `(group, own, step, loss)` -> the values that the numbers come from.
        row: the host scalars that it takes, in order.
        host: these values -> the row, or None where a guard does not hold.
        plain: both in one, for groups that hold Python's numbers only.
        numbers: for each output that is kept as a Python number: (kind, name, place, dtype), the place
            in the row, or among the values if that is negative (-1 - place).
        placed: of a DTensor, where its values are.
        made: (slot, name, spec) of the states that the step makes.
    """

    def __init__(self, backend: Backend, traced: Traced, placed: Placed, example: Example):
        self.backend, self.traced, self.placed = backend, traced, placed
        self.held, self.shape = _held(example), tuple(example.shape)
        self.contiguous = example.contiguous
        self.plan = self.planned(frozenset())
        self.program: Program | None = None

    def planned(self, columns: frozenset[int]) -> Plan:
        """The plan, with some of its constants in the row."""
        stores = {
            k: (tuple(v.shape), v.dtype)
            for k, v in self.traced.stores.items()
            if isinstance(v, TensorSpec)
        }
        plan = make_plan(
            self.traced.graph,
            self.shape,
            self.held,
            stores,
            self.backend.lowers,
            columns,
            self.contiguous,
            spread=bool(self.placed.shape),
        )
        plan.here, plan.local = self.placed.shape or self.shape, self.placed.local
        self.backend.lay_out(plan)
        return plan

    def bind(self, program: Program, plan: Plan) -> None:
        """Take a program, and the numbers in the order of its rows."""
        self.program, self.plan = program, plan
        row = sorted(
            (n for n in plan.graph.nodes if n.index in plan.rows), key=lambda n: plan.rows[n.index]
        )
        self.row = row
        function = host_function(self.traced, row)
        self.host = function.fn
        self.leaves, text = _leaves(function.leaves)
        self.plain = _plain(self.traced, row)
        self.identity = (id(program), function.source, text)
        self.own_numbers = {n.attr("name") for n in function.leaves if n.op == "number"}
        self.numbers = [
            (o.kind, o.name, _place(plan, o.node), o.node.dtype)
            for o in plan.graph.outputs
            if o.kind is OutputKind.SHARED
            or (o.kind is OutputKind.STATE and not isinstance(self.kept(o.name), TensorSpec))
        ]
        self.objects = [(k, v.value) for k, v in self.traced.stores.items() if isinstance(v, Kept)]
        self.made = [
            (i, s.name, self.traced.stores[s.name])
            for i, s in enumerate(plan.slots)
            if s.role == Role.NEW
        ]

    def kept(self, name: str) -> Any:
        """How a state's output is kept."""
        return self.traced.stores.get(name)


def _place(plan: Plan, node: Node) -> Any:
    """Where a number is found after a launch: in the row, among the values, or known."""
    if node.index in plan.rows:
        return plan.rows[node.index]
    if node.index in plan.values:
        return -1 - plan.values[node.index]
    return node


def _leaves(leaves: Iterable[Node]) -> tuple[Callable[..., tuple[Any, ...]], str]:
    """A function from a group, a state, a step and a loss to the values of leaves."""
    texts = (f"number({_leaf(n)})" if n.op in TENSORS else _leaf(n) for n in leaves)
    text = f"lambda g, own, step, loss: ({''.join(t + ', ' for t in texts)})"
    return eval(text, {"number": _number}), text


def _plain(traced: Traced, row: Iterable[Node]) -> Callable[..., tuple[Any, ...] | None]:
    """A function from a group, a state, a step and a loss, all of numbers, to a row."""
    row = list(row)
    body = "\n    ".join(host_source(traced, row, _leaf))
    returned = "".join(f"h{n.index}, " for n in row)
    scope = dict(HOST_SCOPE)
    exec(f"def plain(g, own, step, loss):\n    {body}\n    return ({returned})", scope)
    return scope["plain"]


def _leaf(n: Node) -> str:
    """Where a leaf's value is found."""
    name = n.attr("name")
    if n.op in ("hyper", "shared"):
        return f"g[{name!r}]" + "".join(f"[{i!r}]" for i in n.attr("index", ()))
    return f"own[{name!r}]" if n.op == "number" else n.op


def _number(x: Any) -> Any:
    return x if type(x) is float or type(x) is int else x.item() if hasattr(x, "item") else x


class VariantSet:
    """One chain for one signature of parameter, and its variants so far."""

    def __init__(self, binding: Binding, example: Example):
        self.binding, self.example = binding, example
        self.variants: list[Variant] = []
        self.steps: list[int] = []  # for which each was traced


class ProgramCache:
    """The variants and programs of one optimizer.

    Attributes:
        builds: kernels that were fetched so far.
        norms: where steps leave the norms of each parameter; None where they compute none.
    """

    norms: MutableMapping[torch.Tensor, Norms] | None = None

    def __init__(self) -> None:
        self.variant_sets: dict[Any, VariantSet] = {}
        self.programs: dict[Any, Program] = {}
        self.builds = 0

    def outcomes(self) -> int:
        """How many outcomes of conditions there were, shapes not counted."""
        most: dict[Any, int] = {}
        for (chain, _), variant_set in self.variant_sets.items():
            most[chain] = max(most.get(chain, 0), len(variant_set.variants))
        return sum(most.values())

    def variant_set(self, binding: Binding, example: Example) -> VariantSet:
        """The variants for this signature."""
        key = (chain_key(binding), example.key())
        found = self.variant_sets.get(key)
        if found is None:
            found = self.variant_sets[key] = VariantSet(binding, example)
        return found

    def trace(self, wanted: Mapping[VariantSet, Example]) -> list[tuple[VariantSet, Variant]]:
        """Trace a variant of each set for its example, and build what is new, shapes together.

        Raises:
            Fallback: with the `binding` that it is about; nothing is kept of what was traced.
        """
        fresh: list[tuple[VariantSet, Variant]] = []
        alike: dict[Any, list[tuple[Variant, list[Any]]]] = {}
        binding_of: dict[Any, Binding] = {}
        for variant_set, example in wanted.items():
            with _building(variant_set.binding):
                v = _variant(variant_set, example)
                skeleton, constants = v.plan.skeleton()
            fresh.append((variant_set, v))
            key = v.backend, chain_key(variant_set.binding), skeleton
            binding_of[key] = variant_set.binding
            alike.setdefault(key, []).append((v, constants))
        for key, members in alike.items():
            with _building(binding_of[key]):
                self._program(key, members)
        for variant_set, v in fresh:
            variant_set.variants.append(v)
            variant_set.steps.append(wanted[variant_set].step)
        return fresh

    def _program(self, key: Any, members: list[tuple[Variant, list[Any]]]) -> None:
        """The program of plans with one skeleton, with columns for the constants that differ."""
        held = self.programs.get(key)
        before = held.columns if held else frozenset()
        lists = [constants for _, constants in members] + ([_constants(held.plan)] if held else [])
        differing = {
            i
            for i, column in enumerate(zip(*lists, strict=True))
            if len(set(map(repr, column))) > 1
        }
        plan = members[0][0].plan
        live = [n for n in plan.graph.live() if plan.kind(n) != TORCH]
        at = [i for i, n in enumerate(live) if n.op == "const"]
        columns = before | {at[i] for i in differing}
        if held is None or columns != before:
            v = members[0][0]
            held = Program(v.backend, v.planned(columns), columns)
            self.programs[key] = held
            self.builds += 1
        for v, _ in members:
            v.bind(held, v.planned(columns) if columns else v.plan)


@contextmanager
def _building(binding: Binding) -> Iterator[None]:
    """Say of what cannot be built which chain it is; of a mistake of the engine, what it was."""
    try:
        yield
    except (Unavailable, NoNumber):  # no chain can be; none has to be
        raise
    except Fallback as e:
        e.binding = binding
        raise
    except Exception as e:
        raise EngineBug(f"building its kernel raised {type(e).__name__}: {e}", binding) from e


def _variant(variant_set: VariantSet, example: Example) -> Variant:
    if len(variant_set.variants) >= MOST_VARIANTS:
        raise TooManyVariants(f"its conditions have more than {MOST_VARIANTS} outcomes")
    return planned(variant_set.binding, example)


def planned(binding: Binding, example: Example) -> Variant:
    """A chain for one parameter, traced and planned; it has no program yet."""
    backend = for_device(example.device)
    assert backend is not None  # the parameter has been taken for one
    traced = uses_apart(trace(binding, example))
    if example.sharding is None:
        return Variant(backend, traced, Placed(), example)
    whole = Variant(backend, traced, Placed(tuple(example.shape)), example).plan
    variant = Variant(backend, *combined(traced, example, binding, whole), example)
    check_plan(variant.plan, variant.placed, binding)
    return variant


def _constants(plan: Plan) -> list[Any]:
    return plan.skeleton()[1]


def _held(example: Example) -> dict[str, Any]:
    """Shape and storage dtype of the parameter, its grad and its states."""
    shape = tuple(example.shape)
    states = {
        k: (tuple(v.shape), v.dtype) for k, v in example.state.items() if isinstance(v, TensorSpec)
    }
    grad = (shape, example.grad_dtype or example.dtype)
    return {"p": (shape, example.dtype), "grad": grad, **states}
