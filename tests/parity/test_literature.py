"""Every optimizer of weft against its paper's equations in float64, in both engines."""

import pytest

from parity.case import uncompared
from parity.cases import CASES


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_follows_its_paper(case, engine):
    case.follow(engine)


def test_nothing_is_shipped_that_has_not_been_compared():
    assert uncompared(CASES) == []
