"""ignite: supervised trainers, its schedulers of any hyper, its checkpoints, its finder."""

import pytest
import torch
from torch import nn

import weft

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Run completed without loss diverging"),
]
ignite = pytest.importorskip(
    "ignite", reason="pytorch-ignite is not installed: weft-optim[clients]"
)


def batches():
    g = torch.Generator().manual_seed(0)
    xs = torch.randn(12, 16, 8, generator=g)
    return [(x, x.sum(1, keepdim=True).sign()) for x in xs]


def run(opt_func, seed=0):
    from ignite.engine import create_supervised_trainer

    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    opt = opt_func(model.parameters())
    return model, opt, create_supervised_trainer(model, opt, nn.functional.mse_loss)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_trains_as_torchs_own_does(accumulate):
    from ignite.engine import create_supervised_trainer

    models = []
    for cls in (weft.AdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        model = nn.Linear(8, 1)
        opt = cls(model.parameters(), lr=0.01)
        create_supervised_trainer(
            model, opt, nn.functional.mse_loss, gradient_accumulation_steps=accumulate
        ).run(batches(), max_epochs=3)
        models.append(list(model.parameters()))
    torch.testing.assert_close(*models, rtol=1e-4, atol=1e-5)


def test_its_schedulers_write_any_hyper():
    from ignite.engine import Events
    from ignite.handlers import LinearCyclicalScheduler, LRScheduler, PiecewiseLinear

    def chain(p, update, lr, temperature=1.0):
        return {"p": p - lr * temperature * update}

    model, opt, trainer = run(weft.chain(chain, lr=0.1))
    trainer.add_event_handler(
        Events.ITERATION_STARTED, PiecewiseLinear(opt, "temperature", [(0, 1.0), (24, 0.0)])
    )
    trainer.run(batches(), max_epochs=2)
    assert 0 < opt.param_groups[0]["temperature"] < 0.1
    before = [p.clone() for p in model.parameters()]
    opt.param_groups[0]["temperature"] = 0.0
    opt.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    LinearCyclicalScheduler(opt, "lr", 0.1, 0.0, 10)
    LRScheduler(torch.optim.lr_scheduler.ExponentialLR(opt, 0.9))


def test_its_checkpoints_resume_exactly(tmp_path, engine):
    from ignite.handlers import Checkpoint, DiskSaver

    def make(p):
        return weft.create("adamw+lookahead(k=4)", p, lr=0.01)

    model, opt, trainer = run(make)
    trainer.run(batches(), max_epochs=2)
    parts = {"model": model, "opt": opt}
    save = Checkpoint(parts, DiskSaver(tmp_path, require_empty=False))
    save(trainer)
    trainer.run(batches(), max_epochs=4)
    again, opt2, trainer2 = run(make, seed=1)
    (path,) = tmp_path.glob("*.pt")
    Checkpoint.load_objects({"model": again, "opt": opt2}, torch.load(path, weights_only=True))
    trainer2.run(batches(), max_epochs=2)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_its_finder_restores_the_optimizer():
    from ignite.handlers import FastaiLRFinder

    model, opt, trainer = run(weft.AdamW)
    before = [p.detach().clone() for p in model.parameters()]
    finder = FastaiLRFinder()
    with finder.attach(trainer, {"model": model, "optimizer": opt}, end_lr=1.0, num_iter=10) as t:
        t.run(batches())
    assert len(finder.get_results()["lr"]) >= 10
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert opt.param_groups[0]["lr"] == 1e-3
