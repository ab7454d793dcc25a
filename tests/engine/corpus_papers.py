"""The literature as chains, written here from the papers' equations in the style that users would."""

import math

import torch
from corpus import Chain

import weft
from weft.callbacks import descend

MATRIX = ((6, 4), (3, 8))


def ema(grad, betas=(0.9, 0.999), exp_avg=weft.zeros):
    return {"exp_avg": exp_avg.lerp(grad, 1 - betas[0])}


def ema_sq(grad, betas=(0.9, 0.999), exp_avg_sq=weft.zeros):
    return {"exp_avg_sq": exp_avg_sq * betas[1] + grad.square() * (1 - betas[1])}


def adam_update(exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-8):
    m = exp_avg / (1 - betas[0] ** step)
    return {"update": m / ((exp_avg_sq / (1 - betas[1] ** step)).sqrt() + eps)}


def decay(p, lr, weight_decay=0.01):
    return {"p": p * (1 - lr * weight_decay)}


def nesterov(grad, momentum=0.9, momentum_buffer=weft.zeros):
    buf = momentum_buffer * momentum + grad
    return {"momentum_buffer": buf, "update": grad + momentum * buf}


def amsgrad(exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-8, max_sq=weft.zeros):
    max_sq = torch.maximum(max_sq, exp_avg_sq)
    bias1, bias2 = 1 - betas[0] ** step, 1 - betas[1] ** step
    return {"max_sq": max_sq, "update": (exp_avg / bias1) / ((max_sq / bias2).sqrt() + eps)}


def nadam(grad, exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-8, mu_product=1.0):
    mu = betas[0] * (1.0 - 0.5 * 0.96 ** (step * 0.004))
    mu_next = betas[0] * (1.0 - 0.5 * 0.96 ** ((step + 1) * 0.004))
    mu_product = mu_product * mu
    denom = (exp_avg_sq / (1 - betas[1] ** step)).sqrt() + eps
    update = grad * ((1 - mu) / (1 - mu_product)) + exp_avg * (mu_next / (1 - mu_product * mu_next))
    return {"update": update / denom, "mu_product": mu_product}


def radam(exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-8):
    m = exp_avg / (1 - betas[0] ** step)
    rho_inf = 2 / (1 - betas[1]) - 1
    rho = rho_inf - 2 * step * betas[1] ** step / (1 - betas[1] ** step)
    if rho > 5.0:
        rect = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        m = m * rect * math.sqrt(1 - betas[1] ** step) / (exp_avg_sq.sqrt() + eps)
    return {"update": m}


def adamax(grad, exp_avg, step, betas=(0.9, 0.999), eps=1e-8, exp_inf=weft.zeros):
    exp_inf = torch.maximum(exp_inf * betas[1], grad.abs() + eps)
    return {"exp_inf": exp_inf, "update": exp_avg / ((1 - betas[0] ** step) * exp_inf)}


def adagrad(grad, step, lr_decay=0.01, eps=1e-10, sum=weft.zeros):
    sum = sum + grad * grad
    return {"sum": sum, "update": grad / (sum.sqrt() + eps) / (1 + (step - 1) * lr_decay)}


def adadelta(grad, rho=0.9, eps=1e-6, square_avg=weft.zeros, acc_delta=weft.zeros):
    square_avg = square_avg * rho + grad * grad * (1 - rho)
    delta = (acc_delta + eps).sqrt() / (square_avg + eps).sqrt() * grad
    return {
        "square_avg": square_avg,
        "acc_delta": acc_delta * rho + delta * delta * (1 - rho),
        "update": delta,
    }


def rprop(
    p,
    grad,
    etas=(0.5, 1.2),
    step_sizes=(1e-6, 50.0),
    prev=weft.zeros,
    step_size=weft.state(lambda p: torch.full_like(p, 0.01)),
):
    sign = (grad * prev).sign()
    factor = torch.where(sign > 0, etas[1], torch.where(sign < 0, etas[0], 1.0))
    step_size = (step_size * factor).clamp(step_sizes[0], step_sizes[1])
    grad = torch.where(sign < 0, torch.zeros_like(grad), grad)
    return {"prev": grad, "step_size": step_size, "p": p - grad.sign() * step_size}


def rmsprop(
    grad,
    alpha=0.99,
    eps=1e-8,
    momentum=0.9,
    square_avg=weft.zeros,
    grad_avg=weft.zeros,
    buf=weft.zeros,
):
    square_avg.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
    grad_avg.lerp_(grad, 1 - alpha)
    avg = square_avg.addcmul(grad_avg, grad_avg, value=-1).clamp_(min=0).sqrt_().add_(eps)
    buf.mul_(momentum).addcdiv_(grad, avg)
    return {"square_avg": square_avg, "grad_avg": grad_avg, "buf": buf, "update": buf}


