"""Training on a GPU: what it gives on the CPU, with the scaler, in a graph, by `weft train`."""

import pytest
import torch

import weft
from weft.cli.digits import CONTESTANTS, train
from weft.learner.data import in_memory
from weft.optimizers import algorithms

pytestmark = pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = X.sum(1, keepdim=True)
WRAPPERS = [
    w
    for n in dir(weft)
    if isinstance(w := getattr(weft, n), type) and issubclass(w, weft.Wrapper)
    if w not in (weft.Wrapper, weft.Hutchinson)
]


def net(device):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    return model.to(device)


def loss_of(model):
    device = next(model.parameters()).device
    return torch.nn.functional.mse_loss(model(X.to(device)), Y.to(device))


def trained(device, make, steps=12):
    """Parameters after some steps with a closure."""
    model = net(device)
    opt = make(model.parameters())
    for k in range(steps):

        def closure():
            opt.zero_grad()
            loss = loss_of(model)
            loss.backward(create_graph=make in DIFFERENTIATING)
            return loss

        torch.manual_seed(k)
        opt.step(closure)
    return [p.detach().cpu() for p in model.parameters()]


def assert_alike(found, expected):
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-4)


DIFFERENTIATING = [algorithms()[n] for n in ("adahessian", "sophia")]


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda w: w.__name__)
@pytest.mark.filterwarnings("ignore")
def test_wrappers(wrapper):
    make = lambda ps: wrapper(weft.AdamW(ps, lr=0.01))
    assert_alike(trained("cuda", make), trained("cpu", make))


@pytest.mark.filterwarnings("ignore")
def test_what_differentiates_the_gradient():
    """Its random numbers are the GPU's, so that only the start is as on the CPU."""
    for make in DIFFERENTIATING:
        assert all(p.isfinite().all() for p in trained("cuda", make))


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("policy", ["keep", "skip", "raise"])
def test_the_scaler(capturable, policy):
    both = []
    for device in ("cuda", "cpu"):
        model, more = net(device), {"capturable": capturable} if device == "cuda" else {}
        opt = weft.AdamW(model.parameters(), lr=0.01, on_nonfinite=policy, **more)
        scaler = torch.amp.GradScaler(device, init_scale=8.0)
        for k in range(12):
            opt.zero_grad()
            scaler.scale(loss_of(model)).backward()
            if k in (2, 7):
                model[0].weight.grad[0, 0] = torch.inf
            scaler.step(opt)
            scaler.update()
        scale = torch.tensor(scaler.get_scale())
        both.append([*(p.detach().cpu() for p in model.parameters()), scale])
    assert_alike(*both)


def test_a_whole_training_step_in_a_graph():
    both = []
    for graphed in (True, False):
        model = net("cuda")
        lr = torch.tensor(0.01, device="cuda") if graphed else 0.01
        opt = weft.AdamW(model.parameters(), lr=lr, capturable=graphed)
        x, y = X.to("cuda"), Y.to("cuda")

        def once(model=model, opt=opt, x=x, y=y):
            torch.nn.functional.mse_loss(model(x), y).backward()
            opt.step()
            opt.zero_grad(set_to_none=False)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(4):
                once()
        torch.cuda.current_stream().wait_stream(side)
        if graphed:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                once()
        for k in range(200):
            if graphed:
                lr.fill_(0.01 / (1 + k))
                graph.replay()
            else:
                opt.param_groups[0]["lr"] = 0.01 / (1 + k)
                once()
        both.append([p.detach().cpu() for p in model.parameters()])
    assert_alike(*both)


def test_parameters_of_both_devices():
    here, there = net("cpu"), net("cuda")
    opt = weft.AdamW([*here.parameters(), *there.parameters()], lr=0.01)
    for _ in range(8):
        opt.zero_grad()
        loss_of(here).backward()
        loss_of(there).backward()
        opt.step()
    assert_alike([p.detach().cpu() for p in there.parameters()], list(here.parameters()))


def test_a_learner():
    found = []
    for device in ("cuda", "cpu"):
        dls = in_memory((X, Y), (X, Y), 8, 0)
        mse = torch.nn.functional.mse_loss
        learn = weft.Learner(dls, net(device), mse, weft.Adam, progress=False)
        learn.fit_one_cycle(3, 1e-2)
        found.append([p.detach().cpu() for p in learn.model.parameters()])
    assert_alike(*found)


def test_the_job_of_weft_train():
    digits = torch.rand(96, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(96) % 10
    losses = []
    for device in ("cuda", "cpu"):
        rows = (digits.to(device), labels.to(device))
        losses.append(train(CONTESTANTS[2], 1e-3, 0, (rows, rows), 1, 32, []).valid_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
