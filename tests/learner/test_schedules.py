"""The formulas of the original, computed here a second time and by hand."""

import math

import pytest
import torch

from weft.learner.schedules import (
    combine,
    constant,
    cosine,
    exponential,
    flat_cosine,
    linear,
    one_cycle,
    restarts,
    spread,
)


def reference_cosine(start, end, pos):
    return start + (1 + math.cos(math.pi * (1 - pos))) * (end - start) / 2


@pytest.mark.parametrize("pos", [0, 0.1, 0.25, 0.5, 0.9, 1])
def test_cosine_is_the_originals(pos):
    assert cosine(3, 0.5)(pos) == pytest.approx(reference_cosine(3, 0.5, pos), rel=1e-14)


@pytest.mark.parametrize("pos", [0, 0.1, 0.249, 0.25, 0.251, 0.6, 0.999, 1])
def test_one_cycle_rises_for_a_quarter_and_falls_for_the_rest(pos):
    lr = one_cycle(0.1 / 25, 0.1, 0.1 / 1e5)(pos)
    if pos <= 0.25:
        expected = reference_cosine(0.1 / 25, 0.1, pos / 0.25)
    else:
        expected = reference_cosine(0.1, 0.1 / 1e5, (pos - 0.25) / 0.75)
    assert lr == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("pos", [0, 0.3, 0.75, 0.8, 1])
def test_flat_cosine(pos):
    expected = 1.0 if pos <= 0.75 else reference_cosine(1, 1e-5, (pos - 0.75) / 0.25)
    assert flat_cosine()(pos) == pytest.approx(expected, rel=1e-12)


def test_restarts_double_and_begin_at_the_top():
    rate = restarts(3, cycle_mult=2)  # 1/7, 2/7, 4/7 of the whole
    assert [rate(pos) for pos in (0, 1 / 7, 3 / 7)] == pytest.approx([1, 1, 1])
    assert [rate(pos) for pos in (0.5 / 7, 2 / 7, 5 / 7)] == pytest.approx([0.5] * 3)
    assert rate(1) == pytest.approx(0)


def test_exponential_and_linear():
    assert exponential(1e-7, 10)(0.5) == pytest.approx(1e-3)
    assert linear(1, 3)(0.25) == 1.5
    with pytest.raises(ValueError, match="same sign"):
        exponential(0, 1)


@pytest.mark.parametrize("pct", [0.0, 1.0])
def test_a_part_of_no_length_is_never_asked(pct):
    schedule = combine([pct, 1 - pct], [constant(1), constant(2)])
    assert {schedule(pos) for pos in (0, 0.5, 1)} == {2 if pct == 0 else 1}


def test_combine_refuses_what_is_not_a_whole():
    with pytest.raises(ValueError, match="parts of 1"):
        combine([0.5, 0.6], [constant(1)] * 2)
    with pytest.raises(ValueError, match="2 fractions for 1"):
        combine([0.5, 0.5], [constant(1)])


def test_spread():
    assert spread(0.1, 3) == [0.1] * 3
    assert spread(slice(1e-4, 1e-2), 3) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert spread(slice(1e-2), 3) == pytest.approx([1e-3, 1e-3, 1e-2])
    assert spread(slice(1e-4, 1e-2), 1) == [1e-2]
    assert spread([1, 2], 2) == [1.0, 2.0]
    assert spread(torch.tensor([1.0, 2.0]), 2) == [1.0, 2.0]
    assert spread(torch.tensor(3.0), 2) == [3.0, 3.0]
    with pytest.raises(ValueError, match="2 values for 3"):
        spread([1, 2], 3)
