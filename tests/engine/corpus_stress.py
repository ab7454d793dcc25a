"""Chains that are hard on a tracer."""

import functools
import math
from math import sqrt

import numpy as np
import torch
from corpus import SHAPES, Chain
from corpus_papers import ADAM, adam_update, ema

import weft
from weft.callbacks import descend

SCALE = 0.5
TABLE = [0.1, 0.2, 0.3, 0.4]
MATRIX = ((6, 4), (3, 8))


def in_place(p, grad, lr, weight_decay=0.1, avg=weft.zeros):
    grad.add_(p, alpha=weight_decay)
    avg.mul_(0.9).add_(grad)
    p.data.sub_(avg * lr)
    return {"avg": avg}


def old_overloads(p, lr, avg=None, **kwargs):
    if avg is None:
        avg = torch.zeros_like(p.grad.data, memory_format=torch.preserve_format)
    avg.mul_(0.9).add_(0.1, p.grad.data)
    p.data.add_(-lr, avg)
    p.data.addcmul_(-lr, avg, avg).addcdiv_(-lr, avg, p.grad.data.abs() + 1.0)
    return {"avg": avg}


def views(p, grad, lr):
    flat = grad.view(-1)
    flat[: flat.numel() // 2].mul_(0.5)
    flat[1::2] += 1.0
    grad.t().add_(0.25)
    first = p.data[0]
    first -= lr
    p.data.view(-1)[-1:].zero_()
    return {"p": p - lr * grad}


def slices(p, grad, lr):
    n = p.shape[0] // 2
    a, b = grad[:n], grad[n:]
    b[..., :1].neg_()
    p.data[:n] -= lr * a
    p.data[n:].add_(b, alpha=-lr)
    for i, row in enumerate(p.data.unbind(0)):
        row.mul_(1 - 0.01 * i)


def halves(p, grad, lr):
    x, y = grad.chunk(2, dim=-1)
    out = torch.zeros_like(grad)
    out.narrow(-1, 0, x.shape[-1]).copy_(x * 2)
    out[..., x.shape[-1] :] = y.abs()
    return {"update": out}


def masks(p, grad, lr):
    grad[grad > 1] = 1.0
    grad.masked_fill_(grad < -1, -1.0)
    mask = p > 0
    return {"p": torch.where(mask, p - lr * grad, p + 0.5 * lr * grad * (~mask)), "seen": mask}


def out_argument(p, grad, lr, buf=weft.zeros):
    torch.mul(buf, 0.9, out=buf)
    torch.add(buf, grad, alpha=0.1, out=buf)
    work = torch.empty_like(p)
    torch.sqrt(buf.abs(), out=work)
    torch.sub(p, work, alpha=lr, out=p)
    return {"buf": buf}


def foreach(p, grad, lr, a=weft.zeros, b=weft.zeros):
    torch._foreach_mul_([a, b], [0.9, 0.99])
    torch._foreach_add_([a, b], [grad, grad * grad])
    roots = torch._foreach_sqrt([b])
    torch._foreach_add_(roots, 1e-8)
    torch._foreach_addcdiv_([p.data], [a], roots, value=-lr)
    return {"a": a, "b": b}


def math_functions(update, lr, step, warm=10.0):
    factor = math.sqrt(lr) * (1 - math.exp(-step / warm)) + math.log1p(step) * 0.01
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / warm, 1.0)))
    return {"update": update * factor * cosine / sqrt(1 + step) * math.pow(0.99, step)}


def numpy_functions(update, lr, step, beta=0.9):
    factor = np.sqrt(1 - np.power(beta, step)) * np.exp(-lr) + np.maximum(lr, 0.05)
    return {"update": update * np.clip(factor, 0.1, 2.0) * float(np.log1p(step))}


def item_reads(p, grad, lr):
    size = grad.norm().item()
    scale = 1.0 / max(size, 1.0)
    if size > 1.5:
        scale *= 0.5
    return {"p": p - lr * scale * float(grad.abs().max()) * grad}


def tensor_branches(p, update, cap=10.0):
    r1, r2 = p.norm(), update.norm()
    if r1 == 0 or r2 == 0:
        return {"update": update}
    ratio = min(r1 / r2, cap)
    return {"update": update * ratio}


def one_sided(grad):
    if grad.sum() > 0:
        return {"grad": grad * 0.5}
    return None


def in_place_branch(p, grad, lr):
    if (grad * p).sum() > 0:
        p.data.mul_(0.99)
        grad.mul_(2)
    p.data.sub_(grad, alpha=lr)


def step_branches(update, step, warmup=3):
    if step <= warmup:
        return {"update": update * step / warmup}
    return {"update": update}


def hyper_branches(update, momentum=0.9, nesterov=True, decay=0.0, buf=weft.zeros):
    if decay != 0:
        update = update * (1 - decay)
    if momentum > 0.5:
        buf = buf * momentum + update
        update = update + momentum * buf if nesterov else buf
    return {"update": update, "buf": buf}


def leaving_decay(k, name, value):
    return 0.1 * (k % 2) if name == "decay" else value


