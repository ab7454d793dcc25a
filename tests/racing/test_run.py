"""One run, against the same training written out by hand."""

import copy
import functools
import math
import random
import subprocess
import sys

import numpy
import pytest
import torch
from torch.nn.functional import mse_loss

import weft
from weft.learner import in_memory
from weft.racing.contestants import Contestant, contestants
from weft.racing.named import digest
from weft.racing.run import Job, run
from weft.racing.search import Setting
from weft.racing.tasks import as_task

DRAWS = weft.list_optimizers("psgd*")[0]  # random numbers, when it steps


def rows(n, seed=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    return x, x.sum(1, keepdim=True)


def task(seed):
    """A net with dropout; 5 batches an epoch, the last a smaller one."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
    x, y = rows(36)
    dls = in_memory((x[:22], y[:22]), (x[22:30], y[22:30]), batch_size=5, seed=seed)
    return model, (*dls, [(x[30:], y[30:])]), mse_loss


def job(given, lr, **more):
    return Job(as_task(task), Contestant("c", given), Setting(lr, 0.25), 1, 8, **more)


def rate(step, schedule, steps=8, warmup=0.25):
    at = (step + 0.5) / steps
    if at < warmup:
        return at / warmup
    at = (at - warmup) / (1 - warmup)
    return {"cosine": (1 + math.cos(math.pi * at)) / 2, "linear": 1 - at, "constant": 1.0}[schedule]


def by_hand(make, lr, schedule):
    torch.manual_seed(1)
    model, (train, valid, test), loss = task(1)
    opt = make(model.parameters(), lr=lr)
    torch.manual_seed(1)
    loss_of = lambda net, batches: [
        loss(net(x), y).item() for net in [copy.deepcopy(net).eval()] for x, y in batches
    ]
    start = loss_of(model, valid)
    batches = [batch for _ in range(2) for batch in train][:8]
    for step, (x, y) in enumerate(batches):
        for group in opt.param_groups:
            group["lr"] = lr * rate(step, schedule)
        opt.zero_grad()
        loss(model(x), y).backward()
        opt.step()
    if hasattr(opt, "eval"):
        opt.eval()
    return start[0], loss_of(model, valid)[0], loss_of(model, test)[0]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("make", [torch.optim.AdamW, weft.AdamW, weft.ScheduleFreeAdamW])
def test_a_run_is_the_training_written_out(make, schedule):
    record = run(job(make, 0.05, schedule=schedule, points=3))
    start, valid, test = by_hand(make, 0.05, schedule)
    assert record.start == pytest.approx(start, rel=1e-6)
    assert record.valid == pytest.approx(valid, rel=1e-5)
    assert record.test == pytest.approx(test, rel=1e-5)
    assert [step for step, *_ in record.curve] == [3, 5, 8]
    assert record.curve[-1][2] == record.valid
    assert not record.diverged
    assert record.seconds > 0


def test_a_run_is_a_function_of_its_job_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    first = run(job("adamw", 0.05))
    torch.manual_seed(6)
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    again = run(job("adamw", 0.05))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), numpy.random.get_state()[1].tolist())
    assert (first.valid, first.test, first.curve) == (again.valid, again.test, again.curve)


def test_a_task_that_draws_from_any_generator_begins_alike():
    def drawing(seed):
        rows = [(torch.rand(2, 3), torch.tensor([[random.random()], [numpy.random.rand()]]))]
        return torch.nn.Linear(3, 1), (rows, rows), lambda p, y: mse_loss(p, y.float())

    records = [
        run(Job(as_task(drawing), Contestant("c", "sgd"), Setting(0.1), s, 2)) for s in (4, 4, 5)
    ]
    assert records[0].weights == records[1].weights != records[2].weights


def test_everyone_starts_alike_and_seeds_differ():
    weights = {given: run(job(given, 0.01)).weights for given in ("adamw", "sgd", DRAWS)}
    assert len(set(weights.values())) == 1
    other = run(Job(as_task(task), Contestant("c", "sgd"), Setting(0.01), 2, 8))
    assert other.weights not in weights.values()


@pytest.mark.parametrize("lr", [1e3, 1e38])
def test_a_run_that_diverges(lr):
    record = run(job("sgd", lr))
    assert record.diverged
    assert record.score == math.inf
    assert record.test is None


def test_a_run_that_ends_worse_than_it_began_has_diverged():
    def upwards(p, grad, lr):
        return {"p": p + lr * grad}

    record = run(job(weft.chain(upwards, lr=0.01), 0.01))
    assert record.valid > record.start
    assert record.diverged


@pytest.mark.parametrize("at", [0, 5])
def test_a_matrix_that_cannot_be_decomposed_is_divergence(at):
    def failing(step, update):
        if step > at:
            torch.linalg.cholesky(-torch.eye(2))

    chain = weft.chain(failing, weft.callbacks.descend, lr=0.01)
    record = run(job(chain, 0.01))
    assert record.diverged
    assert record.test is None


def test_hypers_of_a_setting_reach_the_optimizer():
    found = []

    def make(params, lr, **hypers):
        found.append(hypers)
        return torch.optim.SGD(params, lr=lr, **hypers)

    setting = Setting(0.01, 0.0, (("momentum", 0.5),))
    run(Job(as_task(task), Contestant("c", make), setting, 1, 2))
    assert found == [{"momentum": 0.5}]


def test_a_key_tells_runs_apart():
    one = job("adamw", 0.05)
    assert one.key == job("adamw", 0.05).key
    others = [
        job("adamw", 0.06),
        job("adam", 0.05),
        job("adamw", 0.05, schedule="linear"),
        job("adamw", 0.05, points=3),
    ]
    others += [
        job(weft.chain(weft.callbacks.descend, lr=0.1), 0.05),
        job(weft.chain(weft.callbacks.descend, lr=0.2), 0.05),
    ]
    assert len({j.key for j in [one, *others]}) == len(others) + 1


def scaled(by):
    def scale(update):
        return {"update": update * by}

    return scale


def halve(update, factor=0.5):
    return {"update": update * factor}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (weft.Lookahead(k=5), weft.Lookahead(k=6)),
        (scaled(0.5), scaled(0.25)),
        (functools.partial(halve, factor=0.5), functools.partial(halve, factor=0.25)),
        (weft.rename(halve, factor="a"), weft.rename(halve, factor="b")),
        (
            lambda update: {"update": update},
            lambda update: {"update": update + 0},
        ),
    ],
)
def test_the_code_of_a_chain_is_part_of_its_key(one, other):
    keys = [job(weft.SGD.chain() + cb, 0.1).key for cb in (one, one, other)]
    assert keys[0] == keys[1] != keys[2]
    keys = [job({"*": weft.SGD.chain() + cb}, 0.1).key for cb in (one, other)]
    assert keys[0] != keys[1]


def test_a_key_is_the_same_in_another_process():
    code = (
        "import weft; from weft.racing.named import digest;"
        "print(digest(weft.AdamW.chain() + weft.Lookahead(k=3) + weft.callbacks.cautious))"
    )
    found = digest(weft.AdamW.chain() + weft.Lookahead(k=3) + weft.callbacks.cautious)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == found


def test_warnings_of_weft_become_notes(monkeypatch):
    monkeypatch.setenv("WEFT_ENGINE", "auto")

    def odd(p, grad, lr):
        p.data.add_(grad.numpy().sum() * 0)
        return {"p": p - lr * grad}

    record = run(job(weft.chain(odd, lr=0.01), 0.01))
    assert any("odd" in note and "eagerly" in note for note in record.notes)


# ---------------------------------------------------------------- contestants


def net():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))


def test_two_chains_by_role_are_scaled_alike():
    muon = Contestant("m", "muon(lr=0.02)/adamw(lr=0.004)")
    assert muon.traits(net()).lr == 0.02
    opt = muon.build(net(), lr=0.01)
    assert [group["lr"] for group in opt.param_groups] == [0.01, 0.002]
    assert [len(group["params"]) for group in opt.param_groups] == [2, 4]
    same = Contestant("m", {"hidden": weft.Muon.chain(lr=0.02), "*": weft.AdamW.chain(lr=0.004)})
    assert [g["lr"] for g in same.build(net(), 0.01).param_groups] == [0.01, 0.002]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("adamm", r"c: no optimizer is called 'adamm' \(did you mean 'adam'"),
        ("sophia", "evaluates the gradient itself"),
        ("adamw+sam", "evaluates the gradient itself"),
        ("muon", "NAME/adamw"),
        ("a/b/c", "name two"),
        (weft.chain(weft.callbacks.descend), "lr"),
        ("no_such.py:chain", "no such file.*no_such.py"),
    ],
)
def test_who_cannot_be_raced(given, match):
    with pytest.raises(ValueError, match=match):
        Contestant("c", given).traits(net())


def test_traits():
    traits = Contestant("c", "adamw(lr=0.5)").traits(net())
    assert traits.lr == 0.5
    assert traits.scheduled
    assert {"betas", "weight_decay"} <= traits.hypers
    assert not Contestant("c", "schedulefreesgd").traits(net()).scheduled


def test_names():
    assert [c.name for c in contestants("adamw")] == ["adamw"]
    assert [(c.name, c.given) for c in contestants(["fast=sgd(lr=1)", "sgd(lr=1)"])] == [
        ("fast", "sgd(lr=1)"),
        ("sgd(lr=1)", "sgd(lr=1)"),
    ]
    with pytest.raises(ValueError, match="two contestants are called 'sgd'"):
        contestants(["sgd", "sgd"])
    with pytest.raises(ValueError, match="nobody races"):
        contestants([])


# ---------------------------------------------------------------- tasks


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (3, "gives int"),
        ((1, 2), r"gives \(int, int\)"),
        ((net(), ([1], None), mse_loss), "no validation data"),
        ((net(), ([], [1]), mse_loss), "training loader is empty"),
        ((net(), 5, mse_loss), "pair"),
    ],
)
def test_what_is_no_task(made, match):
    with pytest.raises((TypeError, ValueError), match=match):
        as_task(lambda seed: made).build(0)
