"""A rank that is killed, or that differs from the others: see fault_cases.py and killed_cases.py."""

import pytest
from fault_cases import VICTIM
from killed_cases import FOLDER
from ranks import run


@pytest.mark.processes
def test_what_one_rank_alone_has_or_does():
    run("fault_cases", 2, dying=[VICTIM])


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("case", ["in_a_transfer", "in_a_reduction", "stuck"])
def test_a_rank_of_three(case):
    run(f"killed_cases:{case}", 3, dying=[VICTIM])


@pytest.mark.processes
@pytest.mark.slow
def test_those_that_are_left_load_the_last_complete_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    run("killed_cases:in_a_save", 3, dying=[VICTIM])
    run("killed_cases:goes_on", 2)