def helper(x, scale):
    def inner(y):
        return y * scale + math.sqrt(scale)

    return inner(x)


def with_helpers(update, lr, step):
    return {"update": helper(update, lr) * SCALE + other(step)}


def other(n):
    return 1 if n < 1 else math.atan(n) * other(0)


def make_closure(scale):
    table = {"scale": scale}

    def closed(update, lr):
        return {"update": update * table["scale"] * max(lr, 0.01)}

    return closed


class Callable:
    def __init__(self, power):
        self.power = power

    def __call__(self, update, lr):
        return {"update": self.raised(update.abs(), lr) * update.sign()}

    def raised(self, x, lr):
        return x**self.power * math.exp(lr)

    def method(self, update, lr):
        return {"update": update * math.sqrt(lr) * self.power}


def no_grad_wrapped(f):
    @functools.wraps(f)
    def wrapped(*args, **kwargs):
        return f(*args, **kwargs)

    return wrapped


@torch.no_grad()
def decorated(update, lr):
    return {"update": update * math.sqrt(lr)}


@no_grad_wrapped
def wrapped_cb(update, lr):
    return {"update": update * math.sqrt(lr)}


def indexed(update, step):
    return {"update": update * TABLE[step % 4]}


def ranged(update, passes=3):
    for _ in range(passes):
        update = update * 0.9 + 0.01
    return {"update": update}


def dims(grad):
    keep = {"keepdim": True}
    scaled = grad / (grad.std(0, **keep) + 1e-3) + grad.var(-1, unbiased=False, **keep)
    return {"grad": scaled - scaled.amax(0, **keep) * 0.1 + scaled.prod(-1, **keep).clamp(-1, 1)}


def reductions(p, grad):
    stats = grad.abs().max() + grad.min() + grad.mean() + (p != 0).float().sum() / p.numel()
    norms = (
        grad.norm(1)
        + grad.norm(float("inf"))
        + torch.linalg.norm(p)
        + torch.dot(p.flatten(), grad.flatten())
    )
    some = (grad > 0).any().float() + (grad > -100).all() + torch.count_nonzero(grad)
    return {"update": grad * (stats + norms + some) * 0.01}


def softplus_and_friends(grad):
    x = (
        torch.nn.functional.softplus(grad, beta=2)
        + torch.tanh(grad)
        + grad.sigmoid()
        + torch.erf(grad)
    )
    y = grad.abs().log1p() + grad.expm1().clamp(max=3) + torch.atan2(grad, grad + 2) + grad.sin()
    return {
        "update": x
        + y
        + 1 / (2 + grad**2)
        + 2**grad
        + grad.abs() ** 1.5
        + torch.nan_to_num(grad / grad)
    }


def rounding(grad, levels=8):
    scale = grad.abs().max() / levels
    q = torch.round(grad / scale)
    return {"update": q * scale, "q": q.to(torch.int8)}


def read_back(update, q):
    return {"update": update + q.float() * 0.01}


def numbers(update, ema_norm=0.0, count=0):
    count = count + 1
    ema_norm = 0.9 * ema_norm + 0.1 * count
    return {"update": update * ema_norm, "ema_norm": ema_norm, "count": count}


def number_from_tensor(grad, peak=weft.state(0.0)):
    peak = max(peak * 0.9, grad.abs().max().item())
    return {"peak": peak, "update": grad / (peak + 1e-8)}


def warmed(update, step, started=False):
    return {"update": update if started else update * 0.1, "started": step >= 3}


def everything(p, update, **kwargs):
    step = kwargs["step"]
    p.data.add_(update + 0.1 * kwargs["grad"], alpha=-kwargs["lr"] / step)


def by_loss(update, loss):
    return {"update": update * (loss / (1 + loss))}


def projected(grad, rank=2):
    u, s, v = torch.linalg.svd(grad, full_matrices=False)
    return {"update": (u[:, :rank] * s[:rank]) @ v[:rank]}


def einsums(grad, L=weft.state(lambda p: torch.eye(p.shape[0], device=p.device))):
    L = 0.9 * L + 0.1 * torch.einsum("ij,kj->ik", grad, grad)
    return {"L": L, "update": torch.linalg.solve(L + torch.eye(L.shape[0], device=L.device), grad)}


def topped(grad, k=3):
    flat = grad.flatten()
    values, index = flat.abs().topk(k)
    keep = torch.zeros_like(flat).scatter(0, index, 1.0)
    return {"update": (flat * keep).view_as(grad) + values.sum() * 0.01}


def stacked(grad, update):
    both = torch.stack([grad, update * 2])
    return {
        "update": both.mean(0)
        + torch.cat([grad, update], dim=0)[: grad.shape[0]]
        + grad.cumsum(0) * 0.1
    }


def noisy(p, grad, lr, noise=0.1):
    noise = torch.randn_like(p) * noise
    return {"p": p - lr * grad + lr * noise + 0.01 * torch.empty_like(p).normal_(0, 1)}


def aliases(p, grad, update, a=weft.zeros, b=weft.zeros):
    a.add_(grad)
    return {"a": a, "b": a, "update": a}


