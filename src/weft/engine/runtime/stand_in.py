"""A small whole tensor in the place of a shard, for the check of its kernel.

A kernel of shards cannot be compared on one of them: what it reduces is not all there, and a rank
must not wait for others in a check that they may have no need of. The same kernel, on a tensor that
has all its elements here, has nothing to wait for.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.engine.eager import loop
from weft.engine.eager.infer_state import init_state
from weft.engine.fallback import Unsupported
from weft.engine.ir.traced import Example, TensorSpec
from weft.engine.rng import forked, undrawn
from weft.engine.runtime.members import Member, contiguous
from weft.engine.runtime.programs import VariantSet

__all__ = ["stand_in"]

LARGEST = {1: 1024, 2: 48, 3: 12}  # the size of a dim, for that many dims
OTHERWISE = 6


def stand_in(member: Member, example: Example) -> tuple[Member, Example]:
    """A whole parameter that runs the chain of a shard, and its example."""
    sizes = _sizes(example.shape)
    shape, noise = tuple(sizes[n] for n in example.shape), torch.Generator().manual_seed(2)
    random = lambda dtype: (torch.randn(shape, generator=noise) / 8).to(example.device, dtype)
    p = torch.nn.Parameter(random(example.dtype), example.requires_grad)
    if example.grad_dtype is not None:
        p.grad_dtype = example.grad_dtype
    p.grad = random(example.grad_dtype or example.dtype)
    own = _states(member, example, sizes, p)
    specs = {k: TensorSpec(tuple(v.shape), v.dtype) if isinstance(v, torch.Tensor) else v
             for k, v in own.items()}  # fmt: skip
    assert example.sharding is not None
    alone = example.sharding._replace(local=shape)
    other = replace(example, shape=shape, state=specs, contiguous=True, sharding=alone)
    out = Member(p, member.bound, own, contiguous(shape), frozenset())
    out.variant_set = VariantSet(member.bound.binding, other)
    return out, other


def _sizes(shape: tuple[int, ...]) -> dict[int, int]:
    """A small size for each; those that differ still do, in the same order."""
    largest = LARGEST.get(len(shape), OTHERWISE)
    out: dict[int, int] = {1: 1}
    for n in sorted(set(shape), reverse=True):
        out[n] = min(n, largest)
        largest = max(2, out[n] - 1)
    return out


def _states(
    member: Member, example: Example, sizes: Mapping[int, int], p: torch.Tensor
) -> dict[str, Any]:
    """The states of the small parameter."""
    held = {k: s for k, s in example.state.items() if isinstance(s, TensorSpec)}
    own = dict(example.state)
    if all(n in sizes for s in held.values() for n in s.shape):
        for k, s in held.items():
            shape = tuple(sizes[n] for n in s.shape)
            own[k] = torch.zeros(shape, dtype=s.dtype, device=example.device)
    else:
        own |= {k: v for k, v in _made(member, held, p).items() if k in held}
    return own | {
        k: member.own[k].detach().clone() for k, s in held.items() if not s.shape
    }  # what has no dims


def _made(member: Member, held: Mapping[str, TensorSpec], p: torch.Tensor) -> dict[str, Any]:
    """The states of a parameter that has not stepped, or that has once."""
    bound, state = member.bound, defaultdict(dict)
    group = {k: v for k, v in bound.group.items() if k not in NOT_HYPERS}
    group |= {k: v.clone() for k, v in group.items() if isinstance(v, torch.Tensor)}
    alone = BoundGroup(0, {**group, "params": [p]}, bound.binding, set(bound.given))
    before = p.detach().clone()
    drawn = [(g, g.get_state()) for g in group.values() if isinstance(g, torch.Generator)]
    try:
        with torch.no_grad(), p.device, undrawn(), forked(p.device):
            init_state([alone], state)
            if held.keys() - state[p].keys():
                loop.step([alone], state, 1.0)
    except Exception as e:  # of a callback, which may be for tensors of one shape
        raise Unsupported(f"its kernel cannot be checked on a small tensor: {e}") from e
    finally:
        for generator, was in drawn:
            generator.set_state(was)
    p.detach().copy_(before)
    made = state[p]
    if any(k not in made or made[k].dtype is not s.dtype for k, s in held.items()):
        raise Unsupported("its kernel cannot be checked: a small tensor has other states")
    return made
