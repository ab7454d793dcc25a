"""Checkpoints: whole or not there, exact, and never executed."""

import os
import pickle
import random
import signal
import time

import pytest
import torch

import weft

ENDINGS = ["pt", "safetensors"]


def job(seed=0, optimizer="AdamW", **hypers):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2))
    opt = getattr(weft, optimizer)(model.parameters(), lr=0.01, **hypers)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.05, total_steps=70)
    return model, opt, sched


def train(model, opt, sched, steps):
    for _ in range(steps):
        x = torch.randn(16, 4)
        opt.zero_grad()
        (model(x) - x[:, :2]).square().mean().backward()
        opt.step()
        sched.step()


@pytest.mark.parametrize("ending", ENDINGS)
def test_resume_is_exact(tmp_path, ending):
    model, opt, sched = job()
    train(model, opt, sched, 30)
    path = weft.save_checkpoint(
        tmp_path / f"a.{ending}",
        model=model,
        optimizer=opt,
        scheduler=sched,
        extra={"at": (30, "x")},
    )
    train(model, opt, sched, 30)
    again, opt2, sched2 = job(seed=5)
    extra = weft.load_checkpoint(path, model=again, optimizer=opt2, scheduler=sched2)
    assert extra == {"at": (30, "x")}
    train(again, opt2, sched2, 30)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
        for name, value in opt.state[a].items():
            assert torch.equal(value, opt2.state[b][name])
    assert opt.param_groups[0]["lr"] == opt2.param_groups[0]["lr"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_last_few_are_kept(tmp_path, ending):
    model, opt, _ = job()
    path = tmp_path / f"last.{ending}"
    for i in range(5):
        weft.save_checkpoint(path, model=model, optimizer=opt, extra=i, keep=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        path.name,
        f"{path.name}.1",
        f"{path.name}.2",
    ]
    assert weft.load_checkpoint(path) == 4
    older = path.with_name(f"{path.name}.2")
    assert weft.load_checkpoint(older) == 2


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child while it writes")
@pytest.mark.parametrize("ending", ENDINGS)
def test_killed_while_saving_the_last_complete_one_loads(tmp_path, ending):
    path = tmp_path / f"last.{ending}"
    model, opt, _ = job()
    weft.save_checkpoint(path, model=model, optimizer=opt, extra=-1, keep=2)
    seen = -1
    rng = random.Random(0)
    for _ in range(20):
        child = os.fork()
        if child == 0:  # no torch operators here: a forked child must not use torch's threads
            n = seen
            while True:
                n += 1
                weft.save_checkpoint(path, model=model, optimizer=opt, extra=n, keep=2)
        time.sleep(rng.uniform(0.005, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        extra = weft.load_checkpoint(path, model=model, optimizer=opt)
        assert extra >= seen
        seen = extra
    assert seen > 4


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_truncated_file_is_named_and_changes_nothing(tmp_path, ending):
    model, opt, sched = job()
    path = weft.save_checkpoint(tmp_path / f"a.{ending}", model=model, optimizer=opt)
    data = path.read_bytes()
    before = [p.detach().clone() for p in model.parameters()]
    for cut in (0, 10, len(data) // 2, len(data) - 3):
        path.write_bytes(data[:cut])
        with pytest.raises(weft.StateError, match=path.name):
            weft.load_checkpoint(path, model=model, optimizer=opt)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    train(model, opt, sched, 1)


class Evil:
    def __reduce__(self):
        return os.mkdir, (str(EVIL_PATH),)


EVIL_PATH = None


def test_code_in_a_pickle_is_not_executed(tmp_path):
    global EVIL_PATH
    EVIL_PATH = tmp_path / "executed"
    path = tmp_path / "evil.pt"
    torch.save({"model": {}, "optimizer": Evil(), "rng": torch.get_rng_state()}, path)
    _, opt, _ = job()
    with pytest.raises(weft.StateError, match="cannot be read"):
        weft.load_checkpoint(path, optimizer=opt)
    assert not EVIL_PATH.exists()
    pickle.loads(pickle.dumps(Evil()))  # the payload itself does work
    assert EVIL_PATH.exists()


def test_another_model_changes_nothing(tmp_path):
    model, opt, _ = job()
    path = weft.save_checkpoint(tmp_path / "a.pt", model=model, optimizer=opt)
    other = torch.nn.Linear(4, 3)
    opt2 = weft.AdamW(other.parameters())
    with pytest.raises(weft.StateError, match="another model"):
        weft.load_checkpoint(path, model=other, optimizer=opt2)
    assert not opt2.state


def test_a_missing_part_is_named(tmp_path):
    model, opt, _ = job()
    path = weft.save_checkpoint(tmp_path / "a.pt", model=model)
    with pytest.raises(weft.StateError, match="no 'optimizer'"):
        weft.load_checkpoint(path, model=model, optimizer=opt)


def test_a_full_disk_leaves_the_last_one(tmp_path, monkeypatch):
    model, opt, _ = job()
    path = weft.save_checkpoint(tmp_path / "a.pt", model=model, optimizer=opt, extra=1)

    def no_room(content, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_room)
    with pytest.raises(OSError, match="No space"):
        weft.save_checkpoint(path, model=model, optimizer=opt, extra=2)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert weft.load_checkpoint(path, model=model, optimizer=opt) == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_layout_of_a_state_in_memory_comes_back(tmp_path, ending):
    p = torch.nn.Parameter(torch.randn(2, 3, 4, 5))
    opt = weft.AdamW([p])
    layouts = [
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(5, 4, 3, 2).permute(3, 2, 1, 0),
    ]
    p.grad = torch.ones_like(p)
    opt.step()
    opt.state[p]["exp_avg"], opt.state[p]["exp_avg_sq"] = layouts
    path = weft.save_checkpoint(tmp_path / f"a.{ending}", optimizer=opt)
    weft.load_checkpoint(path, optimizer=opt)
    for name, was in zip(["exp_avg", "exp_avg_sq"], layouts, strict=True):
        assert torch.equal(opt.state[p][name], was)
        assert opt.state[p][name].stride() == was.stride()
