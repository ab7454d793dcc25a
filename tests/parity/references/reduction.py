"""References that reduce over a tensor or its rows: trust ratios, factored moments, projections."""

# ruff: noqa: RUF012  (a table of defaults is never written to)
from __future__ import annotations

import math

import torch

from .adaptive import AdamW
from .base import Reference, reference, unit_norm
from .pointwise import SGD


def rms(x):
    return x.square().mean().sqrt().item()


@reference("lars")
class LARS(Reference):
    """r = trust ||p|| / (||g|| + wd ||p|| + eps); b <- mu b + r (g + wd p); p <- p - lr b.

    r is 1 where either norm is 0. The paper has lr inside b: the same while lr is constant;
    pytorch_optimizer, timm and optax have it outside, as here. exclude_1d (pytorch_optimizer)
    leaves vectors to plain SGD, without decay; the paper adapts every layer.
    """

    paper = "You et al. 2017, 1708.03888"
    defaults = {
        "lr": 0.1,
        "momentum": 0.9,
        "dampening": 0.0,
        "weight_decay": 0.0,
        "trust_coefficient": 1e-3,
        "eps": 0.0,
        "nesterov": False,
        "exclude_1d": False,
    }

    def init(self):
        self.buf = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, b in zip(self.params, grads, self.buf):
            if p.ndim > 1 or not h.exclude_1d:
                p_norm, g_norm = p.norm().item(), g.norm().item()
                r = 1.0
                if p_norm > 0 and g_norm > 0:
                    r = h.trust_coefficient * p_norm / (g_norm + h.weight_decay * p_norm + h.eps)
                g = r * (g + h.weight_decay * p)
            b.copy_(h.momentum * b + (1 - h.dampening) * g)
            p -= h.lr * (g + h.momentum * b if h.nesterov else b)


@reference("larc")
class LARC(Reference):
    """LARS whose rate never exceeds lr: g <- min(r / lr, 1) (g + wd p), then SGD with momentum."""

    paper = "You et al. 2017, 1708.03888, as clipped in NVIDIA apex"
    defaults = {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "trust_coefficient": 0.02,
        "eps": 1e-8,
        "clip": True,
    }

    def init(self):
        self.buf = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, b in zip(self.params, grads, self.buf):
            p_norm, g_norm = p.norm().item(), g.norm().item()
            if p_norm > 0 and g_norm > 0:
                r = h.trust_coefficient * p_norm / (g_norm + h.weight_decay * p_norm + h.eps)
                if h.clip:
                    r = min(r / h.lr, 1.0)
                g = r * (g + h.weight_decay * p)
            b.copy_(h.momentum * b + g)
            p -= h.lr * b


@reference("lamb")
class LAMB(Reference):
    """u = m_hat / (sqrt(v_hat) + eps) + wd p; p <- p - lr ||p|| / ||u|| u, per tensor.

    The ratio is 1 where a norm is 0; phi is the identity (its first versions, and
    pytorch_optimizer: norms clamped at 10, no debiasing). timm and apex first clip by the global norm
    and adapt only where wd != 0; fastai takes RMS and caps the ratio at 10.
    """

    paper = "You et al. 2019, 1904.00962, Algorithm 2"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-6,
        "weight_decay": 0.01,
        "debias": True,
    }
    largest = float("inf")

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        c1, c2 = (1 - b1**self.t, 1 - b2**self.t) if h.debias else (1.0, 1.0)
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            u = (m / c1) / ((v / c2).sqrt() + h.eps) + h.weight_decay * p
            p_norm, u_norm = p.norm().item(), u.norm().item()
            ratio = p_norm / u_norm if p_norm > 0 and u_norm > 0 else 1.0
            p -= h.lr * min(ratio, self.largest) * u


@reference("lambc")
class LAMBC(LAMB):
    """LAMB whose ratio is at most 1."""

    paper = "You et al. 2019, 1904.00962; the clip as timm's trust_clip"
    largest = 1.0


