"""Steps on DTensors: see local_cases.py, combined_cases.py and registry_cases.py for what each says."""

import pytest
from ranks import run
from registry_cases import NAMES

from weft.cli.catalog import entries


@pytest.mark.processes
@pytest.mark.parametrize("world", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_steps_on_shards_are_those_on_the_whole(world):
    run("local_cases,combined_cases,matrix_cases", world)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_every_optimizer_that_is_listed(world, monkeypatch):
    names = [e.name for e in entries(shards=True)]
    assert {"lamb", "lars", "adafactor", "came", "prodigy", "dog"} < set(names)
    assert not {"muon", "soap", "shampoo", "gravity"} & set(names)
    monkeypatch.setenv(NAMES, ",".join(names))
    run("registry_cases", world)
