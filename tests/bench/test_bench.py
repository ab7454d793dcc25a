"""The benchmark measures what it says, on the smallest shapes."""

import json
import math
import operator
import os
from types import SimpleNamespace

import pytest

from weft.bench import child, measure, ranks, report, rivals, suite
from weft.bench.shapes import tiny

Figure = pytest.importorskip("matplotlib.figure").Figure


def test_sides_take_turns():
    order = []
    result = measure.race(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.0, (3, 3)
    )
    assert order[4:] == ["a", "b"] * 3  # after the warm-up
    assert len(result.times["a"]) == len(result.times["b"]) == 3


def test_every_row_that_has_a_target_can_run():
    for case in rivals.PUBLIC:
        for make in rivals.installed(case).values():
            make(measure.parameters([(4, 3), (5,)])).step()
        rivals.ours(case.name)(measure.parameters([(4, 3), (5,)])).step()
    for name in rivals.TORCH:
        for make in rivals.torch_rivals(name, compiled=False).values():
            make(measure.parameters(tiny()[:2])).step()


def test_verdicts_and_figures():
    row = suite.Row("torch", "AdamW", 0.5, "x", 0.3)
    assert row.met is False
    assert json.loads(json.dumps(row.as_dict()))["met"] is False
    assert suite.Row("host", "x", 0.5, "x").met is None
    assert report.table([row]).row_count == 1
    nothing = suite.Row("public", "x", None, "x", 0.2)
    assert nothing.met is None
    assert report.shown(nothing.value, nothing.unit) == "-"


def test_the_picture_has_every_row(tmp_path):
    rows = [
        suite.Row("torch", "a", 0.5, "x", 0.3),
        suite.Row("price", "b", 1.5, "x"),
        suite.Row("first step", "c", 0.5, "s", 1.2),
        suite.Row("machine", "d", 2e10, "B/s"),
        suite.Row("public", "e", None, "x", 0.2),
    ]
    drawn = []

    class Kept(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn.append(self)

    report.draw(rows, SimpleNamespace(Figure=Kept), tmp_path / "out.png")
    names = [t.get_text() for ax in drawn[0].axes for t in ax.get_yticklabels()]
    assert sorted(names) == [r.name for r in rows]
    assert (tmp_path / "out.png").stat().st_size


def test_hypers_all_move_and_nothing_is_built_for_it():
    opt = rivals.ours("AdamW")(measure.parameters([(4, 3)]))
    step = suite._writing(opt, 0.1)
    seen = []
    for _ in range(4):
        step()
        group = opt.param_groups[0]
        seen.append((group["lr"], *group["betas"], group["eps"], group["weight_decay"]))
    assert all(len(set(column)) == 4 for column in zip(*seen, strict=True))
    assert opt.explain().builds == 1


def test_writing_without_a_change_leaves_the_same_objects():
    opt = rivals.ours("AdamW")(measure.parameters([(4, 3)]))
    before = list(opt.param_groups[0].values())
    suite._writing(opt, 0.0)()
    assert all(map(operator.is_, before, opt.param_groups[0].values()))


def test_the_rivals_are_others():
    for case in rivals.PUBLIC:
        assert not any(module.startswith("weft") for module, *_ in case.rivals)


def test_a_first_step_in_a_process_of_its_own(tmp_path):
    env = {**os.environ, "WEFT_CACHE_DIR": str(tmp_path)}
    took = child.ask(env, kind="first_step", name="SGD", parameters=3, distinct=2)
    assert took["first"] > took["second"] > 0
    assert list(tmp_path.rglob("*.so"))


@pytest.mark.processes
@pytest.mark.slow
def test_ranks_are_counted():
    """Collectives do not depend on how many tensors there are; all steps begin with one."""
    found = {(c.optimizer, c.shapes): c for c in ranks.costs(2, quick=True)}
    assert {k[0]: c.collectives for k, c in found.items() if k[1] == "many"} == {
        "adamw": 1, "adamw, clip": 2, "lamb": 2, "adafactor": 2, "muon": 1,
        **dict.fromkeys(ranks.TORCHS),
    }  # fmt: skip
    assert found["lamb", "tiny"].collectives == 2
    assert found["muon", "tiny"].collectives == 4
    matrices = 4 * sum(math.prod(s) for s in tiny() if len(s) == 2)
    assert found["adamw", "tiny"].sent == 16
    assert matrices // 2 <= found["muon", "tiny"].sent <= matrices
    assert all(c.seconds > 0 and c.alone > 0 for c in found.values())