@reference("stable_adamw")
class StableAdamW(Reference):
    """AdamW with b_hat_t = b (1 - b^(t-1))/(1 - b^t) for debiasing, and lr / max(1, RMS).

    RMS = sqrt(mean(g^2 / max(v, eps^2))), per tensor; decay uses the divided rate too.
    """

    paper = "Wortsman et al. 2023, 2304.13013, Algorithm 2"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 1e-2}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = [b * (1 - b ** (self.t - 1)) / (1 - b**self.t) for b in h.betas]
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            lr = h.lr / max(1.0, (g**2 / v.clamp(min=h.eps**2)).mean().sqrt().item())
            p *= 1 - lr * h.weight_decay
            p -= lr * m / (v.sqrt() + h.eps)


@reference("adafactor")
class Adafactor(Reference):
    """torch.optim.Adafactor: rows and columns of g^2 in place of g^2, updates clipped in RMS.

    b2 = 1 - t^beta2_decay; rate max(eps2, RMS(p)) min(lr, 1/sqrt(t)); torch clamps the row mean
    at eps1 and the estimate at eps1^2, eps1 the machine epsilon. Tensors of more than two
    dimensions are batches of matrices in their last two.
    """

    paper = "Shazeer & Stern 2018, 1804.04235 (torch.optim.Adafactor)"
    defaults = {"lr": 1e-2, "beta2_decay": -0.8, "eps": (None, 1e-3), "d": 1.0, "weight_decay": 0.0}

    def init(self):
        self.row, self.col, self.v = {}, {}, {}

    def update(self, grads):
        h = self.h
        eps1, eps2 = h.eps
        eps1 = torch.finfo(torch.float64).eps if eps1 is None else eps1
        w = self.t**h.beta2_decay
        for i, (p, g) in enumerate(zip(self.params, grads)):
            alpha = max(eps2, rms(p)) * min(h.lr, 1 / math.sqrt(self.t))
            p *= 1 - h.lr * h.weight_decay
            if g.ndim > 1:
                row, col = (g**2).mean(-1, keepdim=True), (g**2).mean(-2, keepdim=True)
                self.row[i] = (1 - w) * self.row.get(i, 0.0) + w * row
                self.col[i] = (1 - w) * self.col.get(i, 0.0) + w * col
                v = self.row[i] * self.col[i] / self.row[i].mean(-2, keepdim=True).clamp(min=eps1)
            else:
                v = self.v[i] = (1 - w) * self.v.get(i, 0.0) + w * g**2
            u = g / v.clamp(min=eps1**2).sqrt()
            p -= alpha / max(1.0, rms(u) / h.d) * u


@reference("adafactor_paper")
class AdafactorPaper(Reference):
    """Adafactor as its paper's Algorithms 4 and 5: eps1 is added to g^2, no decay, no momentum."""

    paper = "Shazeer & Stern 2018, 1804.04235"
    defaults = {"lr": 1e-2, "beta2_decay": -0.8, "eps": (1e-30, 1e-3), "d": 1.0}

    def init(self):
        self.row, self.col, self.v = {}, {}, {}

    def update(self, grads):
        h = self.h
        w = self.t**h.beta2_decay
        for i, (p, g) in enumerate(zip(self.params, grads)):
            sq = g**2 + h.eps[0]
            if g.ndim > 1:
                self.row[i] = (1 - w) * self.row.get(i, 0.0) + w * sq.sum(-1, keepdim=True)
                self.col[i] = (1 - w) * self.col.get(i, 0.0) + w * sq.sum(-2, keepdim=True)
                v = self.row[i] * self.col[i] / self.row[i].sum(-2, keepdim=True)
            else:
                v = self.v[i] = (1 - w) * self.v.get(i, 0.0) + w * sq
            u = g / v.sqrt()
            u = u / max(1.0, rms(u) / h.d)
            p -= max(h.eps[1], rms(p)) * min(h.lr, 1 / math.sqrt(self.t)) * u


