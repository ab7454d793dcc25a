"""Sparse grads, as an embedding has them: what torch.optim steps, with the same numbers and refusals."""

import copy

import pytest
import torch
from contract_problems import same

import weft
from weft.optimizers import algorithms

TAKEN = [
    ("SGD", {}),
    ("SGD", {"maximize": True}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "maximize": True}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "maximize": True}),
    ("Adagrad", {"initial_accumulator_value": 0.2}),
    ("Adagrad", {"eps": 0.0}),
]
IDS = [f"{name}-{'-'.join(options)}" for name, options in TAKEN]


def draw(shape, t, kind, dtype=torch.float64):
    """A grad of step t: of few rows, some of them twice; as it is, coalesced or dense; None for one."""
    random = torch.Generator().manual_seed(t)
    rows = torch.randint(0, shape[0], (5,), generator=random)
    values = torch.randn((5, *shape[1:]), generator=random, dtype=torch.float64).to(dtype)
    grad = torch.sparse_coo_tensor(rows[None], values, shape)
    return {"sparse": grad, "coalesced": grad.coalesce(), "dense": grad.to_dense(), "none": None}[
        kind
    ]


def leaves(dtype=torch.float64):
    random = torch.Generator().manual_seed(9)
    make = lambda s: torch.randn(s, generator=random, dtype=torch.float64).to(dtype)
    return [torch.nn.Parameter(make((12, 3))), torch.nn.Parameter(make((2, 3)))]


def steps(opt, params, kinds, dtype=torch.float64):
    for t, kind in enumerate(kinds):
        params[0].grad = draw(params[0].shape, t, kind, dtype)
        params[1].grad = draw(params[1].shape, 50 + t, "dense", dtype)
        opt.step()


@pytest.mark.filterwarnings("error::weft.WeftWarning")
@pytest.mark.parametrize(("name", "options"), TAKEN, ids=IDS)
def test_numbers_are_torchs(name, options):
    for kinds in (["sparse"] * 5, ["coalesced", "none", "sparse", "sparse"]):
        ours, theirs = leaves(), leaves()
        a = getattr(weft, name)(ours, lr=0.1, **options)
        b = getattr(torch.optim, name)(theirs, lr=0.1, foreach=False, **options)
        steps(a, ours, kinds)
        steps(b, theirs, kinds)
        same(ours, theirs)
        for p, q in zip(ours, theirs, strict=True):
            assert a.state[p].keys() == b.state[q].keys()
            for k, v in b.state[q].items():
                same([a.state[p][k]], [v.to_dense()])
        assert ours[0].grad.is_sparse


@pytest.mark.parametrize(("name", "options"), TAKEN[:-1], ids=IDS[:-1])
def test_sparse_and_dense_take_turns(name, options):
    kinds = ["dense", "sparse", "sparse", "dense", "none", "coalesced", "dense", "dense", "sparse"]
    ours, dense = leaves(), leaves()
    a, b = (getattr(weft, name)(ps, lr=0.1, **options) for ps in (ours, dense))
    steps(a, ours, kinds)
    steps(b, dense, ["none" if k == "none" else "dense" for k in kinds])
    same(ours, dense)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex128])
@pytest.mark.parametrize(("name", "options"), [("SGD", {"momentum": 0.9}), ("Adagrad", {})])
def test_every_dtype(name, options, dtype):
    ours, dense = leaves(dtype), leaves(dtype)
    a, b = (getattr(weft, name)(ps, lr=0.1, **options) for ps in (ours, dense))
    steps(a, ours, ["coalesced"] * 3, dtype)
    for t in range(3):
        dense[0].grad = draw(dense[0].shape, t, "coalesced", dtype).to_dense()
        dense[1].grad = draw(dense[1].shape, 50 + t, "dense", dtype)
        b.step()
    same(ours, dense, 1e-6)


