"""Torch's regions run once for parameters of one shape, in a workspace that does not grow with them."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import weft
from weft.engine.runtime import regions

SQUARES = [(6, 6)] * 3
SHAPES = [(6, 4), (5, 7), (6, 4), (6, 6), (6, 4), (5, 7), (40, 3)]
NEAR = {"rtol": 1e-9, "atol": 1e-10}
I3 = torch.eye(6, dtype=torch.float64) * 3


def run(chain, shapes, engine, steps=4, groups=1, missing=None):
    """The optimizer after some steps, in double, where orders of summation hardly show."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in shapes]
    parts = [
        {"params": params[i::groups], "lr": 0.01 * (i + 1), "cbs": chain} for i in range(groups)
    ]
    opt = weft.Optimizer(parts, [], engine=engine)
    for step in range(steps):
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape, dtype=torch.float64)
            if missing is not None and missing(step, i):
                p.grad = None
        opt.step()
    return opt, params


def held_to_eager(chain, shapes, **how):
    fused, a = run(chain, shapes, "fused", **how)
    eager, b = run(chain, shapes, "eager", **how)
    for p, q in zip(a, b, strict=True):
        torch.testing.assert_close(p, q, **NEAR)
        assert list(fused.state[p]) == list(eager.state[q])
        for name, value in eager.state[q].items():
            torch.testing.assert_close(fused.state[p][name], value, **NEAR)


@pytest.fixture
def batches(monkeypatch):
    """How many parameters each run of a region was for."""
    sizes = []
    real = regions.TorchRegion.run

    def noted(self, members, *rest):
        sizes.append(len(members))
        return real(self, members, *rest)

    monkeypatch.setattr(regions.TorchRegion, "run", noted)
    return sizes


CHAINS = {"muon": weft.Muon.chain(), "normuon": weft.NorMuon.chain()}
DECOMPOSING = {"shampoo": weft.Shampoo.chain(), "soap": weft.SOAP.chain(precondition_frequency=2)}
WAYS = {
    "all": {},
    "two groups": {"groups": 2},
    "steps that differ": {"missing": lambda step, i: step < i % 3},
    "grads missing": {"missing": lambda step, i: (step + i) % 3 == 0},
}


@pytest.fixture(params=["new memory", "buffers"])
def memory(request, monkeypatch):
    if request.param == "buffers":
        monkeypatch.setattr(regions, "LEAST", 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CHAINS)
def test_a_batch_does_what_the_eager_loop_does_one_by_one(name, way, batches, memory):
    held_to_eager(CHAINS[name], SHAPES, **WAYS[way])
    assert max(batches) > 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", DECOMPOSING)
def test_factors_without_full_rank_are_decomposed_one_by_one(name, way, batches):
    """A stack rounds otherwise, and inverse roots of eigenvalues near 0 make everything of it."""
    held_to_eager(DECOMPOSING[name], [(4, 9), (9, 4)] * 3, **WAYS[way])
    assert 1 in batches


def mixed_products(update):
    row, column, matrix = update[0], update[:, 1], update @ I3.T
    both = torch.outer(matrix @ column, row @ matrix)
    return {"update": both + (row @ column) * update.T @ I3}


def parts_and_writes(update):
    square = update @ update.T
    square[1:4:2] = update[:2]
    square.diagonal().add_(square.sum(dim=1))
    low = torch.cat([square[:, :2], update[:, 2:]], dim=-1).tril()
    return {"update": low + torch.stack([low[0], *low[1:].unbind()], 0) + square.diagonal(1).sum()}


def reductions_of_rows(update):
    square = update @ update.T
    top = square.amax(dim=1, keepdim=True)
    some = torch.where(square > square.mean(), square / top, square.prod(dim=0))
    return {"update": some * (square.sum() > 0) + top.reshape(-1, 2).sum(0).norm()}


def sorted_products(update):
    square = update @ update.T + I3
    return {"update": square @ square.sort(dim=0).values + square[0].sort().values.expand(6, 6)}


def stacks_of_matrices(update):
    cube = update.reshape(2, 3, 6)
    return {"update": (cube @ I3 @ cube.mT @ cube).permute(1, 0, 2).reshape(6, 6)}