@reference("came")
class CAME(Reference):
    """Adafactor's u (clipped, averaged to m), divided by the root of a factored (u - m)^2.

    Averages are plain (betas, no debiasing). Vectors are not factored and get no
    confidence term: p <- p - lr m. Decay is decoupled.
    """

    paper = "Luo et al. 2023 (ACL), 2307.02047"
    defaults = {
        "lr": 2e-4,
        "betas": (0.9, 0.999, 0.9999),
        "eps": (1e-30, 1e-16),
        "clip_threshold": 1.0,
        "weight_decay": 0.0,
    }

    def init(self):
        self.m, self.v, self.row, self.col = self.zeros(), self.zeros(), {}, {}

    def factored(self, key, x, beta):
        self.row[key] = beta * self.row.get(key, 0.0) + (1 - beta) * x.mean(-1, keepdim=True)
        self.col[key] = beta * self.col.get(key, 0.0) + (1 - beta) * x.mean(-2, keepdim=True)
        return self.row[key] * self.col[key] / self.row[key].mean(-2, keepdim=True)

    def update(self, grads):
        h = self.h
        b1, b2, b3 = h.betas
        for i, (p, g, m, v) in enumerate(zip(self.params, grads, self.m, self.v)):
            p *= 1 - h.lr * h.weight_decay
            sq = g**2 + h.eps[0]
            v.copy_(b2 * v + (1 - b2) * sq)
            u = g / (self.factored(("v", i), sq, b2) if g.ndim > 1 else v).sqrt()
            u = u / max(1.0, rms(u) / h.clip_threshold)
            m.copy_(b1 * m + (1 - b1) * u)
            if g.ndim > 1:
                s = self.factored(("s", i), (u - m) ** 2 + h.eps[1], b3)
                p -= h.lr * m / s.sqrt()
            else:
                p -= h.lr * m


@reference("adam_mini")
class AdamMini(Reference):
    """AdamW with one v per block: v <- b2 v + (1 - b2) mean(g^2 over the block).

    The paper's blocks follow the model: a head of query and key, a tensor elsewhere, a row
    of an embedding or an output layer. Here blocks="tensor" or "row" (output unit; a vector is
    one block either way) for all.
    """

    paper = "Zhang et al. 2024, 2406.16793"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.95),
        "eps": 1e-8,
        "weight_decay": 0.1,
        "blocks": "tensor",
    }

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for i, (p, g, m) in enumerate(zip(self.params, grads, self.m)):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            if h.blocks == "row" and g.ndim > 1:
                mean = (g**2).mean(tuple(range(1, g.ndim)), keepdim=True)
            else:
                mean = (g**2).mean()
            self.v[i] = b2 * self.v[i] + (1 - b2) * mean
            m_hat, v_hat = m / (1 - b1**self.t), self.v[i] / (1 - b2**self.t)
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("novograd")
class NovoGrad(Reference):
    """v <- b2 v + (1 - b2)||g||^2, one per tensor; m <- b1 m + (g/(sqrt(v) + eps) + wd p).

    v starts at the first ||g||^2, m at the first term, whatever grad_averaging (which weighs
    later terms with 1 - b1).
    """

    paper = "Ginsburg et al. 2019, 1905.11286"
    defaults = {
        "lr": 1e-3,
        "betas": (0.95, 0.98),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "grad_averaging": False,
    }

    def init(self):
        self.m, self.v = self.zeros(), self.scalars()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for i, (p, g) in enumerate(zip(self.params, grads)):
            sq = (g**2).sum()
            self.v[i] = sq if self.t == 1 else b2 * self.v[i] + (1 - b2) * sq
            term = g / (self.v[i].sqrt() + h.eps) + h.weight_decay * p
            if self.t == 1:
                self.m[i] = term
            else:
                weight = 1 - b1 if h.grad_averaging else 1
                self.m[i] = b1 * self.m[i] + weight * term
            p -= h.lr * self.m[i]


def project_out(p, g, u, delta, eps):
    """u without its part along p, if g is nearly orthogonal to p; and whether it was.

    First asked of every output unit at once (the largest cosine counts), then of the tensor.
    """
    for view in (lambda x: x.reshape(x.shape[0], -1), lambda x: x.reshape(1, -1)):
        pv, gv, uv = view(p), view(g), view(u)
        cosine = (pv * gv).sum(1) / ((pv.norm(dim=1) + eps) * (gv.norm(dim=1) + eps))
        if cosine.abs().max() < delta / math.sqrt(pv.shape[1]):
            unit = pv / (pv.norm(dim=1, keepdim=True) + eps)
            return (uv - unit * (unit * uv).sum(1, keepdim=True)).reshape(p.shape), True
    return u, False