def test_entries_of_a_vector_and_none_at_all():
    p, q = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    a, b = weft.Adagrad([p], lr=0.1), torch.optim.Adagrad([q], lr=0.1, foreach=False)
    for where in ([0, 0, 2], [], [3]):
        grad = torch.sparse_coo_tensor([where], torch.ones(len(where)), (4,))
        p.grad, q.grad = grad, grad.clone()
        a.step()
        b.step()
    same([p], [q], 1e-6)


def test_an_embedding_trains():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(30, 4, sparse=True), torch.nn.Linear(4, 1))
    other = copy.deepcopy(model)
    a = weft.Adagrad(model.parameters(), lr=0.1)
    b = torch.optim.Adagrad(other.parameters(), lr=0.1, foreach=False)
    for t in range(6):
        words = torch.randint(0, 30, (8, 5), generator=torch.Generator().manual_seed(t))
        for m, opt in ((model, a), (other, b)):
            opt.zero_grad()
            m(words).square().mean().backward()
            opt.step()
    same(model.parameters(), other.parameters(), 1e-5)


def test_a_state_dict_of_torchs_with_a_sparse_momentum_goes_on():
    ours, theirs = leaves(), leaves()
    b = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, foreach=False)
    steps(b, theirs, ["sparse"] * 2)
    a = weft.SGD(ours, lr=0.1, momentum=0.9)
    with torch.no_grad():
        for p, q in zip(ours, theirs, strict=True):
            p.copy_(q)
    a.load_state_dict(b.state_dict())
    for opt, ps in ((a, ours), (b, theirs)):
        steps(opt, ps, ["sparse"] * 3)
    same(ours, theirs)


def test_clipping_sees_the_entries():
    chain = weft.SGD.chain(lr=0.1) + weft.callbacks.clip_global_norm + weft.callbacks.clip_value
    results = []
    for kind in ("sparse", "dense"):
        params = leaves()
        steps(chain(params, max_norm=0.5, clip_value=0.2), params, [kind] * 3)
        results.append(params)
    same(*results)


@pytest.mark.parametrize("policy", ["skip", "raise"])
def test_a_grad_that_is_not_finite_is_found(policy):
    params = leaves()
    opt = weft.SGD(params, lr=0.1, on_nonfinite=policy)
    grad = draw((12, 3), 0, "coalesced")
    grad.values()[0, 0] = float("nan")
    params[0].grad = grad
    before = params[0].detach().clone()
    if policy == "raise":
        with pytest.raises(weft.NonFiniteError):
            opt.step()
    else:
        opt.step()
    assert torch.equal(before, params[0])


def test_norms_are_those_of_the_whole():
    params, dense = leaves(), leaves()
    stats = []
    for ps, kind in ((params, "sparse"), (dense, "dense")):
        opt = weft.Adagrad(ps, lr=0.1)
        opt.collect_stats()
        steps(opt, ps, [kind] * 2)
        stats.append(opt.stats()["global"])
    for key, value in stats[0].items():
        assert value == pytest.approx(stats[1][key])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_weight_decay_is_refused_as_in_torch(name):
    for module in (weft, torch.optim):
        params = leaves()
        opt = getattr(module, name)(params, lr=0.1, weight_decay=0.1, foreach=False)
        before = params[0].detach().clone()
        with pytest.raises(RuntimeError) as e:
            steps(opt, params, ["sparse"])
        assert torch.equal(before, params[0])
    del e


def test_who_takes_them_is_who_the_refusal_names():
    taken = set()
    for name, cls in algorithms().items():
        p = torch.nn.Parameter(torch.ones(6, 3))
        try:
            opt = cls([p], weight_decay=0.0) if "weight_decay" in cls.keywords() else cls([p])
        except (ValueError, TypeError):
            continue
        p.grad = draw((6, 3), 0, "sparse", torch.float32)
        try:
            opt.step((lambda: torch.ones(())) if opt.needs_closure else None, loss=torch.ones(()))
            taken.add(name)
        except weft.StepError as e:
            said = str(e)
            assert torch.equal(p, torch.ones(6, 3))
            if not opt.needs_closure:
                assert "weft.SGD and weft.Adagrad" in said
                assert "docs/limits.md#sparse-grads" in said
    assert taken == {"sgd", "adagrad"}
