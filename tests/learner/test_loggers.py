"""What loggers write: as it happens, for other tools to read."""

import csv
import math
import sys

import pytest

import weft
from weft.learner import CSVLogger, TensorBoardLogger


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_batches_and_epochs(make, tmp_path):
    log = CSVLogger(tmp_path / "logs" / "run.csv")
    learn = make(cbs=[log])
    learn.fit(2, 0.01)
    rows = rows_of(log.path)
    batches = [r for r in rows if r["loss"]]
    epochs = [r for r in rows if r["valid_loss"]]
    assert [float(r["loss"]) for r in batches] == learn.recorder.losses
    assert [int(r["step"]) for r in batches] == list(range(1, 13))
    assert [int(r["step"]) for r in epochs] == [6, 12]
    assert float(epochs[1]["accuracy"]) == learn.recorder.metrics[1]["accuracy"]
    assert "grad_norm" not in rows[0]


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_norms_where_they_are_collected(make, tmp_path, engine):
    log = CSVLogger(tmp_path / "run.csv", per_parameter=True)
    learn = make(lambda params, lr: weft.AdamW(params, lr, engine=engine), cbs=[log])
    learn.opt.collect_stats()
    learn.fit(1, 0.01)
    last = [r for r in rows_of(log.path) if r["loss"]][-1]
    stats = learn.opt.stats()
    for name, value in stats["global"].items():
        assert float(last[name]) == value
        assert learn.recorder.norms[name][-1] == value
    key = next(iter(stats))
    assert float(last[f"update_norm/{key}"]) == stats[key]["update_norm"]
    figure = learn.recorder.plot(tmp_path / "plot.png")
    assert [line.get_label() for line in figure.axes[-1].lines] == [
        "param norm",
        "grad norm",
        "update norm",
    ]
    assert "update_norm" in rows_of(learn.recorder.to_csv(tmp_path / "all.csv"))[0]


def test_csv_is_gone_on_with(make, tmp_path):
    path = tmp_path / "run.csv"
    make(cbs=[CSVLogger(path)]).fit(1, 0.01)
    make(cbs=[CSVLogger(path)]).fit(1, 0.01)
    assert [int(r["step"]) for r in rows_of(path) if r["loss"]] == list(range(1, 13))


def test_nothing_of_norms_without_collecting(make):
    learn = make()
    learn.fit(1, 0.01)
    assert learn.recorder.norms == {}
    assert math.isnan(learn.recorder.batches[0].grad_norm)


def test_torch_optimizers_are_logged_too(make, tmp_path):
    import torch

    log = CSVLogger(tmp_path / "run.csv")
    make(torch.optim.SGD, cbs=[log]).fit(1, 0.01)
    assert len(rows_of(log.path)) == 7


def test_tensorboard(make, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TensorBoardLogger(tmp_path / "events")
    learn = make(cbs=[log])
    learn.opt.collect_stats()
    learn.fit(1, 0.01)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    losses = events.Scalars("loss")
    assert [e.step for e in losses] == list(range(1, 7))
    assert [e.value for e in losses] == pytest.approx(learn.recorder.losses)
    assert {"lr", "grad_norm", "update_norm", "valid_loss", "accuracy"} <= set(
        events.Tags()["scalars"]
    )


def test_tensorboard_that_is_missing_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install weft-optim\[tensorboard\]"):
        TensorBoardLogger(tmp_path)
