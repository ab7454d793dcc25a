"""One graph for parameters of different shapes."""

import torch

import weft
from weft.binding import bind
from weft.engine.interpret import interpret
from weft.engine.passes import merge, structure, uses_apart
from weft.engine.trace import Example, TensorSpec, trace


def rms_clip(update, d=1.0):
    return {
        "update": update / (update.square().mean().sqrt() * update.numel() ** 0.5 / d).clamp(min=1)
    }


def centralize(grad):
    return {"grad": grad - grad.mean(dim=tuple(range(1, grad.ndim)), keepdim=True)}


def ema(grad, exp_avg=weft.zeros):
    return {"exp_avg": exp_avg.lerp(grad, 0.1)}


def graph_of(elements, shape):
    binding = bind(elements, ["lr"])
    state = {n: TensorSpec(shape, torch.float32) for n in binding.states}
    return trace(binding, Example(shape, torch.float32, state, {"lr": 0.1, "d": 1.0})).graph


def test_shapes_of_one_rank_share_a_graph_and_constants_become_columns():
    chain = (ema, rms_clip, weft.callbacks.descend)
    shapes = [(4, 3), (5, 7), (64, 2)]
    (family,) = merge([graph_of(chain, s) for s in shapes])
    assert family.members == (0, 1, 2)
    numels = [4 * 3, 5 * 7, 128]
    assert set(family.columns.values()) == {
        tuple(map(float, numels)),
        tuple(n**0.5 for n in numels),
    }
    family.graph.verify()


def test_a_merged_graph_gives_what_each_of_its_members_gives():
    chain = (ema, rms_clip, weft.callbacks.descend)
    shapes = [(4, 3), (5, 7)]
    graphs = [graph_of(chain, s) for s in shapes]
    (family,) = merge(graphs)
    slots = {n: torch.randn(4, 3) for n in ("p", "grad", "exp_avg")}
    values = {"lr": 0.1, "d": 1.0}

    def leaf(n):
        return family.columns[n.attr("key")][0] if n.op == "column" else values[n.attr("name")]

    alone = interpret(graphs[0], slots, leaf)
    merged = interpret(family.graph, slots, leaf)
    for (_, a), (_, b) in zip(alone, merged, strict=True):
        assert torch.equal(a, b)


def test_other_ranks_and_dimensions_of_one_are_other_programs():
    graphs = [
        graph_of((centralize, weft.callbacks.descend), s)
        for s in [(4, 3), (4, 3, 2), (4, 1), (8, 5)]
    ]
    families = merge(graphs)
    assert [f.members for f in families] == [(0, 3), (1,), (2,)]


def test_another_chain_is_another_structure():
    assert structure(graph_of((ema, weft.callbacks.descend), (3,))) != structure(
        graph_of((weft.callbacks.descend,), (3,))
    )


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
