"""Searches, asked about losses that are known in closed form."""

import math

import pytest

from weft.racing.rules import Rules
from weft.racing.search import Setting, grid, reach, search


def ask(generator, loss):
    """Run a search to its end; what it asked for, and what it found."""
    asked, reply = [], None
    while True:
        try:
            wanted = generator.send(reply)
        except StopIteration as stop:
            return asked, stop.value
        asked.append(wanted)
        reply = [loss(setting, steps) for setting, steps in wanted]


def bowl(at):
    """A loss whose best rate is known."""
    return lambda setting, steps: 1 + math.log10(setting.lr / at) ** 2


def test_the_best_of_a_grid_is_found_without_leaving_it():
    asked, found = ask(search(1e-2, Rules(factor=10), 100), bowl(2e-3))
    assert [s.lr for s, _ in asked[0]] == [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    assert {steps for _, steps in asked[0]} == {100}
    assert found.best.lr == 1e-3
    assert len(asked) == 1
    assert not found.added
    assert not found.at_edge


@pytest.mark.parametrize(("at", "added"), [(3.0, [10, 100]), (1e-7, [1e-6, 1e-7, 1e-8])])
def test_a_grid_grows_while_its_best_is_at_the_edge(at, added):
    middle = 1e-1 if at > 1 else 1e-4
    rules = Rules(lrs=3, factor=10)
    _, found = ask(search(middle, rules, 100), bowl(at))
    expected = [lr for lr in added if lr <= 10] if at > 1 else added
    assert found.added == expected
    assert not found.at_edge
    assert found.best.lr == pytest.approx(at, rel=2.4)


def test_growth_has_a_limit_and_the_edge_is_said():
    _, found = ask(search(1e-4, Rules(lrs=3, factor=10, extend=2), 100), bowl(1e3))
    assert found.added == [1e-2, 1e-1]
    assert found.best.lr == 1e-1
    assert found.at_edge


def test_rates_that_were_rounded_do_not_drift():
    _, found = ask(search(1e-3, Rules(), 100), bowl(1.0))
    assert found.added == [0.03162, 0.1, 0.3162, 1.0, 3.162]


def test_where_all_diverge_lower_rates_are_tried_and_then_none_is_best():
    rules = Rules(lrs=3, factor=10, extend=2)
    _, found = ask(search(1.0, rules, 10), lambda setting, steps: math.inf)
    assert found.best is None
    assert found.added == [1e-2, 1e-3]
    _, found = ask(search(1.0, rules, 10), lambda s, steps: -s.lr if s.lr < 5e-2 else math.inf)
    assert found.best.lr == 1e-2


def test_one_rate_is_no_edge():
    asked, found = ask(search(0.5, Rules(lrs=1), 10), bowl(1e-3))
    assert len(asked) == 1
    assert found.best == Setting(0.5, 0.05)
    assert not found.at_edge


def test_other_hypers_are_tried_by_those_that_have_them():
    tries = {"weight_decay": (0.0, 0.1), "betas": ((0.9, 0.99),), "warmup": (0.0, 0.2)}
    rules = Rules(lrs=3, factor=10, tries=tries)

    def loss(setting, steps):
        decay = dict(setting.hypers).get("weight_decay", 0.1)
        return bowl(1e-3)(setting, steps) - decay - setting.warmup

    asked, found = ask(search(1e-3, rules, 10, frozenset({"weight_decay"})), loss)
    assert len(asked[0]) == 3 * 2 * 2
    assert found.best == Setting(1e-3, 0.2, (("weight_decay", 0.1),))
    assert found.best.others(list(tries)) == "weight_decay 0.1, warmup 0.2"


def test_halving_runs_the_better_half_for_twice_as_long():
    rules = Rules(lrs=7, factor=10, halving=True)
    asked, found = ask(search(1e-3, rules, 100), bowl(1e-2))
    assert [len(some) for some in asked] == [7, 4, 2]
    assert [{steps for _, steps in some} for some in asked] == [{25}, {50}, {100}]
    assert found.best.lr == 1e-2
    assert len(found.losses) == 7
    assert sorted(found.steps.values()) == [25] * 3 + [50] * 2 + [100] * 2


def test_halving_chooses_among_those_that_ran_to_the_end():
    """A rate that is best in short runs and worst in long ones is dropped when that shows."""
    rules = Rules(lrs=4, factor=10, halving=True, extend=0)
    fooling = lambda s, steps: s.lr * (1 if steps == 100 else -1)
    asked, found = ask(search(1.0, rules, 100), fooling)
    assert found.best.lr == min(s.lr for s, _ in asked[-1])
    assert found.best.lr == 10 ** (1 - len(asked[-1]) + 1)


@pytest.mark.parametrize("enough", [1, 8, 9, 30, 31, 99, 100, 101])
def test_the_fewest_steps_are_found_by_bisection(enough):
    horizons = [8, 15, 30, 45, 60, 75, 90, 100]
    generator, asked, reply = reach(horizons, 100), [], None
    try:
        while True:
            asked.append(generator.send(reply))
            reply = asked[-1] >= enough
    except StopIteration as stop:
        found = stop.value
    assert found == min((h for h in horizons if h >= enough), default=None)
    assert asked[0] == 100
    assert len(asked) == len(set(asked)) <= 5


def test_horizons_may_be_longer_than_a_full_run():
    generator = reach([50, 100, 200], 100)
    assert next(generator) == 100
    assert generator.send(False) == 200
    with pytest.raises(StopIteration) as stop:
        generator.send(True)
    assert stop.value.value == 200


@pytest.mark.parametrize(
    ("rules", "match"),
    [
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"seeds": 0}, "seeds=0: at least 1"),
        ({"factor": 1.0}, "factor=1.0"),
        ({"warmup": 1.0}, "warmup=1.0"),
        ({"tries": {"warmup": (2,)}}, "warmup=2"),
        ({"tries": {"weight_decay": ()}}, "weight_decay"),
        ({"horizons": (0.5, 0)}, "above 0"),
    ],
)
def test_rules_that_cannot_be(rules, match):
    with pytest.raises(ValueError, match=match):
        Rules(**rules)


def test_an_even_grid():
    assert grid(1.0, 2, 10) == [0.1, 1.0]