@reference("adamp")
class AdamP(Reference):
    """AdamW whose update loses its radial part where g is nearly orthogonal to p.

    There the decay is multiplied by wd_ratio. Vectors are never projected.
    """

    paper = "Heo et al. 2020, 2006.08217"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "delta": 0.1,
        "wd_ratio": 0.1,
        "nesterov": False,
    }

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            top = b1 * m + (1 - b1) * g if h.nesterov else m
            u = top / (1 - b1**self.t) / ((v / (1 - b2**self.t)).sqrt() + h.eps)
            projected = False
            if p.ndim > 1:
                u, projected = project_out(p, g, u, h.delta, h.eps)
            p *= 1 - h.lr * h.weight_decay * (h.wd_ratio if projected else 1)
            p -= h.lr * u


@reference("sgdp")
class SGDP(Reference):
    """SGD with momentum, its update projected as AdamP's; decay lr wd ratio / (1 - mu)."""

    paper = "Heo et al. 2020, 2006.08217"
    defaults = {
        "lr": 0.1,
        "momentum": 0.9,
        "dampening": 0.0,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "delta": 0.1,
        "wd_ratio": 0.1,
        "nesterov": False,
    }

    def init(self):
        self.buf = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, b in zip(self.params, grads, self.buf):
            b.copy_(h.momentum * b + (1 - h.dampening) * g)
            u = g + h.momentum * b if h.nesterov else b.clone()
            projected = False
            if p.ndim > 1:
                u, projected = project_out(p, g, u, h.delta, h.eps)
            ratio = h.wd_ratio if projected else 1
            p *= 1 - h.lr * h.weight_decay * ratio / (1 - h.momentum)
            p -= h.lr * u


@reference("adagc")
class AdaGC(Reference):
    """AdamW on g clipped, per tensor, to lambda_rel times an average of its clipped norms.

    Until warmup_steps g is clipped by the global norm to lambda_abs, and the average is the
    smallest norm seen.
    """

    paper = "Wang et al. 2025, 2502.11034"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "beta": 0.98,
        "lambda_abs": 1.0,
        "lambda_rel": 1.05,
        "warmup_steps": 100,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }

    def init(self):
        self.m, self.v, self.gamma = self.zeros(), self.zeros(), self.scalars(float("inf"))

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        total = math.sqrt(sum((g**2).sum().item() for g in grads))
        for i, (p, g, m, v) in enumerate(zip(self.params, grads, self.m, self.v)):
            p *= 1 - h.lr * h.weight_decay
            if self.t < h.warmup_steps or self.t == 1:
                g = g * min(h.lambda_abs / (total + h.eps), 1.0)
                self.gamma[i] = min(self.gamma[i], g.norm().item())
            else:
                g = g * min(h.lambda_rel * self.gamma[i] / max(g.norm().item(), h.eps), 1.0)
                self.gamma[i] = h.beta * self.gamma[i] + (1 - h.beta) * g.norm().item()
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("gravity")
class Gravity(Reference):
    """zeta = g / (1 + (g max|g|)^2); V <- b_t V + (1 - b_t) zeta, b_t = (beta t + 1)/(t + 2).

    V starts at random, N(0, alpha / lr): drawn from torch's global generator in parameter
    order. alpha = 0 starts it at zero.
    """

    paper = "Bahrami & Zadeh 2021, 2101.09192"
    defaults = {"lr": 0.1, "alpha": 0.01, "beta": 0.9}

    def init(self):
        std = self.h.alpha / self.h.lr
        self.V = [torch.empty_like(p).normal_(0.0, std) for p in self.params]

    def update(self, grads):
        h = self.h
        beta = (h.beta * self.t + 1) / (self.t + 2)
        for p, g, V in zip(self.params, grads, self.V):
            zeta = g / (1 + (g * g.abs().max()) ** 2)
            V.copy_(beta * V + (1 - beta) * zeta)
            p -= h.lr * V


