"""Reductions over some dims: rows and columns in kernels, as the eager loop has them."""

import pytest
import torch

import weft
from weft.callbacks import descend
from weft.engine.backends.source.layout import CHUNK, chunk_length, period_inner
from weft.engine.plan.axes import lies_along, run_of

SHAPES = {
    1: [(5,), (1,), (0,), (700,)],
    2: [(4, 3), (3, 3), (1, 5), (5, 1), (0, 3), (3, 0), (33, 600), (3, 40_000), (40_000, 3)],
    3: [(2, 3, 4), (3, 3, 3), (1, 4, 1), (5, 1, 6), (2, 0, 3), (7, 40, 129)],
    4: [(2, 3, 5, 4), (3, 3, 3, 3), (4, 1, 1, 1), (2, 3, 1, 4), (16, 8, 3, 3), (9, 130, 7, 5)],
}
DIMS = [(1, (0,)), (2, (0,)), (2, (1,)), (3, (0,)), (3, (1,)), (3, (2,)), (3, (0, 1)), (3, (1, 2)),
        (4, (1,)), (4, (3,)), (4, (0, 1)), (4, (1, 2)), (4, (1, 2, 3))]  # fmt: skip


def steps(cbs, shapes, dtype=torch.float32, n=3, **hypers):
    """Both engines after some steps, on the same numbers."""
    out = []
    for engine in ("eager", "fused"):
        torch.manual_seed(0)
        ps = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64).to(dtype)) for s in shapes]
        opt = weft.Optimizer(ps, [*cbs, descend], lr=0.1, engine=engine, **hypers)
        for _ in range(n):
            for p in ps:
                p.grad = torch.randn(p.shape, dtype=torch.float64).to(dtype)
            opt.step()
        out.append(opt)
    return out


def agree(eager, fused, tolerance=1e-6):
    assert fused.explain().fallbacks == []
    for (a, _, sa, _), (b, _, sb, _) in zip(eager.all_params(), fused.all_params(), strict=True):
        pairs = [(a.detach(), b.detach()), *((sa[k], sb[k]) for k in sa)]
        for x, y in pairs:
            if isinstance(x, torch.Tensor):
                scale = float(x[x.isfinite()].abs().max()) if x.isfinite().any() else 0.0
                torch.testing.assert_close(
                    y, x, rtol=tolerance, atol=tolerance * scale, equal_nan=True
                )


def in_c(opt):
    return not any("torch" in words for words in opt.explain().phases)


def over(dims, keep, ops):
    def reduced(grad, update, mean=None):
        def spread(x):  # as the parameter's elements see it
            for d in () if keep else dims:
                x = x.unsqueeze(d)
            return x

        u = update
        if "mean" in ops:
            m = grad.square().mean(dim=dims, keepdim=keep)
            mean = m if mean is None else mean.lerp(m, 0.1)
            u = u * (spread(mean) + 1e-3).rsqrt()
        if "norm" in ops:
            u = u / (1 + spread(torch.linalg.vector_norm(u, dim=dims, keepdim=keep)))
        if "var" in ops:
            u = u + spread(grad.var(dim=dims, keepdim=keep, correction=0).sqrt())
        if "amax" in ops:
            top = spread(grad.abs().amax(dim=dims, keepdim=keep))
            u = torch.minimum(u, 2 * top) + spread(grad.amin(dim=dims, keepdim=keep))
        if "any" in ops:
            some = spread((grad > 1).any(dim=dims, keepdim=keep))
            u = torch.where(some & spread((grad > -2).all(dim=dims, keepdim=keep)), u, -u)
        if "prod" in ops:
            u = u + spread((1 + 0.01 * grad.sign()).prod(dim=dims[0], keepdim=keep))
        return {"update": u, "mean": mean} if "mean" in ops else {"update": u}

    return reduced


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("rank", "dims"), DIMS)
def test_reductions_over_a_run_of_dims_are_as_eager_has_them(rank, dims, keep):
    shapes = [s for s in SHAPES[rank] if 0 not in s]
    eager, fused = steps([over(dims, keep, ("mean", "norm", "var", "amax", "any"))], shapes)
    agree(eager, fused)
    assert in_c(fused) or (not keep and any(1 in s for s in shapes))


@pytest.mark.parametrize(("rank", "dims"), [(2, (0,)), (2, (1,)), (3, (1,))])
def test_no_elements_and_products(rank, dims):
    agree(*steps([over(dims, True, ("mean", "norm", "any"))], SHAPES[rank]))
    agree(*steps([over(dims, False, ("prod",))], SHAPES[rank]), tolerance=1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)]
)
@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1), (1, 2)])
def test_other_dtypes(dtype, tolerance, dims):
    agree(*steps([over(dims, True, ("mean", "norm"))], SHAPES[3][:2], dtype), tolerance)


def test_dims_that_are_no_run_are_left_to_torch():
    eager, fused = steps([over((0, 2), True, ("mean", "norm"))], [(2, 3, 4), (3, 2, 5)])
    agree(eager, fused)
    assert not in_c(fused)


def test_a_vector_is_broadcast_as_torch_does_it():
    def columns_by_rows(grad, update):  # means of rows, taken for columns: the last dim
        return {"update": update / (1 + grad.square().mean(dim=1))}

    eager, fused = steps([columns_by_rows], [(4, 4), (7, 7)])
    agree(eager, fused)
    assert in_c(fused)