def asgd(p, grad, lr, step, lambd=1e-4, alpha=0.75, t0=4.0, ax=weft.zeros):
    eta = lr / (1 + lambd * lr * (step - 1)) ** alpha
    p = p * (1 - lambd * eta) - eta * grad
    mu = 1 / max(1, step - t0)
    return {"p": p, "ax": ax + (p - ax) * mu}


def lion(grad, betas=(0.9, 0.99), exp_avg=weft.zeros):
    update = torch.sign(exp_avg * betas[0] + grad * (1 - betas[0]))
    return {"update": update, "exp_avg": exp_avg * betas[1] + grad * (1 - betas[1])}


def signum(grad, momentum=0.9, momentum_buffer=weft.zeros):
    buf = momentum_buffer.lerp(grad, 1 - momentum)
    return {"momentum_buffer": buf, "update": buf.sign()}


def cautious(update, grad):
    agree = (update * grad > 0).to(grad.dtype)
    return {"update": update * agree / agree.mean().clamp(min=1e-3)}


def adabelief(grad, exp_avg, betas=(0.9, 0.999), eps=1e-8, exp_avg_sq=weft.zeros):
    return {"exp_avg_sq": exp_avg_sq * betas[1] + (grad - exp_avg) ** 2 * (1 - betas[1]) + eps}


def yogi(
    grad, exp_avg, betas=(0.9, 0.999), exp_avg_sq=weft.state(lambda p: torch.full_like(p, 1e-6))
):
    g2 = grad.square()
    return {"exp_avg_sq": exp_avg_sq.addcmul((exp_avg_sq - g2).sign(), g2, value=-(1 - betas[1]))}


def lamb(p, update, weight_decay=0.01):
    update = update + weight_decay * p
    w, u = p.norm(), update.norm()
    ratio = torch.where((w > 0) & (u > 0), w / u, torch.ones_like(w))
    return {"update": update * ratio.clamp(max=10.0)}


def lars(p, grad, trust=0.001, weight_decay=0.01, eps=1e-8):
    w, g = torch.linalg.vector_norm(p), torch.linalg.vector_norm(grad)
    local = trust * w / (g + weight_decay * w + eps)
    return {"grad": (grad + weight_decay * p) * torch.where((w > 0) & (g > 0), local, 1.0)}


def adafactor(grad, step, decay_rate=-0.8, eps=1e-30, clip=1.0,
              row=weft.state(lambda p: p.new_zeros(p.shape[:-1])),
              col=weft.state(lambda p: p.new_zeros(p.shape[:-2] + p.shape[-1:]))):  # fmt: skip
    beta = 1.0 - math.pow(step, decay_rate)
    sq = grad * grad + eps
    row = row * beta + sq.mean(dim=-1) * (1 - beta)
    col = col * beta + sq.mean(dim=-2) * (1 - beta)
    r = (row / row.mean(dim=-1, keepdim=True)).rsqrt().unsqueeze(-1)
    update = grad * r * col.unsqueeze(-2).rsqrt()
    rms = update.norm(2) / update.numel() ** 0.5
    return {"row": row, "col": col, "update": update / (rms / clip).clamp(min=1.0)}


def centralize(grad):
    if grad.ndim > 1:
        return {"grad": grad - grad.mean(dim=tuple(range(1, grad.ndim)), keepdim=True)}
    return None


def adan(
    grad,
    step,
    betas=(0.98, 0.92, 0.99),
    eps=1e-8,
    m=weft.zeros,
    v=weft.zeros,
    n=weft.zeros,
    pre=weft.zeros,
):
    diff = grad - pre if step > 1 else torch.zeros_like(grad)
    m = m.lerp(grad, 1 - betas[0])
    v = v.lerp(diff, 1 - betas[1])
    n = n.lerp((grad + betas[1] * diff) ** 2, 1 - betas[2])
    c1, c2, c3 = (1 - b**step for b in betas)
    update = (m / c1 + betas[1] * v / c2) / ((n / c3).sqrt() + eps)
    return {"m": m, "v": v, "n": n, "pre": grad, "update": update}


