"""The commands, as a user meets them."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import weft
from learner.idx_files import write_digits
from weft.cli.main import app


@pytest.fixture
def weft_command(monkeypatch, tmp_path):
    """Run a command in an empty folder; a wide, plain terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEFT_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *args: CliRunner().invoke(app, args)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "digits"
    path.mkdir()
    write_digits(path, n_train=640, n_test=64, zipped=True)
    return path


NAMES = ["plain SGD", "SGD with momentum", "Adam", "Adam, agreeing"]


def test_train_prints_grids_a_table_and_where_the_picture_is(weft_command, folder, tmp_path):
    result = weft_command("train", "--quick", "--data", str(folder), "--out", "pictures/a.png")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    for name in NAMES:
        grid = next(line for line in lines if line.startswith(f"{name}:"))
        assert 3 <= grid.count(" at lr ") <= 6
        assert any(f" {name} " in line and "%" in line for line in lines)
    assert "picture: pictures/a.png" in result.output
    assert (tmp_path / "pictures/a.png").read_bytes()[:4] == b"\x89PNG"
    assert "Traceback" not in result.output
    assert "deprecated" not in result.output


def test_train_as_json_is_nothing_but_json(weft_command, folder):
    result = weft_command("train", "--quick", "--data", str(folder), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [entry["name"] for entry in found["optimizers"]] == NAMES
    assert found["train_rows"] == 640
    assert found["held_out_rows"] == 64
    for entry in found["optimizers"]:
        best = min(entry["grid"], key=lambda tried: tried["loss"])
        assert entry["lr"] == best["lr"]
        rates = [tried["lr"] for tried in entry["grid"]]
        assert rates == sorted(rates)
        assert rates[0] < entry["lr"] < rates[-1] or len(rates) == 6  # no winner at an edge
        assert entry["runs"][0]["valid_loss"] == entry["valid_loss"]
    assert max(entry["accuracy"] for entry in found["optimizers"]) > 0.5  # of ten easy patterns


def test_the_folder_may_come_from_the_environment(weft_command, monkeypatch, tmp_path):
    monkeypatch.setenv("WEFT_DATA", str(tmp_path / "nowhere"))
    result = weft_command("train", "--quick")
    assert result.exit_code == 1
    assert "nowhere: no such folder" in result.stderr


def test_a_damaged_file_is_named_without_a_traceback(weft_command, folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:5000])
    result = weft_command("train", "--data", str(folder))
    assert result.exit_code == 1
    assert result.stderr.startswith("weft: ")
    assert "train-images-idx3-ubyte.gz: truncated" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_picture_that_cannot_be_written_is_found_before_the_training(weft_command, folder):
    result = weft_command("train", "--data", str(folder), "--out", str(folder))
    assert result.exit_code == 1
    assert "is a folder" in result.stderr
    blocked = folder / "t10k-labels-idx1-ubyte.gz" / "a.png"
    result = weft_command("train", "--data", str(folder), "--out", str(blocked))
    assert result.exit_code == 1
    assert "cannot make" in result.stderr


def test_a_missing_package_is_named_before_the_training(weft_command, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = weft_command("train", "--data", str(folder))
    assert result.exit_code == 1
    assert "pip install weft-optim[demo]" in result.stderr


@pytest.mark.parametrize("option", [("--epochs", "0"), ("--seeds", "0"), ("--epoch", "1")])
def test_options_that_make_no_sense(weft_command, option):
    assert weft_command("train", *option).exit_code == 2


def test_the_figures_do_not_depend_on_how_many_run_at_a_time(weft_command, folder):
    figures = []
    for workers in ("1", "3"):
        args = ("train", "--quick", "--json", "--data", str(folder), "--workers", workers)
        found = json.loads(weft_command(*args).stdout)["optimizers"]
        figures.append([(e["name"], e["lr"], e["grid"], e["valid_loss"]) for e in found])
    assert figures[0] == figures[1]


def test_ctrl_c_ends_the_whole_job(weft_command, folder, monkeypatch):
    from weft.learner import Learner

    started = []

    def interrupted(self, *args, **kwargs):
        started.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "fit_one_cycle", interrupted)
    result = weft_command("train", "--quick", "--workers", "1", "--data", str(folder))
    assert result.exit_code == 130
    assert len(started) < 12
    assert "interrupted" in result.stderr


def test_list(weft_command):
    result = weft_command("list")
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.output.splitlines() if line.strip()]
    assert {"adamw", "sgd", "lion", "lamb"} <= set(names)
    filtered = weft_command("list", "adam*").output
    assert "adamw" in filtered
    assert "lamb" not in filtered
    nothing = weft_command("list", "nothing*")
    assert nothing.exit_code == 1
    assert "nothing*" in nothing.stderr


def test_list_finds_what_may_follow_a_plus(weft_command):
    output = weft_command("list", "*sam*").output
    assert "wrappers, after a plus" in output
    assert {"sam", "looksam"} <= {line.split()[0] for line in output.splitlines() if line.strip()}
    assert "callbacks, after a plus" in weft_command("list", "cautious").output
    slip = weft_command("list", "samm")
    assert slip.exit_code == 1
    assert "did you mean 'sam'" in slip.stderr
    assert "cautious" not in weft_command("list", "--block", "newton_schulz").output