def test_vectors_of_vectors_and_scalars_of_them():
    def nested(grad, update):
        row = grad.square().mean(dim=(2,), keepdim=True)
        u = update / (1 + row.amax(dim=1, keepdim=True)) + row.sum(dim=1, keepdim=True)
        return {"update": u * row.mean() - row.softmax(dim=0)}

    eager, fused = steps([nested], [(2, 3, 4), (3, 40, 5), (5, 5, 5)])
    agree(eager, fused)
    assert in_c(fused)


def test_memory_in_another_order_gives_the_same():
    out = []
    for engine in ("eager", "fused"):
        torch.manual_seed(1)
        p = torch.nn.Parameter(torch.randn(6, 5).t())
        q = torch.nn.Parameter(torch.randn(5, 6))
        opt = weft.Optimizer(
            [p, q], [over((1,), True, ("mean", "norm")), descend], lr=0.1, engine=engine
        )
        for _ in range(3):
            p.grad, q.grad = torch.randn(6, 5).t(), torch.randn(6, 5).t()
            opt.step()
        for own in opt.state.values():  # a state that the user has replaced by a strided one
            own["mean"] = torch.stack([own["mean"], own["mean"]], 1)[:, 0]
        for _ in range(2):
            opt.step()
        out.append(opt)
    agree(*out)


def test_a_vector_waits_for_a_value_over_all_parameters():
    total = weft.over_params("total", lambda grad: grad.square().sum())

    def scaled(grad, total, row=None):
        new = (grad * grad).mean(dim=1, keepdim=True) / (1 + total)
        return {"row": new if row is None else 0.5 * row + new}

    def used(update, row):
        return {"update": update * row}

    agree(*steps([total, scaled, used], [(4, 3), (5, 6)]))
    agree(*steps([total, scaled], [(4, 3), (5, 6)]))


def test_bits_depend_on_no_thread():
    found = []
    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            _, fused = steps([over((0,), True, ("mean", "norm"))], [(700, 90), (3, 40_000)])
            found.append([p.detach().clone() for p, *_ in fused.all_params()])
    finally:
        torch.set_num_threads(threads)
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )


def test_the_error_of_a_sum_over_dims_does_not_grow_with_size():
    def subtract_mean(p, grad):
        return {"p": p - grad.mean(dim=0, keepdim=True) - grad.mean(dim=1, keepdim=True)}

    p = torch.nn.Parameter(torch.zeros(3000, 700))
    p.grad = torch.full((3000, 700), 0.1)
    weft.Optimizer([p], [subtract_mean], engine="fused").step()
    torch.testing.assert_close(p.detach(), torch.full_like(p, -0.2), rtol=2e-7, atol=0)


@pytest.mark.parametrize("name", ["Adafactor", "CAME"])
def test_shapes_of_one_rank_share_a_build(name):
    shapes = [(6, 5), (7, 3), (4, 4), (300, 200), (9, 11)]
    builds = []
    for some in (shapes[:2], shapes):
        torch.manual_seed(0)
        ps = [torch.nn.Parameter(torch.randn(s)) for s in some]
        opt = getattr(weft, name)(ps, lr=0.01, engine="fused")
        for _ in range(3):
            for p in ps:
                p.grad = torch.randn_like(p)
            opt.step()
        assert in_c(opt)
        builds.append(opt.explain().builds)
    assert builds[0] == builds[1]


def test_unit_wise_clipping_needs_no_torch():
    def agc(p, grad, clip=0.01):
        dims = tuple(range(1, p.ndim))
        limit = torch.linalg.vector_norm(p, dim=dims, keepdim=True).clamp(min=1e-3) * clip
        size = grad.square().sum(dim=dims, keepdim=True).sqrt().clamp(min=1e-6)
        return {"grad": torch.where(size > limit, grad * (limit / size), grad)}

    eager, fused = steps([agc], [(4, 3), (6, 6), (8, 2, 3, 3), (5, 4, 3, 3)])
    agree(eager, fused)
    assert in_c(fused)
    assert fused.explain().builds == 1  # for all ranks: a unit is a run of dims in each


def test_runs():
    assert run_of((4, 1), (4, 3)) == (1, 2)
    assert run_of((3,), (4, 3)) == (0, 1)
    assert run_of((1, 1), (4, 3)) == (0, 2)
    assert run_of((2, 1, 4, 1), (2, 3, 4, 5)) is None
    assert run_of((4,), (4, 3)) is None
    assert lies_along((4,), (4, 3))
    assert not lies_along((5,), (4, 3))
    assert period_inner((2, 3, 4), (1, 2)) == (12, 4)


def test_chunks_hold_whole_periods_where_they_can():
    assert chunk_length([]) == CHUNK
    assert chunk_length([(9, 1), (9, 3)]) % 9 == 0
    assert chunk_length([(50_000, 1), (768 * 50_000, 50_000)]) == 16 * 50_000
    tall = 768 * 50_000  # of 768 columns: no more than 512 chunks add to one
    length = chunk_length([(tall, 768)], 512)
    assert length % 768 == 0
    assert tall // 512 - 768 < length <= tall // 512