def ademamix(
    grad,
    exp_avg,
    exp_avg_sq,
    step,
    betas=(0.9, 0.999),
    beta3=0.9999,
    alpha=5.0,
    warmup=10,
    eps=1e-8,
    slow=weft.zeros,
):
    a = min(step * alpha / warmup, alpha)
    low = math.log(betas[0])
    b3 = min(
        math.exp(
            low * math.log(beta3) / ((1 - step / warmup) * math.log(beta3) + (step / warmup) * low)
        ),
        beta3,
    )
    slow = slow * b3 + grad * (1 - b3)
    top = exp_avg / (1 - betas[0] ** step) + a * slow
    return {"slow": slow, "update": top / ((exp_avg_sq / (1 - betas[1] ** step)).sqrt() + eps)}


def sophia(grad, step, betas=(0.96, 0.99), rho=0.04, k=3, exp_avg=weft.zeros, hess=weft.zeros):
    exp_avg = exp_avg * betas[0] + grad * (1 - betas[0])
    if step % k == 1:
        hess = hess * betas[1] + grad * grad * (1 - betas[1])
    return {
        "exp_avg": exp_avg,
        "hess": hess,
        "update": (exp_avg / (rho * hess + 1e-12)).clamp(-1, 1),
    }


def lookahead(p, step, k=3, slow_weight=0.5, slow=weft.copy_of_param):
    if step % k == 0:
        slow = slow.lerp(p, slow_weight)
        return {"p": slow, "slow": slow}
    return None


def schedule_free(p, grad, lr, step, momentum=0.9, z=weft.copy_of_param):
    ckp1 = 1 / step
    y = p.lerp(z, ckp1) + grad * (lr * (momentum * (1 - ckp1) - 1))
    return {"z": z - lr * grad, "p": y}


def grokfast(grad, alpha=0.98, lamb=2.0, slow_grad=weft.zeros):
    slow_grad = alpha * slow_grad + (1 - alpha) * grad
    return {"slow_grad": slow_grad, "grad": grad + lamb * slow_grad}


def stable(grad, exp_avg_sq, update, eps=1e-8):
    rms = (grad.square() / exp_avg_sq.clamp(min=eps**2)).mean().sqrt()
    return {"update": update / rms.clamp(min=1)}


def mars(grad, step, gamma=0.025, betas=(0.95, 0.99), last=weft.zeros):
    c = grad + gamma * betas[0] / (1 - betas[0]) * (grad - last)
    norm = c.norm()
    c = torch.where(norm > 1, c / norm, c)
    return {"grad": c, "last": grad}


grad_norm = weft.over_params("grad_sq_norm", lambda grad: grad.square().sum())


def clip_global(grad, grad_sq_norm, max_norm=1.0):
    return {"grad": grad * (max_norm / (grad_sq_norm.sqrt() + 1e-6)).clamp(max=1)}


def clip_value(grad, clip=0.5):
    return {"grad": grad.clamp(-clip, clip)}


def agc(p, grad, clip=0.01, eps=1e-3):
    dims = tuple(range(1, p.ndim)) if p.ndim > 1 else None
    unit = lambda x: x.norm(dim=dims, keepdim=p.ndim > 1)
    limit = unit(p).clamp_(min=eps) * clip
    size = unit(grad)
    return {"grad": torch.where(size > limit, grad * (limit / size.clamp(min=1e-6)), grad)}


numerator = weft.over_params(
    "numerator", lambda p, grad, p0=weft.copy_of_param: (grad * (p0 - p)).sum()
)
denominator = weft.over_params("denominator", lambda grad: grad.abs().sum())


def prodigy(grad, numerator, denominator, lr, d=weft.shared(1e-3)):
    d_new = torch.maximum(torch.as_tensor(d), numerator / denominator.clamp(min=1e-12))
    return {"d": d_new, "update": grad * d}


def newton_schulz(g, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + 1e-7)
    tall = x.size(0) > x.size(1)
    if tall:
        x = x.T
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if tall else x


def muon(grad, momentum=0.95, steps=5, momentum_buffer=weft.zeros):
    buf = momentum_buffer.lerp(grad, 1 - momentum)
    update = newton_schulz(grad.lerp(buf, momentum), steps)
    return {"momentum_buffer": buf, "update": update * max(1, grad.size(0) / grad.size(1)) ** 0.5}


def shampoo(
    grad,
    step,
    L=weft.state(lambda p: torch.eye(p.shape[0], device=p.device)),
    R=weft.state(lambda p: torch.eye(p.shape[1], device=p.device)),
):
    L = L + grad @ grad.t()
    R = R + grad.t() @ grad

    def root(m):
        values, vectors = torch.linalg.eigh(m)
        return vectors @ torch.diag(values.clamp(min=1e-6) ** -0.25) @ vectors.mT

    return {"L": L, "R": R, "update": root(L) @ grad @ root(R)}


