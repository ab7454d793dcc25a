"""What is local: the groups and states of an optimizer with plain tensors in the place of DTensors.

A local parameter is a plain `Parameter` on the memory of this rank's shard, and so are its states. A
step brings them up to date, hands them to the runtime, and hands back what the runtime has made.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch

from weft.contract.groups import BoundGroup
from weft.engine.eager.infer_state import init_state
from weft.engine.fallback import Fallback, Unsupported
from weft.engine.sharded.agreement import Common, agree
from weft.engine.sharded.shard import Shard

__all__ = ["Locals"]


class Locals:
    """The local side of an optimizer.

    Attributes:
        shards: local parameter -> its shard; empty where no parameter is a DTensor.
        fresh: these are other parameters than those of the last step, or something is built for them.
    """

    def __init__(self) -> None:
        self.shards: dict[torch.Tensor, Shard] = {}
        self.fresh = False
        self._forget()

    def _forget(self) -> None:
        self.shards = {}
        self.groups: list[BoundGroup] = []
        self.taken: list[tuple[BoundGroup, list[tuple[torch.Tensor, Shard | None]]]] = []
        self.state: MutableMapping[torch.Tensor, dict[str, Any]] = defaultdict(dict)
        self.having: list[bool] = []  # grads
        self.commons: list[Common] = []
        self.ran: Mapping[torch.Tensor, Any] | None = None
        self.stepped: list[torch.Tensor] = []  # DTensors, of what ran

    def enter(
        self, groups: list[BoundGroup], state: MutableMapping
    ) -> tuple[list[BoundGroup], MutableMapping]:
        """The groups and states of this step; the same where no parameter is a DTensor.

        Raises:
            Unsupported: for a placement that cannot be stepped.
            StepError: where ranks have other chains, groups, hypers or grads than others.
        """
        kind = _dtensor()
        types = {t for b in groups for t in set(map(type, b.params))}  # few, where tensors are many
        if kind is None or not any(issubclass(t, kind) for t in types):
            if self.shards:
                self._forget()
            return groups, state
        self.fresh = not self._are(groups)
        if self.fresh:
            self._gather(groups, kind)
        if self._sync(state):
            init_state(groups, state)
            self._sync(state)
        for common in self.commons:
            common.check(self.fresh)
        return self.groups, self.state

    @contextmanager
    def together(self) -> Iterator[None]:
        """What any rank cannot build, none runs: else it would wait in collectives for the others.

        Ranks agree when parameters are new to them, or a chain goes another way than before: all of
        them build then.

        Raises:
            Unsupported: where another rank has failed.
        """
        try:
            yield
        except Exception as e:
            if self.fresh and self.shards:
                others = agree(self._meshes(), failed=True)
                self._forget()
                if isinstance(e, Fallback) and others.some_passed:
                    e.binding = None  # the others cannot know which chain it was
            raise
        fresh, self.fresh = self.fresh, False
        if fresh and self.shards and agree(self._meshes(), failed=False).some_failed:
            self._forget()
            raise Unsupported("another rank cannot run it")

    def _meshes(self) -> list[Any]:
        return list(dict.fromkeys(shard.mesh for shard in self.shards.values()))

    def _are(self, groups: list[BoundGroup]) -> bool:
        """Whether these are the parameters that the local ones are of."""
        if len(groups) != len(self.taken):
            return False
        for bound, (then, pairs) in zip(groups, self.taken, strict=True):
            if bound is not then or len(bound.params) != len(pairs):
                return False
            for p, (whole, shard) in zip(bound.params, pairs, strict=True):
                if p is not whole or not (shard is None or shard.is_current):
                    return False
        return True

    def _gather(self, groups: list[BoundGroup], kind: type) -> None:
        self._forget()
        for bound in groups:
            pairs = [(p, Shard(p) if isinstance(p, kind) else None) for p in bound.params]
            params = [p if shard is None else shard.local for p, shard in pairs]
            local = BoundGroup(
                bound.index, {**bound.group, "params": params}, bound.binding, bound.given
            )
            self.taken.append((bound, pairs))
            self.groups.append(local)
            self.shards |= {shard.local: shard for _, shard in pairs if shard is not None}
        self.commons = [Common(mesh, self.taken) for mesh in self._meshes()]

    def _sync(self, state: MutableMapping) -> bool:
        """Bring everything up to date; whether states or grads came or went."""
        changed, having = False, []
        for (bound, pairs), local in zip(self.taken, self.groups, strict=True):
            local.binding, local.given = bound.binding, bound.given
            for name in local.group.keys() - bound.group.keys():
                del local.group[name]
            local.group.update({k: v for k, v in bound.group.items() if k != "params"})
            for p, shard in pairs:
                own = state.get(p)
                if shard is not None:
                    having.append(shard.take_grad())
                    changed |= shard.take_states({} if own is None else own)
                    if shard.known is (own is not None):
                        continue
                    shard.known = own is not None
                    p, own = shard.local, shard.own if shard.known else None
                if own is None:
                    changed |= self.state.pop(p, None) is not None
                elif self.state.get(p) is not own:
                    self.state[p], changed = own, True
        changed |= having != self.having
        self.having = having
        return changed

    def leave(
        self, state: MutableMapping, ran: Mapping[torch.Tensor, Any], launched: bool = False
    ) -> None:
        """Let grads go, and hand back states; `ran` says what each ran, `launched` kernels alone."""
        if ran is not self.ran:
            self.ran = ran
            self.stepped = [self.shards[local].whole for local in ran if local in self.shards]
        if self.stepped:
            torch._C._increment_version(self.stepped)
        for local in self.shards:
            local.grad = None
        for p, shard in () if launched else chain(*(pairs for _, pairs in self.taken)):
            if shard is None:
                if p in self.state and p not in state:
                    state[p] = self.state[p]
                continue
            if not shard.known and (own := self.state.get(shard.local)):
                shard.own, shard.known = own, True
                if p not in state:
                    state[p] = shard.given = {}
            shard.give_states(ran.__getitem__)


def _dtensor() -> type | None:
    """DTensor, where something has imported it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module and module.DTensor