def after_aliases(a, b, update):
    a.mul_(2)
    update.add_(1)
    return {"b": b + a}


def user_grad(p, grad, lr):
    p.grad.data.mul_(0.5)
    p.data.sub_(p.grad * lr + grad * 0.1)


def update_in_place(update, grad):
    update.mul_(0.5)
    update += grad.abs()


def reader_of_all(p, update, grad, lr):
    return {"p": p - lr * update - 0.1 * grad - 0.01 * p.grad}


def keeps(p, grad, snapshot=None):
    if snapshot is None:
        snapshot = p.detach().clone()
    return {"snapshot": snapshot * 0.9 + p * 0.1, "p": p - 0.1 * grad + (p - snapshot)}


def lambdas(lr, step):
    return {"scaled": lr * 0.5**step}


def tensors(update, lr, scaled):
    weight = torch.tensor([lr, scaled, 1.0]).sum() + torch.full((), scaled) + torch.tensor(lr)
    return {"update": update * weight * torch.arange(3.0).mean() + torch.ones_like(update) * lr}


def windowed(update):
    return {"update": update * torch.hann_window(6, periodic=False).mean()}


def zero_dim(update, lr):
    return {"update": update * (1 + lr) + lr.sqrt() - torch.clamp(lr, max=0.01)}


def aten(grad):
    return {
        "update": torch.ops.aten.add(grad, grad.abs(), alpha=0.5)
        + torch.ops.aten.mul.Tensor(grad, grad)
    }


def flat_math(grad, lr):
    total = sum(x * w for x, w in zip(grad.unbind(0), [1.0] * grad.shape[0], strict=True))
    return {"update": grad + total * lr - (grad - lr).abs().clamp_(max=abs(-lr)) % 3}


CLOSED = make_closure(0.25)
OBJECT = Callable(0.5)
LR = {"lr": 0.05}
STRESS = [
    Chain("in place", (in_place,)),
    Chain("old overloads", (old_overloads,), LR, traces=2),
    Chain("views", (views,), LR, MATRIX),
    Chain("slices", (slices,), LR, ((4, 6), (5, 2))),
    Chain("halves", (halves, descend), LR, MATRIX),
    Chain("masks", (masks,), LR, traces=2),
    Chain("out=", (out_argument,), LR),
    Chain("foreach", (foreach,), LR),
    Chain("math", (math_functions, descend), LR),
    Chain("numpy", (numpy_functions, descend), LR),
    Chain("item", (item_reads,), LR),
    Chain("branches on tensors", (tensor_branches, descend), LR),
    Chain("a branch without else", (one_sided, descend), LR),
    Chain("branches and in place", (in_place_branch,), LR),
    Chain("branches on step", (step_branches, descend), LR, traces=2),
    Chain("branches on hypers", (hyper_branches, descend), {**LR, "momentum": 0.9}, traces=2, schedule=leaving_decay),
    Chain("helpers", (with_helpers, descend), LR),
    Chain("closures", (CLOSED, descend), LR),
    Chain("partials", (functools.partial(math_functions, warm=5.0), descend), LR),
    Chain("renamed", (ema, weft.rename(ema, exp_avg="slow"), *ADAM[1:], adam_update, descend), LR),
    Chain("objects", (OBJECT, descend), LR),
    Chain("methods", (OBJECT.method, descend), LR),
    Chain("decorated", (decorated, wrapped_cb, descend), LR),
    Chain("index by step", (indexed, descend), LR, traces=9),
    Chain("range of a hyper", (ranged, descend), {**LR, "passes": 3}),
    Chain("dims", (dims, descend), LR, MATRIX),
    Chain("reductions", (reductions, descend), LR),
    Chain("functions", (softplus_and_friends, descend), LR),
    Chain("int8 state", (rounding, read_back, descend), LR, traces=2),
    Chain("numbers in state", (numbers, descend), LR),
    Chain("number from a tensor", (number_from_tensor, descend), LR),
    Chain("bool in state", (warmed, descend), LR, traces=3),
    Chain("**kwargs", (*ADAM, adam_update, everything), LR),
    Chain("loss", (by_loss, descend), LR, loss=True),
    Chain("svd", (projected, descend), LR, MATRIX),
    Chain("einsum and solve", (einsums, descend), LR, MATRIX),
    Chain("topk and scatter", (topped, descend), LR),
    Chain("stack, cat, cumsum", (stacked, descend), LR),
    Chain("noise", (noisy,), LR),
    Chain("aliases", (aliases, after_aliases, descend), LR),
    Chain("user's grad", (user_grad,), LR),
    Chain("update in place", (update_in_place, reader_of_all), LR),
    Chain("self-made state", (keeps,), {}, traces=2),
    Chain("state of numbers", (lambdas, tensors, descend), LR, traces=2),
    Chain("a window", (windowed, descend), LR),
    Chain("tensor hyper", (zero_dim, descend), {"lr": torch.tensor(0.05)}),
    Chain("aten", (aten, descend), LR),
    Chain("python's sum and abs", (flat_math, descend), LR, SHAPES),
]  # fmt: skip