def adopt(grad, step, betas=(0.9, 0.9999), eps=1e-6, exp_avg=weft.zeros, exp_avg_sq=weft.zeros):
    if step == 1:
        return {"exp_avg_sq": grad * grad, "update": torch.zeros_like(grad)}
    normed = (grad / exp_avg_sq.sqrt().clamp(min=eps)).clamp(-(step**0.25), step**0.25)
    exp_avg = exp_avg.lerp(normed, 1 - betas[0])
    return {
        "exp_avg": exp_avg,
        "update": exp_avg,
        "exp_avg_sq": exp_avg_sq.lerp(grad * grad, 1 - betas[1]),
    }


def came_like(
    grad,
    betas=(0.9, 0.99),
    eps=1e-16,
    exp_avg=weft.zeros,
    res=weft.state(lambda p: p.new_zeros(p.shape[0])),
):
    exp_avg = exp_avg * betas[0] + grad * (1 - betas[0])
    instability = (grad - exp_avg).square().add_(eps)
    res = res * betas[1] + instability.flatten(1).mean(1) * (1 - betas[1])
    return {
        "exp_avg": exp_avg,
        "res": res,
        "update": exp_avg / res.sqrt().view(-1, *[1] * (grad.dim() - 1)),
    }


ADAM = (ema, ema_sq)
PAPERS = [
    Chain("nesterov", (nesterov, descend)),
    Chain("adam", (*ADAM, adam_update, descend)),
    Chain("adamw", (decay, *ADAM, adam_update, descend), {"lr": 0.01, "weight_decay": 0.1}),
    Chain("amsgrad", (*ADAM, amsgrad, descend)),
    Chain("nadam", (*ADAM, nadam, descend)),
    Chain("radam", (*ADAM, radam, descend), {"lr": 0.01}, traces=2),
    Chain("adamax", (ema, adamax, descend)),
    Chain("adagrad", (adagrad, descend)),
    Chain("adadelta", (adadelta, descend), {"lr": 1.0}),
    Chain("rprop", (rprop,), {}),
    Chain("rmsprop centered", (rmsprop, descend)),
    Chain("asgd", (asgd,)),
    Chain("lion", (lion, descend), {"lr": 0.01}),
    Chain("signum", (signum, descend), {"lr": 0.01}),
    Chain("cautious adamw", (decay, *ADAM, adam_update, cautious, descend), {"lr": 0.01}),
    Chain("adabelief", (ema, adabelief, adam_update, descend), {"lr": 0.01}),
    Chain("yogi", (ema, yogi, adam_update, descend), {"lr": 0.01}),
    Chain("lamb", (*ADAM, adam_update, lamb, descend), {"lr": 0.01}),
    Chain("lars", (lars, nesterov, descend)),
    Chain("adafactor", (adafactor, descend), {"lr": 0.01}, MATRIX),
    Chain("centralized adam", (centralize, *ADAM, adam_update, descend), {"lr": 0.01}, ((4, 3, 2), (6,))),
    Chain("adan", (adan, descend), {"lr": 0.01}, traces=2),
    Chain("ademamix", (*ADAM, ademamix, descend), {"lr": 0.01}),
    Chain("sophia", (sophia, descend), {"lr": 0.01}, traces=2),
    Chain("lookahead adam", (*ADAM, adam_update, descend, lookahead), {"lr": 0.01}, traces=2),
    Chain("schedule free", (schedule_free,), {"lr": 0.05}),
    Chain("grokfast", (grokfast, *ADAM, adam_update, descend), {"lr": 0.01}),
    Chain("stable adamw", (decay, *ADAM, adam_update, stable, descend), {"lr": 0.01}),
    Chain("mars", (mars, *ADAM, adam_update, descend), {"lr": 0.01}),
    Chain("clip global norm", (grad_norm, clip_global, nesterov, descend)),
    Chain("clip value", (clip_value, descend)),
    Chain("agc", (agc, nesterov, descend)),
    Chain("prodigy", (numerator, denominator, prodigy, descend), {"lr": 1.0}),
    Chain("muon", (muon, descend), {"lr": 0.01}, MATRIX),
    Chain("shampoo", (shampoo, descend), {"lr": 0.01}, MATRIX, tolerance=1e-3),
    Chain("adopt", (adopt, descend), {"lr": 0.01}, traces=2),
    Chain("came like", (came_like, descend), {"lr": 0.01}, ((4, 6), (3, 2, 2))),
]  # fmt: skip
