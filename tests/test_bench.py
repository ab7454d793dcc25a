"""The benchmark measures what it says, on the smallest shapes."""

import json
import os

from weft.bench import child, measure, report, rivals, suite
from weft.bench.shapes import tiny


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


def test_a_first_step_in_a_process_of_its_own(tmp_path):
    env = {**os.environ, "WEFT_CACHE_DIR": str(tmp_path)}
    took = child.ask(env, kind="first_step", name="SGD", parameters=3, distinct=2)
    assert took["first"] > took["second"] > 0
    assert list(tmp_path.rglob("*.so"))
