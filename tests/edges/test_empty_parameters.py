"""Parameters without elements, as uneven shards have them: state and a count of steps, and no error."""

from typing import Any

import pytest
import torch

import weft
from weft.optimizers import algorithms

EVERY: dict[str, Any] = {**algorithms()}
SHAPES = ((0, 3), (3, 0), (0,))


def taking(cls, shape, engine, *more) -> tuple[Any, list[Any]]:
    """An optimizer over an empty parameter and others; None where it is not for vectors."""
    params = [torch.nn.Parameter(torch.ones(s)) for s in (shape, *more)]
    try:
        opt = cls(params, engine=engine)
    except weft.ChainError:
        return None, params
    return (None if opt.needs_closure else opt), params


def kinds(own):
    return {k: (v.shape, v.dtype) if torch.is_tensor(v) else type(v) for k, v in own.items()}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_optimizer_makes_state_counts_and_moves_nothing(shape):
    for name, cls in EVERY.items():
        opt, (p,) = taking(cls, shape, "eager")
        if opt is None:
            continue
        for _ in range(2):
            p.grad = torch.zeros(shape)
            opt.step(loss=1.0)
        full, (q,) = taking(cls, tuple(n or 2 for n in shape), "eager")
        for _ in range(2):
            q.grad = torch.ones_like(q)
            full.step(loss=1.0)
        mine, theirs = opt.state[p], full.state[q]
        assert mine.keys() == theirs.keys(), name
        assert "step" not in theirs or float(mine["step"]) == float(theirs["step"]), name
        kept = [k for k, v in theirs.items() if torch.is_tensor(v) and v.shape == q.shape]
        assert all(mine[k].shape == p.shape for k in kept), name
        cls([p]).load_state_dict(opt.state_dict())


SOME = ("AdamW", "SGD", "LAMB", "SOAP", "KLShampoo", "Muon", "Adafactor", "Prodigy", "GaLoreAdamW",
        "ScheduleFreeAdamW", "AdaMuon", "PSGDKron")  # fmt: skip


@pytest.mark.parametrize("name", SOME)
def test_the_others_step_as_if_it_were_not_there(name):
    found = {}
    for engine in ("eager", "fused"):
        for empty in (True, False):
            cls = getattr(weft, name)
            shapes = ((0, 3), (4, 3), (2, 5)) if empty else ((4, 3), (2, 5))
            opt, params = taking(cls, shapes[0], engine, *shapes[1:])
            for step in range(3):
                torch.manual_seed(step)
                for p in params:
                    p.grad = torch.randn(p.shape)
                opt.step(loss=1.0)
            found[engine, empty] = [p.detach() for p in params if p.numel()]
            if empty:
                found[engine] = kinds(opt.state[params[0]])
                assert opt.stats()["global"]["param_norm"] > 0
                assert str(opt.explain())
        for p, q in zip(found[engine, True], found[engine, False], strict=True):
            assert torch.equal(p, q)
    assert found["eager"] == found["fused"]


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("op", ["sum", "max", "min"])
def test_it_contributes_nothing_to_a_value_over_all_parameters(op, engine):
    least = weft.over_params("over", lambda grad: grad.abs().amax(), op=op)

    def scaled(update, over):
        return {"update": update * over}

    chain = weft.chain(least, scaled, weft.callbacks.descend, lr=1.0)
    params = [torch.nn.Parameter(torch.zeros(s)) for s in (0, 3, 2)]
    opt = chain(params, engine=engine)
    for p, g in zip(params, (0.0, 2.0, 3.0), strict=True):
        p.grad = torch.full_like(p, g)
    opt.step()
    over = {"sum": 5.0, "max": 3.0, "min": 2.0}[op]
    assert params[1].tolist() == [-2 * over] * 3


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_a_step_that_repeats_counts_it_too(engine):
    params = [torch.nn.Parameter(torch.ones(s)) for s in (0, 3)]
    opt = weft.AdamW(params, engine=engine)
    for p in params:
        p.grad = torch.ones_like(p)
    for _ in range(5):
        opt.step()
    assert [float(opt.state[p]["step"]) for p in params] == [5.0, 5.0]
