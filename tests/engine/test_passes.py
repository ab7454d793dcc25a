"""Constants at each of their uses: sizes that happen to be equal make no other program."""

import torch

import weft
from weft.contract.bind import bind
from weft.engine.ir.passes import uses_apart
from weft.engine.trace import Example, trace


def test_sizes_that_happen_to_be_equal_make_no_other_program():
    def by_sides(update):
        rows, cols = update.shape
        return {"update": update / cols + (update * update) / rows}

    binding = bind((by_sides, weft.callbacks.descend), ["lr"])
    traced = [trace(binding, Example(s, torch.float32, {}, {"lr": 0.1})) for s in [(4, 4), (4, 3)]]
    lengths = [len(uses_apart(t).graph.nodes) for t in traced]
    assert len(traced[0].graph.nodes) < len(traced[1].graph.nodes)
    assert lengths[0] == lengths[1]


def test_a_constant_may_be_combined_over_all_parameters():
    count = weft.over_params("count", lambda grad: float(grad.numel()))
    for engine in ("eager", "fused"):
        p = torch.nn.Parameter(torch.zeros(3, 2))
        p.grad = torch.ones(3, 2)
        opt = weft.Optimizer([p], [count, lambda p, count: {"p": p - count}], engine=engine)
        opt.step()
        assert float(p.detach()[0, 0]) == -6
