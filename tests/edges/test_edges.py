"""Every optimizer, wrapper and modifier by both engines at every edge: what its row says holds."""

from functools import cache

import pytest

from edges.excuses import EXCUSES
from edges.runs import Trial
from edges.subjects import subjects
from edges.table import EDGES

pytestmark = pytest.mark.filterwarnings("ignore")

FAST = [edge for edge in EDGES if edge.fast]
NAMED = [subject for subject in subjects() if subject.kind != "modifier"]


@cache
def complaints(subject, edge):
    """What does not hold: (property, words)."""
    trial, wrong = Trial(subject, edge), []
    for holds in edge.holds if trial.applies else ():
        try:
            found = holds(trial)
        except Exception as e:
            found = [f"{type(e).__name__}: {e}"[:300]]
        wrong += [(holds.__name__, words) for words in found]
    return tuple(wrong)


def excused(subject, edge, holds):
    cell = {"subject": subject.name, "edge": edge.name, "property": holds}
    return any(any(excuse.matching(**cell)) for excuse in EXCUSES)


def check(subject, edges):
    wrong = [
        f"{edge.name}: {holds}: {words}"
        for edge in edges
        for holds, words in complaints(subject, edge)
        if not excused(subject, edge, holds)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("subject", NAMED, ids=str)
def test_the_most_telling_edges(subject):
    check(subject, FAST)


@pytest.mark.slow
@pytest.mark.parametrize("subject", subjects(), ids=str)
def test_all_edges(subject):
    check(subject, EDGES)


@pytest.mark.slow
@pytest.mark.parametrize("excuse", EXCUSES, ids=str)
def test_every_part_of_an_excuse_is_needed(excuse):
    left = {(part, p) for part, patterns in excuse.patterns.items() for p in patterns}
    every_property = {(part, p) for part, p in left if part == "property"}
    for subject in subjects():
        for edge in EDGES:
            tried = set(excuse.matching(subject=subject.name, edge=edge.name))
            if tried and left & {*tried, *every_property}:
                for holds, _ in complaints(subject, edge):
                    cell = {"subject": subject.name, "edge": edge.name, "property": holds}
                    left -= set(excuse.matching(**cell))
    assert not left, f"nothing is wrong there any more: {sorted(left)}"
