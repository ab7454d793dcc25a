"""What of a launch is combined over ranks: where its parts are, and where the results belong."""

from collections.abc import Iterator
from math import prod

import torch

from weft.engine.plan.plan import SCALAR
from weft.engine.runtime.cohort import Cohort
from weft.engine.sharded.exchange import Column

__all__ = ["columns"]


def columns(w: Cohort, phase: int) -> Iterator[Column]:
    """The reductions over ranks that wait at the end of a phase."""
    shards = [m.shard for m in w.members]
    for o in w.plan.barriers.get(phase, ()):
        n = w.across.get(o.name)
        if n is None:
            continue
        if w.plan.kind(n) == SCALAR:
            parts = [w.values[:, w.plan.values[o.node.index]]]
            results = [w.values[:, w.plan.values[n.index]]]
            counts = [1] * len(shards)
        else:
            parts, results, counts = _vectors(w, o.name)
        owners = list(zip(w.indices, shards, counts, strict=True))
        yield Column(parts, results, o.name, n.attr("across"), n.attr("dims"), owners)


def _vectors(w: Cohort, name: str) -> tuple[list[torch.Tensor], list[torch.Tensor], list[int]]:
    """The parts and results of vectors, and how long they are."""
    parts, results, counts = [], [], []
    for k, variant in enumerate(w.variants):
        plan = variant.plan
        part = next(o.node for o in plan.graph.outputs if (o.kind, o.name) == ("over", name))
        whole = plan.across()[name]
        count = prod(plan.shape_here(whole))
        for node, to in ((part, parts), (whole, results)):
            to.append(w.launch.vector(plan.loadable_from[node.index][0], k, count))
        counts.append(count)
    return parts, results, counts
