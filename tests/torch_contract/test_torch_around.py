"""What is built around a step: torch.compile, averaging, steps within backward, threads."""

import threading

import pytest
import torch
from contract_problems import advance, mixed, parameters, same
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

import weft


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))


X = torch.linspace(-1, 1, 15).reshape(5, 3)


def loss_of(model):
    return (model(X) - 0.5).square().mean()


def train(model, opt, step, n=5):
    for _ in range(n):
        opt.zero_grad()
        step(model)
        opt.step()
    return list(model.parameters())


def plain(model):
    loss_of(model).backward()


# ---------------------------------------------------------------- torch.compile


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_around_an_uncompiled_step(backend):
    model, other = net(), net()
    compiled = torch.compile(loss_of, backend=backend)
    ours = train(model, weft.AdamW(model.parameters(), lr=0.1), lambda m: compiled(m).backward())
    theirs = train(other, torch.optim.AdamW(other.parameters(), lr=0.1), plain)
    same(ours, theirs, 1e-5)


def test_a_step_within_a_compiled_function_breaks_the_graph_and_is_right():
    model, other = net(), net()
    opt = weft.AdamW(model.parameters(), lr=0.1)

    @torch.compile(backend="eager")
    def training_step(x):
        loss = (model(x) - 0.5).square().mean()
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    for _ in range(5):
        training_step(X)
    theirs = train(other, torch.optim.AdamW(other.parameters(), lr=0.1), plain)
    same(list(model.parameters()), theirs, 1e-5)


def test_a_compiled_step_after_a_scheduler_was_made():
    """Before it, torch.optim's own fails likewise in the scheduler."""
    model, other = net(), net()
    opt, reference = weft.SGD(model.parameters(), lr=0.1, momentum=0.9), None
    reference = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    for o in (opt, reference):
        torch.optim.lr_scheduler.StepLR(o, 10)
    opt.step = torch.compile(opt.step, backend="eager")
    same(train(model, opt, plain), train(other, reference, plain), 1e-5)


# ---------------------------------------------------------------- averages of weights


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_averaged_models(kind):
    averages = []
    for module in (weft, torch.optim):
        model = net()
        opt = module.AdamW(model.parameters(), lr=0.05)
        fn = get_ema_multi_avg_fn(0.9) if kind == "ema" else None
        average = AveragedModel(model, multi_avg_fn=fn)
        scheduler = SWALR(opt, swa_lr=0.01, anneal_epochs=3)
        for _ in range(6):
            train(model, opt, plain, 1)
            average.update_parameters(model)
            scheduler.step()
        update_bn([X], average)
        averages.append(list(average.parameters()))
    same(*averages, 1e-5)


# ---------------------------------------------------------------- a step within backward


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop", "Lion"])
def test_one_optimizer_a_parameter_stepping_within_backward(name):
    model, other = net(), net()
    options = {"lr": 0.05, "weight_decay": 0.1}
    opts = {p: getattr(weft, name)([p], **options) for p in model.parameters()}

    def hook(p):
        assert not torch.is_grad_enabled()
        opts[p].step()
        opts[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(hook)
    for _ in range(5):
        plain(model)
        assert all(p.grad is None for p in model.parameters())
    whole = train(other, getattr(weft, name)(other.parameters(), **options), plain)
    same(list(model.parameters()), whole, 1e-6)


def test_optimizers_made_and_stepped_in_threads():
    """Backward of several devices runs hooks in several threads."""
    results, errors = {}, []

    def work(i):
        try:
            params = parameters((4, 3), seed=i % 2)
            opt = weft.AdamW(params, lr=0.1)
            advance(opt, params, 5)
            results[i] = params[0]
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    for i in range(6):
        assert torch.equal(results[i], results[i % 2])


# ---------------------------------------------------------------- gradient tools


def test_clipping_accumulation_and_anomaly_mode():
    pair = []
    for module in (weft, torch.optim):
        model = net()
        opt = module.AdamW(model.parameters(), lr=0.1)
        with torch.autograd.detect_anomaly(check_nan=False):
            for _ in range(3):
                for _ in range(2):
                    (loss_of(model) / 2).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1, foreach=False)
                opt.step()
                opt.zero_grad(set_to_none=False)
        pair.append(list(model.parameters()))
    same(*pair, 1e-5)


def test_a_backward_through_a_stepped_parameter_is_noticed():
    model = net()
    opt = weft.SGD(model.parameters(), lr=0.1)
    loss = loss_of(model)
    loss.backward(retain_graph=True)
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_training_within_inference_mode_tensors_and_functional_calls():
    model = net()
    opt = weft.AdamW(model.parameters(), lr=0.1)
    plain(model)
    held = {k: v.clone() for k, v in model.named_parameters()}
    opt.step()
    with torch.inference_mode():
        before = torch.func.functional_call(model, held, X)
        assert not torch.equal(before, model(X))


def test_tied_parameters_are_stepped_once():
    pair = []
    for module in (weft, torch.optim):
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
        torch.manual_seed(0)
        model[0].reset_parameters()
        model[2] = model[0]
        opt = module.AdamW(model.parameters(), lr=0.1)
        pair.append(train(model, opt, plain))
        assert len(opt.param_groups[0]["params"]) == 2
    same(*pair, 1e-5)


def test_two_optimizers_over_one_model():
    params, opt = mixed(lr=0.1)
    other = weft.SGD(params[:1], lr=0.0)
    advance(opt, params, 2)
    other.step()
    assert set(other.state) <= {params[0]}
