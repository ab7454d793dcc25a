"""Steps on DTensors and on replicas: each module of cases says what it is about."""

import pytest
from checkpoint_cases import CASES as checkpoints
from checkpoint_cases import FOLDER, LEGS
from ranks import run
from registry_cases import NAMES

from weft.cli.catalog import entries


@pytest.mark.processes
@pytest.mark.parametrize("world", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_steps_on_shards_are_those_on_the_whole(world):
    run("local_cases,combined_cases", world)


@pytest.mark.processes
@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_matrices_on_shards_are_computed_whole(world):
    run("matrix_cases,replica_cases:replicas", world)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_replicas_and_parts_of_them(world):
    run("replica_cases", world)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_what_runs_around_a_step(world):
    run("wrapper_cases", world)


@pytest.mark.processes
@pytest.mark.slow
def test_checkpoints_of_every_kind():
    run(",".join(f"checkpoint_cases:{case}" for case in checkpoints if case != "leg"), 2)


@pytest.mark.processes
@pytest.mark.slow
def test_a_run_goes_on_with_more_and_fewer_ranks(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    for world in LEGS:
        run("checkpoint_cases:leg", world)


@pytest.fixture(scope="module")
def names():
    return [e.name for e in entries(shards=True)]


@pytest.mark.slow
def test_what_is_listed(names):
    some = {"lamb", "lars", "adafactor", "came", "prodigy", "dog", "muon", "normuon", "muonclip"}
    some |= {"soap", "shampoo", "klshampoo", "psgdkron", "dion", "gravity", "schedulefreeadamw"}
    assert some < set(names)
    assert not {"sophia", "adahessian"} & set(names)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("world", [2, 4])
def test_every_optimizer_that_is_listed(world, part, names, monkeypatch):
    monkeypatch.setenv(NAMES, ",".join(names[part::4]))
    run("registry_cases", world)
