"""Matrix methods where factors have no full rank, where decompositions fail, and in 16 bits."""

import copy
import pickle
from typing import Any

import pytest
import torch

import weft
from weft.callbacks import decompositions, eigenbasis, kronecker
from weft.optimizers import algorithms

ENGINES = ("eager", "fused")
EVERY: dict[str, Any] = {**algorithms()}
WIDE = torch.float64


def noise(*shape):
    return torch.randn(shape, dtype=WIDE)


SKEWED = {
    "wide": lambda: noise(6, 20) @ noise(20, 100) / 20,
    "a batch of 8": lambda: noise(40, 8) @ noise(8, 40) / 8,
    "column": lambda: noise(100, 1),
    "row": lambda: noise(1, 100),
    "rank one": lambda: torch.outer(noise(40), noise(30)),
}
OF_FACTORS = ("Shampoo", "DistributedShampoo", "SOAP", "HeavySOAP", "KLShampoo", "KLSOAP", "SPlus")


def followed(name, grads, dtype, engine):
    """Where a parameter that starts at zero is after these gradients."""
    p = torch.nn.Parameter(torch.zeros(grads[0].shape, dtype=dtype))
    opt = getattr(weft, name)([p], lr=0.01, engine=engine)
    for g in grads:
        p.grad = g.to(dtype)
        opt.step()
    return p.detach().double()


@pytest.mark.parametrize("kind", SKEWED)
@pytest.mark.parametrize("name", OF_FACTORS)
def test_float32_follows_float64_on_factors_without_full_rank(name, kind):
    torch.manual_seed(3)
    grads = [SKEWED[kind]() for _ in range(3)]
    exact = followed(name, grads, WIDE, "eager")
    for engine in ENGINES:
        torch.testing.assert_close(
            followed(name, grads, torch.float32, engine),
            exact,
            rtol=0,
            atol=2e-3 * float(exact.abs().max()),
        )


def test_the_first_step_of_shampoo_is_the_polar_factor():
    """Of rank r it has r singular values of one, whatever the size of the gradient."""
    torch.manual_seed(0)
    g = (noise(10, 64) @ noise(64, 784) / 64).float()
    for engine in ENGINES:
        p = torch.nn.Parameter(torch.zeros(10, 784))
        opt = weft.Shampoo([p], lr=1.0, engine=engine)
        p.grad = g.clone()
        opt.step()
        u, _, vh = torch.linalg.svd(g.double(), full_matrices=False)
        torch.testing.assert_close(p.detach().double(), -u @ vh, rtol=0, atol=1e-4)


def test_an_inverse_root_is_not_one_of_rounding_errors():
    torch.manual_seed(0)
    x = noise(50, 3).float()
    root = kronecker.power(x @ x.T, -0.5, 1e-12).double()
    values = torch.linalg.eigvalsh(root)
    largest = float(torch.linalg.eigvalsh((x @ x.T).double())[-1])
    assert float(values.min()) > 0
    assert float(values.max()) <= 1.01 * (torch.finfo(torch.float32).eps * largest) ** -0.5


def test_the_basis_of_a_null_space_follows_from_the_matrix_and_not_from_its_rounding():
    torch.manual_seed(0)
    x = noise(30, 4)
    exact = eigenbasis.eigenbasis(x @ x.T)
    near = eigenbasis.eigenbasis((x @ x.T).float()).double()
    torch.testing.assert_close((exact * near).sum(dim=0).abs(), torch.ones(30, dtype=WIDE), rtol=0,
                               atol=1e-4)  # fmt: skip
    torch.testing.assert_close(exact.T @ exact, torch.eye(30, dtype=WIDE))


@pytest.mark.parametrize("scale", [1e-6, 1e6, 1e10, 1e18])
@pytest.mark.parametrize("name", OF_FACTORS)
def test_the_size_of_gradients_does_not_matter_to_rounding(name, scale):
    torch.manual_seed(4)
    grads = [noise(4, 9) * scale for _ in range(3)]
    exact = followed(name, grads, WIDE, "eager")
    for engine in ENGINES:
        torch.testing.assert_close(
            followed(name, grads, torch.float32, engine), exact, rtol=0,
            atol=2e-3 * float(exact.abs().max()),
        )  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [*OF_FACTORS, "PolarGrad", "Muon", "GaLoreAdamW"])