def without_a_parameter(update, kept=weft.zeros):
    return {"update": update @ I3, "kept": I3 @ I3 + 0 * kept}


ODD = [mixed_products, parts_and_writes, reductions_of_rows, sorted_products, stacks_of_matrices,
       without_a_parameter]  # fmt: skip


@pytest.mark.parametrize("callback", ODD)
def test_every_kind_of_node_has_a_form_for_a_batch(callback, batches, memory):
    held_to_eager(weft.chain(callback, weft.callbacks.descend), SQUARES)
    assert max(batches) == 3


def test_numbers_set_parameters_apart(batches):
    def scaled(update, lr):
        return {"update": (update * lr) @ update.T @ update}

    held_to_eager(weft.chain(scaled, weft.callbacks.descend), SQUARES * 2, groups=2, steps=1)
    assert sorted(batches)[-2:] == [3, 3]


def test_a_value_over_the_group_is_part_of_a_batch(batches):
    total = weft.over_params("total", lambda grad: grad.square().sum(), op="sum", scope="group")

    def shrink(update, total):
        return {"update": (update / total) @ update.T @ update}

    chain = weft.chain(total, shrink, weft.callbacks.descend)
    held_to_eager(chain, SQUARES * 2, groups=2)
    assert max(batches) == 3


def test_draws_stay_in_the_order_of_parameters(batches):
    def noisy(update):
        return {"update": (update + torch.randn_like(update)) @ update.T @ update}

    held_to_eager(weft.chain(noisy, weft.callbacks.descend), [(3, 3), (2, 2), (3, 3)])
    assert max(batches) == 1


def test_sixteen_bits_and_layouts_of_their_own(batches):
    def fill(engine):
        torch.manual_seed(0)
        tall = [torch.randn(4, 6).T for _ in range(3)]
        half = [torch.randn(6, 4).bfloat16() for _ in range(3)]
        params = [torch.nn.Parameter(x) for x in (*tall, *half)]
        for p in params:
            p.grad = torch.randn(p.shape).to(p.dtype)
        opt = weft.Muon(params, lr=0.1, engine=engine)
        opt.step()
        return params

    for p, q in zip(fill("fused"), fill("eager"), strict=True):
        assert p.stride() == q.stride()
        torch.testing.assert_close(p, q)
    assert sorted(batches)[-2:] == [3, 3]


class Alive(TorchDispatchMode):
    """The most bytes that tensors made meanwhile held at one time."""

    def __init__(self):
        super().__init__()
        self.refs, self.peak = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, tuple | list) else [out]
        self.refs += [weakref.ref(t) for t in made if isinstance(t, torch.Tensor)]
        self.refs = [r for r in self.refs if r() is not None]
        memory = {s.data_ptr(): s.nbytes() for r in self.refs if (s := r().untyped_storage())}
        self.peak = max(self.peak, sum(memory.values()))
        return out


def peak_of(count, n=16):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(n, n)) for _ in range(count)]
    opt = weft.Muon(params, engine="fused")
    for p in params:
        p.grad = torch.randn(n, n)
    for _ in range(3):
        opt.step()
    with Alive() as alive:
        opt.step()
    return alive.peak


@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("together", [1, 4])
def test_temporaries_do_not_pile_up(monkeypatch, together, buffers):
    monkeypatch.setattr(regions, "LEAST", 1 if buffers else 1 << 30)
    monkeypatch.setattr(regions, "BATCH", together * 16 * 16)
    few, many = peak_of(8), peak_of(32)
    results = (many - few) / (24 * 16 * 16 * 4)
    assert results <= 2  # what kernels still have to read of each, and nothing else
    assert few <= (8 * 2 + 8 * together) * 16 * 16 * 4


@pytest.mark.parametrize("name", ["soap", "klsoap", "soapnadam", "soapademamix", "heavysoap"])
def test_columns_of_a_dim_of_one_are_sorted_fused(name):
    """Bases are sorted in the tenth step: an index into one column is 0."""
    p = torch.nn.Parameter(torch.randn(6, 1, 3, generator=torch.Generator().manual_seed(0)))
    opt = weft.create(name, [p], lr=1e-3, engine="fused")
    for k in range(12):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(k))
        opt.step()
    assert not opt.explain().fallbacks
