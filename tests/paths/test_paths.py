"""Paths against what is known of them in closed form, and their pictures."""

import json
import math

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import weft
from weft.cli.main import app
from weft.paths import SURFACES, Surface, Trail, walk
from weft.racing.contestants import Contestant


@pytest.fixture(autouse=True)
def _eager(monkeypatch):
    monkeypatch.setenv("WEFT_ENGINE", "eager")


def take(name, given, lr, steps, **more):
    return walk(SURFACES[name], Contestant("c", given), lr, steps, **more)


@pytest.mark.parametrize("surface", SURFACES.values(), ids=lambda s: s.name)
def test_a_minimum_is_one(surface):
    at = torch.tensor(surface.minimum, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(surface(at), at)
    assert grad.abs().max() < 1e-9
    x0, x1, y0, y1 = surface.window
    x, y = torch.meshgrid(torch.linspace(x0, x1, 201), torch.linspace(y0, y1, 201), indexing="ij")
    heights = surface.f(x, y)
    assert heights.shape == x.shape
    assert heights.min() >= surface(at.detach()) - 1e-4
    for px, py in (surface.start, surface.minimum):
        assert x0 < px < x1
        assert y0 < py < y1
    assert surface.distance(surface.start) > 1


@pytest.mark.parametrize("lr", [0.005, 0.03, 0.0399])
def test_gradient_descent_on_a_quadratic_is_a_power(lr):
    trail = take("ravine", "sgd", lr, 60)
    for t, (x, y) in enumerate(trail.points):
        assert x == pytest.approx(-4 * (1 - lr) ** t, rel=1e-4)
        assert y == pytest.approx((1 - 50 * lr) ** t, rel=1e-3, abs=1e-6)


def test_the_arrival_on_a_quadratic_is_known():
    """x and y are powers: the first t whose norm is below 0.1."""
    lr = 0.03
    norm = lambda t: math.hypot(4 * (1 - lr) ** t, (1 - 50 * lr) ** t)
    expected = next(t for t in range(1000) if norm(t) <= 0.1)
    assert take("ravine", "sgd", lr, expected + 10).arrived == expected
    assert take("ravine", "sgd", lr, expected - 1).arrived is None


@pytest.mark.parametrize(("lr", "diverges"), [(0.0399, False), (0.0401, True)])
def test_a_quadratic_is_left_where_the_rate_is_above_two_by_its_curvature(lr, diverges):
    """After enough steps; both a little from 2 / 50."""
    trail = take("ravine", "sgd", lr, 800)
    assert trail.diverged == diverges
    assert (trail.score == math.inf) == diverges


def test_momentum_is_its_recurrence():
    lr, beta = 0.01, 0.9
    trail = take("ravine", "sgd(momentum=0.9)", lr, 40)
    for axis, (at, curvature) in enumerate([(-4.0, 1.0), (1.0, 50.0)]):
        velocity = 0.0
        for point in trail.points[1:]:
            velocity = beta * velocity + curvature * at
            at -= lr * velocity
            assert point[axis] == pytest.approx(at, rel=1e-3, abs=1e-5)


def test_adam_walks_diagonally_at_first():
    _, (x, y) = take("ravine", "adam", 0.1, 1).points
    assert (x, y) == pytest.approx((-3.9, 0.9), abs=1e-5)


def test_numbers_that_end_end_the_path():
    trail = take("rosenbrock", "sgd", 1.0, 50)
    assert trail.diverged
    assert len(trail.points) < 50
    assert trail.arrived is None


def test_a_matrix_that_is_not_finite_ends_the_path():
    trail = take("rosenbrock", "polargrad", 1e20, 20)
    assert trail.diverged
    assert len(trail.points) < 20


def test_a_mistake_of_a_callback_is_told():
    def mistaken(update):
        raise KeyError("lr")

    with pytest.raises(weft.StepError, match="mistaken"):
        take("ravine", weft.chain(mistaken, weft.callbacks.descend, lr=0.1), 0.1, 2)


def test_arriving_is_for_good():
    ravine = SURFACES["ravine"]
    assert Trail(ravine, ((1, 0), (0, 0), (0.2, 0), (0, 0), (0, 0)), 4).arrived == 3
    assert Trail(ravine, ((1, 0), (0, 0), (0.2, 0)), 2).arrived is None
    assert Trail(ravine, ((1, 0), (0.9, 0)), 1).score == pytest.approx(1 + 0.81 / 2)


def test_noise_is_the_same_for_everyone_and_in_the_gradient():
    drawn = torch.randn(2, generator=torch.Generator().manual_seed(3)) * SURFACES["noisy"].noise
    for given in ("sgd", weft.chain(weft.callbacks.descend, lr=1.0), torch.optim.SGD):
        _, (x, y) = take("noisy", given, 0.1, 1, seed=3).points
        gradient = (-4 + drawn[0].item(), 8 + drawn[1].item())
        assert (x, y) == pytest.approx((-4 - 0.1 * gradient[0], 2 - 0.1 * gradient[1]), abs=1e-5)
    before = torch.get_rng_state()
    take("noisy", "adam", 0.1, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_an_averaging_method_is_judged_by_its_average():
    """Schedule-free descent without momentum: the mean of z, which is what descent gives."""
    trail = take("ravine", "schedulefreesgd(momentum=0.0)", 0.01, 5)
    z = [-4.0]
    for t in range(5):
        z.append(z[-1] - 0.01 * z[-1])
        assert trail.points[t + 1][0] == pytest.approx(sum(z[1:]) / (t + 1), rel=1e-5)


@pytest.mark.parametrize("given", ["sgd+sam", "sophia", "muon", "lion", torch.optim.NAdam])
def test_closures_matrices_and_torchs_own_walk_too(given):
    trail = take("ravine", given, 1e-3, 5)
    assert len(set(trail.points)) == 6


def test_the_best_rate_has_the_fewest_steps(tmp_path):
    found = weft.path(["sgd"], ["ravine"], steps=150)
    (row,) = found.rows
    others = {lr: take("ravine", "sgd", lr, 150).arrived for lr in (0.01, 0.03162, 0.001)}
    assert row["lr"] == 0.03162
    assert row["steps_to_minimum"] == others[0.03162] == min(filter(None, others.values()))
    assert row["distance"] <= 0.1


def test_files(tmp_path):
    names = ["rosenbrock", "noisy"]
    found = weft.path({"plain": "sgd", "adam": "adam"}, names, steps=20, lrs=2, extend=0)
    paths = found.save(tmp_path / "out", gif=True)
    assert [p.name for p in paths] == ["path.csv", "path.json", "path.png", "path.gif"]
    assert len(paths[0].read_text().splitlines()) == 1 + 2 * 2
    assert json.loads(paths[1].read_text()) == found.rows
    with Image.open(paths[2]) as still, Image.open(paths[3]) as moving:
        assert still.format == "PNG"
        assert moving.format == "GIF"
        assert moving.n_frames > 10
        first = moving.convert("L").tobytes()
        moving.seek(moving.n_frames - 1)
        assert moving.convert("L").tobytes() != first
    text = str(found)
    assert "plain" in text
    assert "noisy" in text


def test_a_surface_of_ones_own():
    mine = Surface("mine", lambda x, y: (x - 1) ** 4 + y**2, (1, 0), (0, 1), (-1, 2, -1, 2))
    (row,) = weft.path(["adam"], [mine], steps=100).rows
    assert row["surface"] == "mine"
    assert row["distance"] < 0.5


def test_where_every_rate_diverges_that_is_said(tmp_path):
    found = weft.path(["sgd(lr=1e20)"], ["rosenbrock"], steps=5, lrs=1)
    assert found.rows[0]["lr"] is None
    assert "diverges" in str(found)
    found.save(tmp_path)


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["path", "sgd", "adam", "--on", "ravine", "--steps", "20"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "adam" in result.output
    assert (tmp_path / "out/path/path.png").is_file()
    assert not (tmp_path / "out/path/path.gif").exists()
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert [row["optimizer"] for row in json.loads(result.stdout)] == ["sgd", "adam"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["adm"], "did you mean 'adam'"),
        (["adam", "--on", "ravin"], "no surface is called 'ravin' (did you mean 'ravine'?)"),
        (["adam", "adam"], "two contestants are called 'adam'"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(arguments, words):
    result = CliRunner().invoke(app, ["path", *arguments])
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Traceback" not in result.output