@reference("sm3")
class SM3(Reference):
    """SM3-II: nu = min of its covers' accumulators + g^2; each accumulator <- max of nu over it.

    The covers are the slices along each dimension. u = g / sqrt(nu + eps); momentum averages u.
    """

    paper = "Anil et al. 2019, 1901.11150, Algorithm SM3-II"
    defaults = {"lr": 0.1, "momentum": 0.0, "eps": 1e-30}

    def init(self):
        self.m = self.zeros()
        self.acc = [[0.0] * max(p.ndim, 1) for p in self.params]

    def update(self, grads):
        h = self.h
        for p, g, m, acc in zip(self.params, grads, self.m, self.acc):
            nu = torch.full_like(g, float("inf"))
            for a in acc:
                nu = torch.minimum(nu, torch.as_tensor(a, dtype=g.dtype))
            nu = nu + g**2
            for d in range(g.ndim):
                others = [k for k in range(g.ndim) if k != d]
                acc[d] = nu.amax(others, keepdim=True) if others else nu
            if g.ndim == 0:
                acc[0] = nu
            u = g / (nu + h.eps).sqrt()
            m.copy_(h.momentum * m + (1 - h.momentum) * u)
            p -= h.lr * m


@reference("nero")
class Nero(Reference):
    """g normalised by an average norm per neuron; p kept of zero mean and unit norm per neuron.

    p <- p - lr s g / sqrt(v_hat), s the mean neuron norm at the start (0.01 if that is 0),
    after the matrices were put on the constraint. A vector's neurons are its entries, and it is not
    constrained. pytorch_optimizer adds eps to the norms it divides by.
    """

    paper = "Liu et al. 2021, 2102.07227"
    defaults = {"lr": 1e-2, "beta": 0.999, "constraints": True, "eps": 1e-8}

    def neuron_norm(self, x):
        return unit_norm(x) if x.ndim > 1 else x.abs()

    def constrain(self, p):
        if self.h.constraints and p.ndim > 1:
            p -= p.mean(tuple(range(1, p.ndim)), keepdim=True)
            p /= self.neuron_norm(p) + self.h.eps

    def init(self):
        for p in self.params:
            self.constrain(p)
        self.v = [torch.zeros_like(self.neuron_norm(p)) for p in self.params]
        self.s = [self.neuron_norm(p).mean().item() or 0.01 for p in self.params]

    def update(self, grads):
        h = self.h
        for p, g, v, s in zip(self.params, grads, self.v, self.s):
            v.copy_(h.beta * v + (1 - h.beta) * self.neuron_norm(g) ** 2)
            p -= h.lr * s * g / ((v / (1 - h.beta**self.t)).sqrt() + h.eps)
            self.constrain(p)


