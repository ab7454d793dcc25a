"""Steps on DTensors: see local_cases.py and combined_cases.py for what each case says."""

import pytest
from ranks import run


@pytest.mark.processes
@pytest.mark.parametrize("world", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_steps_on_shards_are_those_on_the_whole(world):
    run("local_cases,combined_cases", world)
