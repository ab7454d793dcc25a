"""Whole races on small tasks: who wins is known, nothing is run twice, and all of it is said."""

import csv
import itertools
import json

import pytest
import torch
from torch.nn.functional import mse_loss

import weft
from weft.learner import in_memory
from weft.racing import draw, pool
from weft.racing.keep import Keep
from weft.racing.result import COLUMNS


def linear(seed):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator)
    y = x.sum(1, keepdim=True)
    dls = in_memory((x[:40], y[:40]), (x[40:50], y[40:50]), batch_size=10, seed=seed)
    return torch.nn.Linear(4, 1), (*dls, [(x[50:], y[50:])]), mse_loss


class Weight(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(1 + torch.rand(1))

    def forward(self, x):
        return self.w * x


def parabola(seed):
    """loss = w^2 / 2: a step of gradient descent at an effective rate of 1 ends at zero."""
    rows = [(torch.ones(1), torch.zeros(1))]
    return Weight(), (rows, rows), lambda pred, y: (pred - y).square().sum() / 2


@pytest.fixture
def ran(monkeypatch):
    """The jobs that are run."""
    jobs, real = [], pool.run
    monkeypatch.setattr(pool, "run", lambda job: (jobs.append(job), real(job))[1])
    return jobs


QUICK = {"workers": 1, "lrs": 3, "factor": 10, "seeds": 2, "steps": 12}


def test_the_best_rate_of_a_parabola_is_the_one_that_ends_at_zero(tmp_path):
    """One step, in the middle of a cosine: at lr 2 its rate is 1."""
    who = {"plain": weft.chain(weft.callbacks.descend, lr=1.0)}
    rules = {"steps": 1, "seeds": 1, "factor": 2, "warmup": 0, "workers": 1}
    found = weft.race(parabola, who, out=tmp_path, **rules)
    (row,) = found.rows
    assert row["lr"] == 2
    assert row["loss"] == pytest.approx(0, abs=1e-12)
    losses = {s.lr: loss for s, loss in found.outcomes[0].found.losses.items()}
    torch.manual_seed(0)
    w = Weight().w.item()
    for lr in (0.25, 0.5, 1.0):
        assert losses[lr] == pytest.approx((w * (1 - lr / 2)) ** 2 / 2)
    assert losses[4.0] == pytest.approx(w**2 / 2)  # as at the start: not above it


def test_nothing_is_run_twice(tmp_path, ran):
    first = weft.race(linear, ["sgd", "adam"], out=tmp_path, **QUICK)
    assert len(ran) == len({job.key for job in ran}) > 10
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert len(lines) == len(ran)

    before = len(ran)
    again = weft.race(linear, ["sgd", "adam"], out=tmp_path, **QUICK)
    assert len(ran) == before
    assert again.rows == first.rows

    third = weft.race(linear, ["sgd", "adam", "lion"], out=tmp_path, **QUICK)
    assert {job.contestant.name for job in ran[before:]} == {"lion"}
    assert third.rows[:2] == first.rows


def test_an_interrupt_loses_one_run_at_most(tmp_path, monkeypatch, ran):
    counting, real = itertools.count(1), pool.run

    def interrupted(job):
        if next(counting) == 8:
            raise KeyboardInterrupt
        return real(job)

    with monkeypatch.context() as patched:
        patched.setattr(pool, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            weft.race(linear, ["sgd", "adam"], out=tmp_path, **QUICK)
    assert len(Keep(tmp_path / "runs.jsonl")) == len(ran) == 7
    resumed = weft.race(linear, ["sgd", "adam"], out=tmp_path, **QUICK)
    assert len(ran) == len({job.key for job in ran})
    whole = weft.race(linear, ["sgd", "adam"], out=tmp_path / "other", **QUICK)
    timeless = lambda race: [
        {k: v for k, v in row.items() if "seconds" not in k} for row in race.rows
    ]
    assert timeless(resumed) == timeless(whole)


def test_a_line_that_was_cut_off_is_run_again(tmp_path, ran):
    weft.race(linear, ["sgd"], out=tmp_path, **QUICK)
    file = tmp_path / "runs.jsonl"
    file.write_text(file.read_text()[:-40])
    before = len(ran)
    weft.race(linear, ["sgd"], out=tmp_path, **QUICK)
    assert len(ran) == before + 1
    weft.race(linear, ["sgd"], out=tmp_path, **QUICK)
    assert len(ran) == before + 1


def test_a_task_that_was_changed_is_run_again(tmp_path, ran):
    from weft.racing import named

    file = tmp_path / "mine.py"
    source = (
        "import torch\n"
        "def task(seed):\n"
        "    rows = [(torch.ones(2, 3), torch.zeros(2, 1))]\n"
        "    return torch.nn.Linear(3, 1), (rows, rows), torch.nn.functional.mse_loss\n"
        "task.steps = 5\n"
    )
    rules = {k: v for k, v in QUICK.items() if k != "steps"}
    for text in (source, source, source.replace("ones", "rand")):
        file.write_text(text)
        named._module.cache_clear()  # as in another process
        named._of_file.cache_clear()
        before = len(ran)
        weft.race(f"{file}:task", ["sgd"], out=tmp_path, **rules)
        assert (len(ran) == before) == (before > 0 and "rand" not in text)
    assert {job.steps for job in ran} <= {1, 2, 3, 4, 5}


def test_diverged_runs_are_counted_and_said(tmp_path):
    rules = {**QUICK, "factor": 1e4}
    found = weft.race(linear, {"sgd": "sgd", "mad": "sgd(lr=1e12)"}, out=tmp_path, **rules)
    sgd, mad = found.rows
    assert 0 < sgd["diverged"] < sgd["runs"]
    assert mad["lr"] is not None
    assert mad["rates_added"] > 0
    hopeless = {**rules, "lrs": 1}
    found = weft.race(linear, {"sgd": "sgd", "mad": "sgd(lr=1e30)"}, out=tmp_path, **hopeless)
    mad = found.rows[1]
    assert (mad["lr"], mad["loss"], mad["steps_to_baseline"]) == (None, None, None)
    assert mad["diverged"] == mad["runs"] == 1
    assert "mad: every setting diverged" in str(found)


def test_where_the_baseline_diverges_there_is_nothing_to_reach(tmp_path):
    found = weft.race(
        linear, {"mad": "sgd(lr=1e30)", "sgd": "sgd"}, out=tmp_path, **{**QUICK, "lrs": 1}
    )
    assert [row["steps_to_baseline"] for row in found.rows] == [None, None]
    assert found.rows[1]["loss"] is not None
    assert "mad" in str(found)
    found.save()


def test_everyone_has_the_same_weights_and_batches(tmp_path, ran):
    found = weft.race(linear, ["sgd", "adam", "muon/adamw"], out=tmp_path, **QUICK)
    keep = Keep(tmp_path / "runs.jsonl")
    by_seed = {}
    for job in ran:
        by_seed.setdefault(job.seed, set()).add(keep[job.key].weights)
    assert [len(some) for some in by_seed.values()] == [1, 1, 1]
    assert len(set.union(*by_seed.values())) == 3
    assert {job.seed for job in ran} == {0, 1, 2}
    assert {o.name for o in found.outcomes} == {"sgd", "adam", "muon/adamw"}


def test_a_task_that_does_not_begin_alike_is_refused(tmp_path):
    counting = itertools.count()

    def drifting(seed):
        model, batches, loss = linear(seed)
        model.bias.data.fill_(next(counting))
        return model, batches, loss

    with pytest.raises(ValueError, match=r"drifting\(0\) does not begin alike"):
        weft.race(drifting, ["sgd"], out=tmp_path, **QUICK)


def test_steps_to_the_baselines_loss_are_of_runs_that_short(tmp_path, ran):
    who = {"slow": "sgd(lr=0.003)", "fast": "sgd(lr=0.1)"}
    rules = {**QUICK, "lrs": 1, "steps": 40, "horizons": (0.25, 0.5, 0.75, 1)}
    found = weft.race(linear, who, out=tmp_path, **rules)
    slow, fast = found.rows
    assert slow["steps_to_baseline"] == 40
    assert fast["steps_to_baseline"] == 10
    assert fast["steps_ratio"] == 0.25
    short = [j for j in ran if j.steps == 10 and j.contestant.name == "fast"]
    assert [j.seed for j in short] == [1, 2]
    keep = Keep(tmp_path / "runs.jsonl")
    assert max(keep[j.key].test for j in short) <= slow["loss"]
    assert fast["seconds_to_baseline"] == pytest.approx(sum(keep[j.key].seconds for j in short) / 2)
    other = weft.race(linear, who, baseline="fast", out=tmp_path, **rules)
    assert other.rows[0]["steps_to_baseline"] is None
    assert "not in 40" in str(other)


def test_schedules(tmp_path, ran):
    weft.race(linear, ["sgd", "schedulefreesgd"], out=tmp_path, schedule="linear", **QUICK)
    assert {(j.contestant.name, j.schedule) for j in ran} == {
        ("sgd", "linear"),
        ("schedulefreesgd", "constant"),
    }


def test_files(tmp_path):
    rules = {**QUICK, "tries": {"weight_decay": (0.0, 0.1), "warmup": (0.0, 0.1)}}
    found = weft.race(linear, ["sgd", "adamw"], out=tmp_path, **rules)
    paths = found.save()
    assert [p.name for p in paths] == ["race.json", "race.csv", "race.png"]
    assert paths[2].read_bytes()[:4] == b"\x89PNG"
    with paths[1].open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["optimizer"] for row in rows] == ["sgd", "adamw"]
    assert float(rows[0]["loss"]) == found.rows[0]["loss"]
    kept = json.loads(paths[0].read_text())
    assert kept["rules"]["tries"] == {"weight_decay": [0.0, 0.1], "warmup": [0.0, 0.1]}
    assert kept["baseline"] == "sgd"
    for entry in kept["optimizers"]:
        best = min(entry["search"], key=lambda tried: (tried["loss"] is None, tried["loss"]))
        assert entry["lr"] == best["lr"]
        assert len(entry["search"]) == 3 * 2 * 2 + entry["rates_added"]
        assert len(entry["finals"]) == 2
        assert f"weight_decay {best['weight_decay']}" in entry["others"]


def test_halving_says_how_long_each_setting_was_run(tmp_path, ran):
    found = weft.race(linear, ["sgd", "adam"], out=tmp_path, halving=True, **{**QUICK, "lrs": 4})
    for outcome, entry in zip(found.outcomes, found.as_dict()["optimizers"], strict=True):
        lengths = [tried["steps"] for tried in entry["search"]]
        assert sorted(lengths)[:4] == [3, 3, 6, 12]
        assert {3, 6, 12} == set(draw_lengths(outcome))
    searched = [j for j in ran if j.seed == 0]
    assert len(searched) == 2 * (4 + 2 + 1) + sum(row["rates_added"] for row in found.rows)
    assert "by successive halving" in str(found)
    found.save()


def draw_lengths(outcome):
    return [steps for steps, _ in draw._by_rate(outcome).values()]


def test_the_table_says_how_it_was_made(tmp_path):
    text = str(weft.race(linear, ["sgd", "adam"], out=tmp_path, **QUICK))
    assert "linear: 12 steps, median of 2 seeds" in text
    assert "3 rates a factor 10 apart around its own default" in text
    assert "cosine to zero" in text
    assert "shortest of runs of" in text
    assert " of " in text
    assert "one run at a time" in text


@pytest.mark.parametrize(
    ("rules", "error", "match"),
    [
        ({"sedes": 2}, TypeError, "did you mean 'seeds'"),
        ({"device": "xyz"}, ValueError, "device 'xyz' cannot be used"),
        ({"baseline": "adm"}, ValueError, "did you mean 'adam'"),
        ({"tries": {"wd": (1,)}}, ValueError, "nobody has a hyper 'wd'"),
    ],
)
def test_rules_that_are_wrong(tmp_path, ran, rules, error, match):
    with pytest.raises(error, match=match):
        weft.race(linear, ["adam"], out=tmp_path, **{**QUICK, **rules})
    assert not ran


def test_progress_says_what_is_left(tmp_path, capsys):
    weft.race(linear, ["sgd", "adam"], out=tmp_path, progress=True, **QUICK)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "search: 6 runs"
    assert any(line.startswith("seeds at the best: 4 runs, about ") for line in lines)


def test_a_lambda_needs_this_process(tmp_path):
    who = {"mine": lambda params, lr=0.1: torch.optim.SGD(params, lr=lr)}
    with pytest.raises(ValueError, match=r"mine on linear cannot be sent.*workers=1"):
        weft.race(linear, who, out=tmp_path, **{**QUICK, "workers": 2})
    assert weft.race(linear, who, out=tmp_path, **QUICK).rows[0]["lr"]