@reference("madgrad")
class MADGRAD(Reference):
    """s <- s + l g, v <- v + l g^2, l = (lr + eps) sqrt(t); z = p0 - s / (cbrt(v) + eps).

    p <- mu p + (1 - mu) z. Past rates stay in s and v when lr changes.
    """

    paper = "Defazio & Jelassi 2021, 2101.11075"
    defaults = {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.0, "eps": 1e-6}

    def init(self):
        self.p0, self.s, self.v = self.copies(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        weight = (h.lr + h.eps) * math.sqrt(self.t)
        for p, g, p0, s, v in zip(self.params, grads, self.p0, self.s, self.v):
            g = g + h.weight_decay * p
            s += weight * g
            v += weight * g**2
            z = p0 - s / (v ** (1 / 3) + h.eps)
            p.copy_(h.momentum * p + (1 - h.momentum) * z)


@reference("fromage")
class Fromage(Reference):
    """p <- (p - lr ||p||/||g|| g) / sqrt(1 + lr^2); plain g where ||p|| is 0, no step where ||g|| is."""

    paper = "Bernstein et al. 2020, 2002.03432"
    defaults = {"lr": 1e-2}

    def update(self, grads):
        h = self.h
        for p, g in zip(self.params, grads):
            p_norm, g_norm = p.norm().item(), g.norm().item()
            if g_norm == 0:
                continue  # there is no growth to undo
            ratio = p_norm / g_norm if p_norm > 0 else 1.0
            p.copy_((p - h.lr * ratio * g) / math.sqrt(1 + h.lr**2))


# What acts on the gradient alone, before SGD or AdamW.


def clipped_to_units(p, g, clipping, eps):
    """NFNet's: each unit of g at most clipping max(||unit of p||, eps)."""
    limit = clipping * unit_norm(p).clamp(min=eps)
    norm = unit_norm(g)
    return torch.where(norm > limit, g * limit / norm.clamp(min=1e-6), g)


def clipped_to_norm(g, max_norm, eps):
    """torch's clip_grad_norm_ of one tensor."""
    return g * min(1.0, max_norm / (g.norm().item() + eps))


def centralized(g):
    """Each output unit of a matrix or kernel loses its mean; vectors stay."""
    return g - g.mean(tuple(range(1, g.ndim)), keepdim=True) if g.ndim > 1 else g


def orthogonal_to(p, g, eps=1e-30):
    """g without its part along p, rescaled to g's norm; the tensor is one vector.

    One element has no other part: what rounding leaves of it would be noise, scaled up.
    """
    if g.numel() == 1:
        return torch.zeros_like(g)
    rest = g - (p * g).sum() / ((p * p).sum() + eps) * p
    return rest * g.norm() / (rest.norm() + eps)


@reference("sgd_agc")
class SGDAGC(SGD):
    """SGD on gradients clipped per output unit to clipping max(||p||, agc_eps).

    Units as in base.unit_norm: rows, output channels, whole vectors. HeavyBall clips whole tensors.
    """

    paper = "Brock et al. 2021, 2102.06171 (AGC)"
    defaults = {**SGD.defaults, "clipping": 0.01, "agc_eps": 1e-3}

    def update(self, grads):
        h = self.h
        super().update(
            [clipped_to_units(p, g, h.clipping, h.agc_eps) for p, g in zip(self.params, grads)]
        )


@reference("adamw_agc")
class AdamWAGC(AdamW):
    """AdamW on gradients clipped per output unit to clipping max(||p||, agc_eps)."""

    paper = "Brock et al. 2021, 2102.06171 (AGC)"
    defaults = {**AdamW.defaults, "clipping": 0.01, "agc_eps": 1e-3}

    def update(self, grads):
        h = self.h
        super().update(
            [clipped_to_units(p, g, h.clipping, h.agc_eps) for p, g in zip(self.params, grads)]
        )


@reference("adamw_clip_tensor")
class AdamWClipTensor(AdamW):
    """AdamW on gradients scaled by min(1, max_norm / (||g|| + clip_eps)) each, as torch's clip."""

    paper = "Pascanu et al. 2013, 1211.5063 (per tensor)"
    defaults = {**AdamW.defaults, "max_norm": 1.0, "clip_eps": 1e-6}

    def update(self, grads):
        super().update([clipped_to_norm(g, self.h.max_norm, self.h.clip_eps) for g in grads])


@reference("adamw_clip_value")
class AdamWClipValue(AdamW):
    """AdamW on gradients whose elements lie in +-clip_value."""

    paper = "Mikolov 2012 (as torch's clip_grad_value_)"
    defaults = {**AdamW.defaults, "clip_value": 1.0}

    def update(self, grads):
        super().update([g.clamp(-self.h.clip_value, self.h.clip_value) for g in grads])


@reference("sgd_centralized")
class SGDCentralized(SGD):
    """SGD on centralized gradients: zero mean per output unit (matrices and kernels)."""

    paper = "Yong et al. 2020, 2004.01461"

    def update(self, grads):
        super().update([centralized(g) for g in grads])


@reference("adamw_centralized")
class AdamWCentralized(AdamW):
    """AdamW on centralized gradients: zero mean per output unit (matrices and kernels)."""

    paper = "Yong et al. 2020, 2004.01461"

    def update(self, grads):
        super().update([centralized(g) for g in grads])


@reference("sgd_orthograd")
class SGDOrthoGrad(SGD):
    """SGD on gradients made orthogonal to their parameter, at their former norm."""

    paper = "Prieto et al. 2025, 2501.04697"

    def update(self, grads):
        super().update([orthogonal_to(p, g) for p, g in zip(self.params, grads)])


@reference("adamw_orthograd")
class AdamWOrthoGrad(AdamW):
    """AdamW on gradients made orthogonal to their parameter, at their former norm."""

    paper = "Prieto et al. 2025, 2501.04697"

    def update(self, grads):
        super().update([orthogonal_to(p, g) for p, g in zip(self.params, grads)])


@reference("sgd_sai")
class SGDSaI(Reference):
    """p <- (1 - lr wd) p - lr s m, s = ||g_1|| / (std(g_1) + eps), once for each tensor.

    The deviation is the unbiased one, over the tensor; s = ||g_1|| where it is 0, and in
    pytorch_optimizer for all vectors (vectors=False).
    """

    paper = "Xu et al. 2024, 2412.11768"
    defaults = {"lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-2, "eps": 1e-8, "vectors": True}

    def init(self):
        self.m, self.s = self.zeros(), self.scalars()

    def update(self, grads):
        h = self.h
        for i, (p, g, m) in enumerate(zip(self.params, grads, self.m)):
            if self.t == 1:
                has_std = g.numel() > 1 and (g.ndim > 1 or h.vectors)
                std = g.std().item() if has_std else 0.0
                self.s[i] = g.norm().item() / (std + h.eps) if std != 0 else g.norm().item()
            p *= 1 - h.lr * h.weight_decay
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            p -= h.lr * self.s[i] * m


@reference("stable_spam")
class StableSPAM(Reference):
    """AdamW on g whose spikes are cut and whose norm is adapted; moments reset every so often.

    M averages max|g| (theta): where |g| > M_hat, g <- g / max|g| M_hat. Then a, b average the
    norm and its square (gamma1, gamma2): g <- g / ||g|| a_hat / (sqrt(b_hat) + eps). At every
    reset_interval-th step m and v start again and their debiasing counts from 1.
    """

    paper = "Huang et al. 2025, 2502.17055"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "gamma1": 0.7,
        "gamma2": 0.9,
        "theta": 0.999,
        "reset_interval": 1000,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }

    def init(self):
        self.m, self.v, self.k = self.zeros(), self.zeros(), 0
        self.M, self.a, self.b = self.scalars(), self.scalars(), self.scalars()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        self.k += 1
        if self.t % h.reset_interval == 0:
            self.m, self.v, self.k = self.zeros(), self.zeros(), 1
        for i, (p, g, m, v) in enumerate(zip(self.params, grads, self.m, self.v)):
            p *= 1 - h.lr * h.weight_decay
            largest = g.abs().max()
            self.M[i] = h.theta * self.M[i] + (1 - h.theta) * largest
            limit = self.M[i] / (1 - h.theta**self.t)
            g = torch.where(g.abs() > limit, g / largest * limit, g)
            norm = g.norm()
            self.a[i] = h.gamma1 * self.a[i] + (1 - h.gamma1) * norm
            self.b[i] = h.gamma2 * self.b[i] + (1 - h.gamma2) * norm**2
            a_hat = self.a[i] / (1 - h.gamma1**self.t)
            b_hat = self.b[i] / (1 - h.gamma2**self.t)
            g = g / norm * a_hat / (b_hat.sqrt() + h.eps)
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_hat, v_hat = m / (1 - b1**self.k), v / (1 - b2**self.k)
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("adamh")
class AdamH(Reference):
    """Hyperball on Adam: W <- R n(W - lr R n(U)), U = m_hat / (sqrt(v_hat) + eps), R = ||W_0||.

    n(X) = X / ||X||, over the tensor. Nothing happens where a norm is 0; no weight decay.
    """

    paper = "Wen et al. 2026, 2606.16899"
    defaults = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()
        self.radius = [p.norm() for p in self.params]

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v, radius in zip(self.params, grads, self.m, self.v, self.radius):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            u = (m / (1 - b1**self.t)) / ((v / (1 - b2**self.t)).sqrt() + h.eps)
            w = p - h.lr * radius * u / u.norm()
            p.copy_(radius * w / w.norm())