@pytest.mark.parametrize("args", [("list",), ("explain", "adafactor"), ("explain", "soap+sam")])
def test_tables_fit_eighty_columns(weft_command, monkeypatch, args):
    monkeypatch.setenv("COLUMNS", "80")
    lines = weft_command(*args).output.splitlines()
    assert max(map(len, lines)) <= 80


def test_explain_of_what_follows_a_plus(weft_command):
    wrapper = weft_command("explain", "sam")
    assert wrapper.exit_code == 0, wrapper.output
    assert "rho=0.05" in wrapper.output
    assert "arXiv:2010.01412" in wrapper.output
    block = json.loads(weft_command("explain", "ema", "--json").stdout)
    assert block["options"] == {"betas": [0.9, 0.999]}
    assert block["facts"]["keeps"] == "exp_avg"
    wrong = weft_command("explain", "lookahed")
    assert wrong.exit_code == 1
    assert "did you mean 'lookahead'" in wrong.stderr
    assert "follows an optimizer" in weft_command("explain", "sam+adamw").stderr


def test_version(weft_command):
    assert weft.__version__ in weft_command("--version").output
    command = [sys.executable, "-m", "weft", "--version"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert weft.__version__ in out.stdout


def test_explain(weft_command):
    result = weft_command("explain", "adamw")
    assert result.exit_code == 0, result.output
    assert "descend" in result.output
    assert "\nphases:\n  1. pass over exp_avg, exp_avg_sq, grad, p" in result.output
    wrong = weft_command("explain", "adamv")
    assert wrong.exit_code == 1
    assert "did you mean 'adam" in wrong.stderr


@pytest.mark.parametrize("name", ["adahessian", "sophia", "sgd+sam", "muon", "alig"])
def test_explain_gives_a_closure_or_a_loss_to_what_wants_one(weft_command, name):
    result = weft_command("explain", name, "--kernel")
    assert result.exit_code == 0, result.output
    assert "static void chunk_0" in result.output
    assert "runs eagerly" not in result.output


@pytest.mark.slow
@pytest.mark.parametrize("name", weft.list_optimizers())
def test_every_optimizer_is_explained(weft_command, name):
    result = weft_command("explain", name, "--kernel")
    assert result.exit_code == 0, result.output
    assert "?: not traced" not in result.output
    assert "runs eagerly" not in result.output


def test_explain_as_json_is_nothing_but_json(weft_command):
    result = weft_command("explain", "cautiousadamw+lookahead(k=5)", "--json", "--kernel")
    found = json.loads(result.stdout)
    assert "exp_avg_sq" in found["kernel_source"]
    (row,) = [row for row in found["callbacks"] if row["callback"] == "cautious"]
    assert "over the parameter" in row["reduces"]
    assert found["wrappers"][0][0] == "Lookahead(k=5, alpha=0.5)"
    assert "kernel_source" not in json.loads(weft_command("explain", "sgd", "--json").stdout)


@pytest.mark.parametrize("command", ["train", "list", "explain"])
def test_help_teaches_with_examples(weft_command, command):
    overview = weft_command("--help").output
    assert command in overview
    own = weft_command(command, "--help").output
    assert f"weft {command}" in own


TASK = """
import torch

def task(seed):
    x = torch.randn(40, 3)
    rows = [(x, x.sum(1, keepdim=True))]
    return torch.nn.Linear(3, 1), (rows, rows), torch.nn.functional.mse_loss

task.steps = 6
"""


def test_race_prints_a_table_and_writes_files(weft_command, tmp_path):
    (tmp_path / "my.py").write_text(TASK)
    command = ("race", "sgd", "fast=adam(lr=0.1)", "--task", "my.py:task", "--workers", "1")
    command += ("--seeds", "1", "--lrs", "3", "--try", "weight_decay=0,0.1", "--out", "found")
    result = weft_command(*command)
    assert result.exit_code == 0, result.output
    assert "search: 12 runs" in result.output
    for head in ("best lr", "steps to", "sgd's: the shortest of runs", "diverged"):
        assert head in result.output
    assert "written: found/race.json" in result.output.replace("\n", " ")
    assert {p.name for p in (tmp_path / "found").iterdir()} == {
        "runs.jsonl", "race.json", "race.csv", "race.png",
    }  # fmt: skip
    again = weft_command(*command, "--json")
    assert again.exit_code == 0, again.output
    assert "runs" not in again.stderr.replace("runs.jsonl", "")  # all of it was there
    names = [entry["optimizer"] for entry in json.loads(again.stdout)["optimizers"]]
    assert names == ["sgd", "fast"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sgd", "--task", "digit"], "no task is called 'digit' (did you mean 'digits'?)"),
        (["sgd", "--task", "none.py:task"], "no such file"),
        (["sgd", "sophia", "--task", "my.py:task"], "sophia evaluates the gradient itself"),
        (["sgd", "--task", "my.py:task", "--try", "wd"], "--try wd: name a hyper"),
        (["sgd", "--task", "my.py:task", "--schedule", "cos"], "no schedule is called 'cos'"),
    ],
)
def test_race_says_what_is_wrong_on_one_line(weft_command, tmp_path, arguments, words):
    (tmp_path / "my.py").write_text(TASK)
    result = weft_command("race", *arguments, "--workers", "1")
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Traceback" not in result.output
