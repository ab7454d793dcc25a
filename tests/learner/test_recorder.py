"""What is kept of a training, drawn and written; what is shown while it runs."""

import csv
import sys

import pytest
import torch

import weft
from weft.learner.smoothing import smooth


def test_one_record_a_batch_and_a_row_an_epoch(make):
    learn = make()
    learn.fit_one_cycle(2, 0.01)
    recorder = learn.recorder
    assert len(recorder.losses) == len(recorder.lrs) == len(recorder.moms) == 12
    assert [row["epoch"] for row in recorder.metrics] == [0, 1]
    assert [end for end, _ in recorder.valid_losses] == [6, 12]
    assert recorder.metrics[-1]["valid_loss"] == learn.validate()["valid_loss"]
    recorder.clear()
    assert recorder.losses == recorder.metrics == []


def test_smooth_is_unbiased_and_ends_near_the_recent():
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    assert smooth([0.0] * 50 + [1.0] * 50)[-1] == pytest.approx(1, abs=0.01)


def test_csv_has_every_batch_and_the_metrics_where_an_epoch_ends(make, tmp_path):
    learn = make(weft.SGD)
    learn.fit(2, 0.01)
    path = learn.recorder.to_csv(tmp_path / "history.csv")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == learn.recorder.losses
    assert [row["batch"] for row in rows] == [str(i) for i in range(6)] * 2
    ends = [i for i, row in enumerate(rows) if row["valid_loss"]]
    assert ends == [5, 11]
    assert float(rows[11]["accuracy"]) == learn.recorder.metrics[1]["accuracy"]
    assert {row["mom"] for row in rows} == {""}  # plain SGD


@pytest.mark.parametrize("opt_func", [weft.SGD, weft.Adam])
def test_plot(make, tmp_path, opt_func):
    learn = make(opt_func)
    learn.fit_one_cycle(2, 0.01)
    path = tmp_path / "new" / "history.png"
    figure = learn.recorder.plot(path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    loss, rate, momentum = figure.axes
    assert list(rate.lines[0].get_ydata()) == learn.recorder.lrs
    assert list(loss.lines[-1].get_ydata()) == [loss for _, loss in learn.recorder.valid_losses]
    assert len(momentum.lines) == (0 if opt_func is weft.SGD else 1)


@pytest.mark.parametrize("package", ["matplotlib", "rich"])
def test_a_missing_package_is_named_with_its_extra(make, monkeypatch, package):
    learn = make()
    learn.fit(1)
    for name in list(sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    learn.progress = True
    use = learn.fit if package == "rich" else learn.recorder.plot
    with pytest.raises(ImportError, match=rf"{package}.* pip install weft-optim\[learner\]"):
        use(1)
    learn.progress = None
    learn.fit(1)  # training itself needs neither


def test_silent_in_a_pipe_and_lines_where_asked_for(make, capsys):
    make(progress=None).fit(2)
    assert capsys.readouterr().out == ""
    make(progress=True).fit(2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["epoch", "train_loss", "valid_loss", "accuracy", "seconds"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1"]
    assert not any("\x1b" in line for line in lines)


def test_a_bar_on_a_terminal_goes_away_and_leaves_the_lines(make, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    learn = make()
    learn.progress = None
    learn.fit(1)
    out = capsys.readouterr().out
    assert "epoch 1/1" in out
    assert "train_loss" in out


def test_the_bar_is_stopped_when_training_fails(make, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    learn = make()
    learn.progress = None
    learn.loss_func = lambda pred, y: pred.sum() * torch.nan
    for _ in range(2):  # a bar that still ran would forbid the second
        with pytest.raises(weft.learner.NonFiniteLoss):
            learn.fit(1)