def test_squares_that_overflow_stay_with_their_parameter(name, engine):
    def last(scale):
        torch.manual_seed(5)
        params = [torch.nn.Parameter(torch.randn(4, 9)) for _ in range(3)]
        opt = getattr(weft, name)(params, engine=engine)
        for _ in range(3):
            for p in params:
                p.grad = torch.randn(4, 9)
            params[1].grad *= scale
            opt.step()
        return params

    large, ordinary = last(1e25), last(1.0)
    assert torch.equal(large[0], ordinary[0])
    assert torch.equal(large[2], ordinary[2])
    assert large[1].isfinite().all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["Shampoo", "PolarGrad", "Dion", "SPEL", "SWAN"])
def test_what_cannot_be_decomposed_names_callback_and_parameter(name, engine):
    params = [(k, torch.nn.Parameter(torch.randn(4, 3))) for k in "abc"]
    opt = getattr(weft, name)(params, engine=engine)
    grads = [torch.randn(4, 3) for _ in params]
    grads[1][2, 1] = torch.nan
    for (_, p), g in zip(params, grads, strict=True):
        p.grad = g
    with pytest.raises(
        weft.StepError, match=r"callback \w+ \(.*\) raised .* parameter 'b' \(4, 3\)"
    ):
        opt.step()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "fn"), [("Shampoo", "eigh"), ("PolarGrad", "svd"), ("Dion", "qr"), ("PSGDKron", "inv")]
)
def test_a_decomposition_that_fails_is_tried_once_more_in_double(name, fn, engine, monkeypatch):
    real, seen = getattr(torch.linalg, fn), []

    def fails(a, **kwargs):
        if not a.is_meta and a.dtype is torch.float32:
            seen.append(a)
            raise torch.linalg.LinAlgError("it did not converge")
        return real(a, **kwargs)

    def stepped():
        torch.manual_seed(6)
        p = torch.nn.Parameter(torch.randn(4, 3))
        opt = getattr(weft, name)([p], engine=engine)
        for _ in range(2):
            p.grad = torch.randn(4, 3)
            opt.step()
        return p.detach()

    expected = stepped()
    monkeypatch.setattr(torch.linalg, fn, fails)
    torch.testing.assert_close(stepped(), expected, rtol=1e-3, atol=1e-4)
    assert seen


@pytest.mark.parametrize("engine", ENGINES)
def test_a_decomposition_that_fails_twice_names_callback_and_parameter(engine, monkeypatch):
    params = [(k, torch.nn.Parameter(torch.randn(4, 3))) for k in "ab"]
    opt = weft.Shampoo(params, engine=engine)
    for _, p in params:
        p.grad = torch.randn(4, 3)
    opt.step()

    def fails(a, **kwargs):
        raise torch.linalg.LinAlgError("it did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    with pytest.raises(weft.StepError, match=r"inverse_roots.* parameter 'a' \(4, 3\).* converge"):
        opt.step()


def test_a_singular_matrix_is_inverted_with_a_little_damping():
    assert decompositions.inverse(torch.ones(3, 3)).isfinite().all()
    with pytest.raises(torch.linalg.LinAlgError, match="infinities or NaNs"):
        decompositions.qr(torch.full((3, 3), torch.inf))


WIDE_STATES = ("factors", "inverse_factors", "bases", "basis", "eigenvalues", "whitener")


@pytest.mark.filterwarnings(
    "ignore:.*rounded away in 16 bits"
)  # of optimizers that this is not about
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (WIDE, WIDE)],
)
def test_factors_roots_and_bases_have_no_less_than_float32(dtype, kept, engine):
    found = set()
    for name, cls in EVERY.items():
        p = torch.nn.Parameter(torch.randn(6, 4).to(dtype))
        opt = cls([p], engine=engine)
        if opt.needs_closure or not {*WIDE_STATES} & opt._bound[0].binding.state_names:
            continue
        for _ in range(2):
            p.grad = torch.randn(6, 4).to(dtype)
            opt.step()
        loaded = cls([p], engine=engine)
        loaded.load_state_dict(opt.state_dict())
        for state in (opt.state[p], loaded.state[p]):
            for key in state.keys() & {*WIDE_STATES}:
                assert state[key].dtype is kept, (name, key)
                found.add(key)
    assert found == {*WIDE_STATES}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_every_optimizer_is_copied_and_pickled(copied):
    for name, cls in EVERY.items():
        opt = cls([torch.nn.Parameter(torch.randn(4, 3))])
        assert repr(copied(opt)) == repr(opt), name
