"""Kernels in words: what callbacks reduce, what runs in order, and how many bytes that moves."""

from collections.abc import Iterable, MutableMapping
from typing import Any

from weft.contract.groups import BoundGroup
from weft.engine.backends.base import Launch
from weft.engine.explain.owners import owners
from weft.engine.explain.reductions import reductions
from weft.engine.explain.table import Explanation, chain_rows, counted
from weft.engine.ir.graph import Graph
from weft.engine.plan.plan import Plan, Role, Slot
from weft.engine.runtime.preview import preview, state_bytes
from weft.engine.runtime.programs import chain_key

__all__ = ["describe"]

INNER = {
    Role.TEMP: "results of torch",
    Role.SCRATCH: "vectors",
}  # slots that nobody else has a name for


def describe(out: Explanation, groups: list[BoundGroup], state: MutableMapping, fused: Any) -> None:
    """Fill in what kernels there are, or what the first step is going to build.

    `fused` has stepped, or is None.
    """
    if fused is not None and fused.cache.variant_sets:
        out.builds, out.variants = fused.cache.builds, fused.cache.outcomes()
        variant_sets = fused.cache.variant_sets.items()
        traced = [(k, v.traced.graph, v.shape) for (k, _), f in variant_sets for v in f.variants]
        out.owners = owners(fused)
        ran = fused.plans()
        plans = [(plan, launch.elements) for _, plan, launch in ran]
        out.kernels = [f"{i}:{program.kernel.key[:12]}" for i, (program, *_) in enumerate(ran)]
        out.launches = [
            _launched(i, plan, launch, len(ran)) for i, (_, plan, launch) in enumerate(ran)
        ]
    else:
        found = [] if out.fallbacks else preview(groups, state)
        traced = [(chain_key(b.binding), v.traced.graph, v.shape) for b, v, _ in found]
        alike: dict[Any, tuple[Plan, int]] = {}
        for bound, v, elements in found:
            key = (chain_key(bound.binding), v.plan.skeleton()[0])
            alike[key] = (v.plan, elements + alike.get(key, (v.plan, 0))[1])
        plans, out.ahead = list(alike.values()), bool(alike)
        out.state_bytes_per_parameter = max(out.state_bytes_per_parameter, state_bytes(found))
    known = _reduced(traced)
    out.chains = chain_rows(groups, [known.get(chain_key(b.binding)) for b in groups])
    _describe_plans(out, plans)


def _launched(number: int, plan: Plan, launch: Launch, kernels: int) -> str:
    """Where a kernel ran last, on what, and what it moved."""
    of = f"kernel {number} " if kernels > 1 else ""
    moved = launch.elements * sum(plan.traffic(k) for k in range(len(plan.phases)))
    return (
        f"{of}on {launch.values.device}: {counted(launch.tensors, 'tensor')}, {launch.grid} a pass, "
        f"{moved:,} bytes moved"
    )


def _reduced(traced: Iterable[tuple[Any, Graph, tuple[int, ...]]]) -> dict[Any, dict[str, Any]]:
    """For each chain: callback -> what it reduces, of parameters of all shapes."""
    found: dict[Any, dict[str, Any]] = {}
    for chain, graph, shape in traced:
        by_callback = found.setdefault(chain, {})
        for source, words in reductions(graph, shape).items():
            by_callback.setdefault(source, {}).update(dict.fromkeys(words))
    return found


def _describe_plans(out: Explanation, plans: list[tuple[Plan, int]]) -> None:
    total = sum(n for _, n in plans)
    for number, (plan, elements) in enumerate(plans):
        of = f"kernel {number}: " if len(plans) > 1 else ""
        out.phases += [of + words for words in describe_phases(plan)]
        moved = sum(plan.traffic(k) for k in range(len(plan.phases)))
        out.bytes_per_parameter += moved * elements / total if total else 0.0


def describe_phases(plan: Plan) -> list[str]:
    """The phases of a plan in words."""
    words: list[str] = []
    for k in range(len(plan.phases) + 1):
        for region in plan.regions:
            if region.before == k:
                calls = sum(n.op == "call" for n in region.nodes)
                parts = f"{counted(len(region.nodes), 'op')}, {counted(calls, 'call')}"
                words.append(f"torch ({parts}) for {_sources(region.nodes)}")
        if k == len(plan.phases):
            break
        phase = plan.phases[k]
        loaded = {s for n in plan.body(k) if (s := plan.slot_in(n, k)) is not None}
        read = {_name(plan.slots[s]) for s in loaded}
        written = {_name(plan.slots[s]) for s, _ in phase.stores}
        if read or written:
            text = f"pass over {', '.join(sorted(read)) or 'nothing'}"
            text += f"; writes {', '.join(sorted(written))}" if written else ""
            if phase.reductions:
                many = counted(len(phase.reductions), "reduction")
                text += f"; {many} for {_sources(phase.reductions)}"
            words.append(text)
        words += [f"{o.name} over all parameters" for o in plan.barriers.get(k, ())]
    return words


def _name(slot: Slot) -> str:
    return INNER.get(slot.role, slot.name)


def _sources(nodes: Iterable[Any]) -> str:
    """The callbacks that some nodes came from, in order."""
    return ", ".join(dict.fromkeys(n.source for n in nodes if n.source)) or "the step"
