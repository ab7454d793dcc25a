"""What a decomposition leaves open does not reach a step: signs of vectors, the basis of a null space.

Another library, or a GPU's, chooses otherwise. Optimizers that depended on it differed between devices.
"""

import pytest
import torch

import weft
from weft.callbacks import eigenbasis, kl, kronecker, lowrank, matrix, matrix_step

MODULES = (eigenbasis, kl, kronecker, lowrank, matrix, matrix_step)
# whose factors have no full rank in the first steps, or that look at single vectors of a basis
NAMES = ("soap", "soapademamix", "soapnadam", "heavysoap", "klsoap", "klshampoo", "solp", "splus")
NAMES += ("shampoo", "distributedshampoo", "dion", "swan", "spectralsphere", "focus")
SHAPES = ((6, 4), (4, 6), (5, 5))


CHOICES = torch.Generator().manual_seed(5)  # the chain's own draws are to stay what they are


def signs(n):
    return torch.randint(0, 2, (n,), generator=CHOICES).double() * 2 - 1


def other_signs(found):
    """The same decompositions with the signs of their vectors chosen anew."""

    def eigh(a):
        values, q = found["eigh"](a)
        return values, q * signs(q.shape[-1])

    def qr(a):
        q, r = found["qr"](a)
        s = signs(q.shape[-1])
        return q * s, s[:, None] * r

    def svd(a):
        u, values, vh = found["svd"](a)
        s = signs(u.shape[-1])
        return u * s, values, s[:, None] * vh

    return {"eigh": eigh, "qr": qr, "svd": svd}


def another_null_space(found):
    """eigh with another basis of what has eigenvalue 0."""

    def eigh(a):
        values, q = found["eigh"](a)
        null = (values < 1e-10 * values.max()).nonzero().flatten()
        if len(null):
            q = q.clone()
            turn = found["qr"](torch.randn(len(null), len(null), generator=CHOICES, dtype=q.dtype))[
                0
            ]
            q[:, null] = q[:, null] @ turn
        return values, q

    return {"eigh": eigh}


def parameters_after(name, few):
    """Six steps; the first three gradients are of the rank of a batch of two."""
    params = [torch.nn.Parameter(g) for g in drawn(0)]
    opt = weft.create(name, params, engine="eager", lr=1e-2)
    for k in range(6):
        for p, grad in zip(params, drawn(k + 1, 2 if few and k < 3 else None), strict=True):
            p.grad = grad
        opt.step(loss=torch.tensor(1.0))
    return torch.cat([p.detach().flatten() for p in params])


def drawn(seed, rank=None):
    gen = torch.Generator().manual_seed(seed)
    new = lambda *shape: torch.randn(shape, generator=gen, dtype=torch.float64)
    return [new(m, n) if rank is None else new(m, rank) @ new(rank, n) for m, n in SHAPES]


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("choice", [other_signs, another_null_space])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_does_not_depend_on_what_is_open(name, choice, few, monkeypatch):
    torch.manual_seed(0)
    before = parameters_after(name, few)
    names = ("eigh", "qr", "svd")
    found = {n: getattr(m, n) for m in MODULES for n in names if hasattr(m, n)}
    for n, other in choice(found).items():
        for module in MODULES:
            if hasattr(module, n):
                monkeypatch.setattr(module, n, other)
    torch.manual_seed(0)
    torch.testing.assert_close(parameters_after(name, few), before, rtol=1e-9, atol=1e-9)
