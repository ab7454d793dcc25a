"""A small whole tensor in the place of a shard, for the check of its kernel.

A kernel of shards cannot be compared on one of them: what it reduces is not all there, and a rank
must not wait for others in a check that they may have no need of. The same kernel, on a tensor that
has all its elements here, has nothing to wait for.
"""

from dataclasses import replace
from typing import Any

import torch

from weft.engine.ir.traced import Example, TensorSpec
from weft.engine.runtime.members import Member, contiguous
from weft.engine.runtime.programs import VariantSet

__all__ = ["stand_in"]

LARGEST = {1: 1024, 2: 48, 3: 12}  # the size of a dim, for that many dims
OTHERWISE = 6


def stand_in(member: Member, example: Example) -> tuple[Member, Example]:
    """A whole parameter that runs the chain of a shard, and its example."""
    largest = LARGEST.get(len(example.shape), OTHERWISE)
    smaller = lambda shape: tuple(min(n, largest) for n in shape)
    shape, noise = smaller(example.shape), torch.Generator().manual_seed(2)
    random = lambda dtype: (torch.randn(shape, generator=noise) / 8).to(example.device, dtype)
    p = torch.nn.Parameter(random(example.dtype), example.requires_grad)
    if example.grad_dtype is not None:
        p.grad_dtype = example.grad_dtype
    p.grad = random(example.grad_dtype or example.dtype)
    own: dict[str, Any] = {}
    for name, held in example.state.items():
        if isinstance(held, TensorSpec):
            scalar = not held.shape
            own[name] = (
                member.own[name].detach().clone()
                if scalar
                else torch.zeros(smaller(held.shape), dtype=held.dtype, device=example.device)
            )
        else:
            own[name] = held
    specs = {k: TensorSpec(tuple(v.shape), v.dtype) if isinstance(v, torch.Tensor) else v
             for k, v in own.items()}  # fmt: skip
    assert example.sharding is not None
    alone = example.sharding._replace(local=shape)
    other = replace(example, shape=shape, state=specs, contiguous=True, sharding=alone)
    out = Member(p, member.bound, own, contiguous(shape), frozenset())
    out.variant_set = VariantSet(member.bound.binding, other)
    return out, other
