"""What callbacks may do with a device, on a GPU: kernels and the eager loop agree, or say why not."""

import pytest
import torch

import weft

GPU = torch.device("cuda", 0)
N = 5
HALF, VECTOR = torch.tensor(0.5), torch.ones(N)


def listed(grad):
    return {"grad": grad * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], device=grad.device)}


def listed_anew(grad):
    return {"grad": grad * grad.new_tensor([1.0, 2.0, 3.0, 4.0, 5.0])}


def ranged(grad):
    return {"grad": grad + torch.arange(N, device=grad.device)}


def spaced(grad):
    return {"grad": grad * torch.linspace(0, 1, N, device=grad.device)}


def identity(grad):
    return {"grad": grad @ torch.eye(N, device=grad.device)}


def drawn(grad):
    return {"grad": grad * torch.randn(N, device=grad.device)}


def drawn_like(grad):
    return {"grad": grad * torch.rand_like(grad)}


def picked(grad):
    return {"grad": torch.where(grad > 0, grad, torch.tensor(2.0))}


def added_by_index(grad):
    return {"grad": grad.clone().index_add(0, torch.tensor([0, 2], device=grad.device), grad[:2])}


def filled(grad, lr):
    return {"grad": grad * torch.full((), lr, device=grad.device)}


def number_of_a_tensor(grad):
    return {"grad": grad * float(grad.sum())}


def stepped(fn, engine):
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.ones(N, device=GPU))
    opt = weft.chain(fn, weft.callbacks.descend, lr=0.1)([p], engine=engine)
    for k in range(3):
        p.grad = torch.linspace(-1, 1, N).to(GPU) + k
        opt.step()
    return p.detach().cpu()


FINE = (listed, listed_anew, ranged, spaced, identity, drawn, drawn_like, picked, added_by_index, filled,
        number_of_a_tensor)  # fmt: skip


@pytest.mark.parametrize("fn", FINE, ids=lambda f: f.__name__)
def test_kernels_and_the_eager_loop_agree(fn):
    torch.testing.assert_close(stepped(fn, "auto"), stepped(fn, "eager"))


def on_the_cpu(grad):
    return {"grad": grad * HALF}


def vector_on_the_cpu(grad):
    return {"grad": grad * VECTOR}


def test_a_number_that_is_kept_on_the_cpu_is_no_address_for_a_kernel():
    with pytest.warns(weft.WeftWarning, match="is on cpu, and the parameter on cuda:0"):
        found = stepped(on_the_cpu, "auto")
    torch.testing.assert_close(found, stepped(on_the_cpu, "eager"))


@pytest.mark.filterwarnings("ignore")
def test_a_vector_on_the_cpu_is_refused():
    with pytest.raises(weft.StepError, match="same device"):
        stepped(vector_on_the_cpu, "auto")


def test_what_is_drawn_on_the_gpu_resumes_exactly(tmp_path):
    p = torch.nn.Parameter(torch.ones(N, device=GPU))
    path = weft.save_checkpoint(tmp_path / "last.pt", optimizer=(opt := weft.SGD([p], lr=0.1)))
    first = torch.randn(3, device=GPU)
    weft.load_checkpoint(path, optimizer=opt)
    assert torch.equal(torch.randn(3, device=GPU), first)
