"""References for Adam and its kin: a mean of gradients over a root of a mean of squares."""

# ruff: noqa: RUF012  (a table of defaults is never written to)
from __future__ import annotations

import math

import torch

from .base import Reference, reference


@reference("adam")
class Adam(Reference):
    """g <- g + wd p; m, v <- averages of g, g^2; p <- p - lr m_hat / (sqrt(v_hat) + eps).

    As torch.optim.Adam. amsgrad takes the largest v, then debiases it (optax: the largest
    debiased v). keras folds the debiasing into lr, so its eps weighs more in early steps.
    """

    paper = "Kingma & Ba 2014, 1412.6980; Reddi et al. 2018 (amsgrad)"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "amsgrad": False,
    }
    decoupled = False

    def init(self):
        self.m, self.v, self.v_max = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v, v_max in zip(self.params, grads, self.m, self.v, self.v_max):
            if self.decoupled:
                p *= 1 - h.lr * h.weight_decay
            else:
                g = g + h.weight_decay * p
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            v_max.copy_(torch.maximum(v_max, v))
            m_hat = m / (1 - b1**self.t)
            v_hat = (v_max if h.amsgrad else v) / (1 - b2**self.t)
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("amsgrad")
class AMSGrad(Adam):
    """Adam with the largest v so far, as torch.optim.Adam(amsgrad=True)."""

    paper = "Reddi et al. 2018, openreview ryQu7f-RZ (with the bias corrections of torch)"
    defaults = {**Adam.defaults, "amsgrad": True}


@reference("adamw")
class AdamW(Adam):
    """p <- (1 - lr wd) p, then Adam on the bare gradient, as torch.optim.AdamW.

    The paper's decay is not multiplied by the base lr, only by the schedule; torch's is.
    """

    paper = "Loshchilov & Hutter 2017, 1711.05101"
    defaults = {**Adam.defaults, "weight_decay": 1e-2}
    decoupled = True


@reference("adamax")
class Adamax(Reference):
    """u <- max(b2 u, |g| + eps); p <- p - lr m / ((1 - b1^t) u), as torch.

    keras adds eps to the denominator instead of inside the maximum.
    """

    paper = "Kingma & Ba 2014, 1412.6980, Algorithm 2"
    defaults = {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.m, self.u = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, u in zip(self.params, grads, self.m, self.u):
            g = g + h.weight_decay * p
            m.copy_(b1 * m + (1 - b1) * g)
            u.copy_(torch.maximum(b2 * u, g.abs() + h.eps))
            p -= h.lr / (1 - b1**self.t) * m / u


@reference("nadam")
class NAdam(Reference):
    """mu_t = b1 (1 - 0.96^(t psi) / 2); m_bar mixes g and m with mu_t and mu_{t+1}.

    As torch.optim.NAdam, psi = momentum_decay = 4e-3; keras has psi = 1.
    """

    paper = "Dozat 2016, Incorporating Nesterov Momentum into Adam"
    defaults = {
        "lr": 2e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "momentum_decay": 4e-3,
        "decoupled_weight_decay": False,
    }

    def init(self):
        self.m, self.v, self.product = self.zeros(), self.zeros(), 1.0

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        mu = b1 * (1 - 0.5 * 0.96 ** (self.t * h.momentum_decay))
        mu_next = b1 * (1 - 0.5 * 0.96 ** ((self.t + 1) * h.momentum_decay))
        self.product *= mu
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            if h.decoupled_weight_decay:
                p *= 1 - h.lr * h.weight_decay
            else:
                g = g + h.weight_decay * p
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_bar = (1 - mu) / (1 - self.product) * g
            m_bar = m_bar + mu_next / (1 - self.product * mu_next) * m
            p -= h.lr * m_bar / ((v / (1 - b2**self.t)).sqrt() + h.eps)


@reference("nadamw")
class NAdamW(Reference):
    """m_bar = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t); AdamW with m_bar for m_hat.

    AlgoPerf's baseline and optax.nadamw. timm debiases all of m_bar by 1 - b1^t. Without the
    mu product of Dozat's NAdam.
    """

    paper = "Dozat 2016; Dahl et al. 2023, 2306.07179 (AlgoPerf)"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_bar = b1 * m / (1 - b1 ** (self.t + 1)) + (1 - b1) * g / (1 - b1**self.t)
            v_hat = v / (1 - b2**self.t)
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * m_bar / (v_hat.sqrt() + h.eps)


@reference("radam")
class RAdam(Reference):
    """Adam times the rectification r_t where rho_t > 5, else p <- p - lr m_hat.

    As torch.optim.RAdam (the paper: rho_t > 4; eps is torch's addition, to the raw root).
    """

    paper = "Liu et al. 2019, 1908.03265"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "decoupled_weight_decay": False,
    }

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        rho_inf = 2 / (1 - b2) - 1
        rho = rho_inf - 2 * self.t * b2**self.t / (1 - b2**self.t)
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            if h.decoupled_weight_decay:
                p *= 1 - h.lr * h.weight_decay
            else:
                g = g + h.weight_decay * p
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_hat = m / (1 - b1**self.t)
            if rho > 5:
                r2 = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
                root = math.sqrt(1 - b2**self.t) / (v.sqrt() + h.eps)
                p -= h.lr * math.sqrt(r2) * m_hat * root
            else:
                p -= h.lr * m_hat


@reference("adabelief")
class AdaBelief(Reference):
    """s <- b2 s + (1 - b2)(g - m)^2 + eps; p <- p - lr m_hat / (sqrt(s_hat) + eps).

    eps enters twice: it accumulates in s, and is added to the root. Decay is decoupled.
    """

    paper = "Zhuang et al. 2020, 2010.07468"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-16, "weight_decay": 0.0}

    def init(self):
        self.m, self.s = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, s in zip(self.params, grads, self.m, self.s):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            s.copy_(b2 * s + (1 - b2) * (g - m) ** 2 + h.eps)
            m_hat, s_hat = m / (1 - b1**self.t), s / (1 - b2**self.t)
            p -= h.lr * m_hat / (s_hat.sqrt() + h.eps)


@reference("adabound")
class AdaBound(Reference):
    """Each element's rate lr sqrt(1 - b2^t)/(1 - b1^t)/(sqrt(v) + eps), clipped to bounds.

    Bounds final_lr (1 -+ ...): lower f (1 - 1/(gamma t + 1)), upper f (1 + 1/(gamma t)), where
    f = final_lr lr / lr_0 follows the schedule. As the authors' code: the paper's Algorithm 2
    has neither debiasing nor eps, and divides the rates by sqrt(t). Decay is decoupled.
    """

    paper = "Luo et al. 2019, 1902.09843 / openreview Bkg3g2R9FX"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "final_lr": 0.1,
        "gamma": 1e-3,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "amsbound": False,
    }

    def init(self):
        self.m, self.v, self.v_max = self.zeros(), self.zeros(), self.zeros()
        self.lr_0 = self.h.lr

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        f = h.final_lr * h.lr / self.lr_0
        lower = f * (1 - 1 / (h.gamma * self.t + 1))
        upper = f * (1 + 1 / (h.gamma * self.t))
        for p, g, m, v, v_max in zip(self.params, grads, self.m, self.v, self.v_max):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            v_max.copy_(torch.maximum(v_max, v))
            root = (v_max if h.amsbound else v).sqrt() + h.eps
            rate = h.lr * math.sqrt(1 - b2**self.t) / (1 - b1**self.t) / root
            p -= rate.clamp(lower, upper) * m


@reference("adamod")
class AdaMod(Reference):
    """eta = lr / (sqrt(v_hat) + eps); s <- b3 s + (1 - b3) eta; p <- p - min(eta, s) m_hat.

    The paper's Algorithm 1. The authors' code, and pytorch_optimizer, average the rate with
    1 / (1 - b1^t) already in it. Decay is decoupled.
    """

    paper = "Ding et al. 2019, 1910.12249"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999, 0.999), "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.m, self.v, self.s = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2, b3 = h.betas
        for p, g, m, v, s in zip(self.params, grads, self.m, self.v, self.s):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            eta = h.lr / ((v / (1 - b2**self.t)).sqrt() + h.eps)
            s.copy_(b3 * s + (1 - b3) * eta)
            p -= torch.minimum(eta, s) * m / (1 - b1**self.t)


@reference("padam")
class Padam(Reference):
    """p <- p - lr m_hat / (sqrt(v_hat) + eps)^(2 partial).

    The paper takes the largest v (amsgrad=True, the default here) and debiases nothing; its
    code debiases, as this does. pytorch_optimizer leaves the maximum out.
    """

    paper = "Chen et al. 2018, 1806.06763"
    defaults = {
        "lr": 0.1,
        "betas": (0.9, 0.999),
        "partial": 0.25,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "amsgrad": True,
    }

    def init(self):
        self.m, self.v, self.v_max = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v, v_max in zip(self.params, grads, self.m, self.v, self.v_max):
            g = g + h.weight_decay * p
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            v_max.copy_(torch.maximum(v_max, v))
            denominator = ((v_max if h.amsgrad else v).sqrt() + h.eps) ** (2 * h.partial)
            p -= h.lr * math.sqrt(1 - b2**self.t) / (1 - b1**self.t) * m / denominator


@reference("yogi")
class Yogi(Reference):
    """v <- v - (1 - b2) sign(v - g^2) g^2; p <- p - lr m_hat / (sqrt(v_hat) + eps).

    m and v start at 1e-6 and both are debiased, as in TF's, optax's and pytorch_optimizer's;
    the paper's Algorithm 2 debiases neither. Decay is decoupled.
    """

    paper = "Zaheer et al. 2018 (NeurIPS)"
    defaults = {
        "lr": 1e-2,
        "betas": (0.9, 0.999),
        "eps": 1e-3,
        "weight_decay": 0.0,
        "initial_accumulator": 1e-6,
    }

    def init(self):
        self.m = [torch.full_like(p, self.h.initial_accumulator) for p in self.params]
        self.v = [torch.full_like(p, self.h.initial_accumulator) for p in self.params]

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(v - (1 - b2) * (v - g**2).sign() * g**2)
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("adan")
class Adan(Reference):
    """m, v, n: averages of g, of the difference d = g - g_prev, and of (g + b2 d)^2.

    p <- (p - lr (m_hat + b2 v_hat) / (sqrt(n_hat) + eps)) / (1 + lr wd), or with no_prox decay
    first, p <- (1 - lr wd) p. Betas are torch-like, 1 minus the paper's. The first difference
    is 0. Debiasing is in the authors' code, not in Algorithm 1. Clipping is left out. optax
    0.2.8 weighs d with 1 - b2 for b2, though its b2 is torch-like: another algorithm.
    """

    paper = "Xie et al. 2022, 2208.06677"
    defaults = {
        "lr": 1e-3,
        "betas": (0.98, 0.92, 0.99),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "no_prox": False,
    }

    def init(self):
        self.m, self.v, self.n = self.zeros(), self.zeros(), self.zeros()
        self.prev = None

    def update(self, grads):
        h = self.h
        b1, b2, b3 = h.betas
        prevs = grads if self.prev is None else self.prev
        for p, g, prev, m, v, n in zip(self.params, grads, prevs, self.m, self.v, self.n):
            d = g - prev
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * d)
            n.copy_(b3 * n + (1 - b3) * (g + b2 * d) ** 2)
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            n_hat = n / (1 - b3**self.t)
            if h.no_prox:
                p *= 1 - h.lr * h.weight_decay
            p -= h.lr * (m_hat + b2 * v_hat) / (n_hat.sqrt() + h.eps)
            if not h.no_prox:
                p /= 1 + h.lr * h.weight_decay
        self.prev = grads


@reference("ademamix")
class AdEMAMix(Reference):
    """p <- p - lr ((m1_hat + alpha_t m2) / (sqrt(v_hat) + eps) + wd p).

    m2 is not debiased. With t_alpha, alpha_t = min(alpha t / t_alpha, alpha); with t_beta3, b3
    goes from b1 to b3 linearly in half-life, to a first approximation.
    """

    paper = "Pagliardini et al. 2024, 2409.03137"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999, 0.9999),
        "alpha": 5.0,
        "t_alpha": None,
        "t_beta3": None,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }

    def init(self):
        self.m1, self.m2, self.v = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2, b3 = h.betas
        alpha = h.alpha
        if h.t_alpha is not None:
            alpha = min(alpha * self.t / h.t_alpha, alpha)
        if h.t_beta3 is not None:
            start, end, s = math.log(b1), math.log(b3), self.t / h.t_beta3
            b3 = min(math.exp(start * end / ((1 - s) * end + s * start)), b3)
        for p, g, m1, m2, v in zip(self.params, grads, self.m1, self.m2, self.v):
            m1.copy_(b1 * m1 + (1 - b1) * g)
            m2.copy_(b3 * m2 + (1 - b3) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m1_hat, v_hat = m1 / (1 - b1**self.t), v / (1 - b2**self.t)
            p -= h.lr * ((m1_hat + alpha * m2) / (v_hat.sqrt() + h.eps) + h.weight_decay * p)


@reference("simplified_ademamix")
class SimplifiedAdEMAMix(Reference):
    """m <- b1 m + g (a sum, no 1 - b1); p <- p - lr ((m + alpha g) / (sqrt(v_hat) + eps) + wd p).

    pytorch_optimizer averages m with 1 - b1 and divides by the root of the debiasing twice.
    """

    paper = "Morwani et al. 2025, 2502.02431"
    defaults = {"lr": 1e-4, "betas": (0.99, 0.95), "alpha": 0.0, "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(b1 * m + g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            v_hat = v / (1 - b2**self.t)
            p -= h.lr * ((m + h.alpha * g) / (v_hat.sqrt() + h.eps) + h.weight_decay * p)


@reference("adopt")
class ADOPT(Reference):
    """c = clip(g / max(sqrt(v), eps), +-k^0.25); m <- b1 m + (1 - b1) c; p <- p - lr m; then v.

    The first step only sets v = g^2 and moves nothing (no decay either); k counts the steps
    after it. pytorch_optimizer clips with k + 1 and decays at the first step; optax moves at
    the first. Decay is decoupled.
    """

    paper = "Taniguchi et al. 2024, 2411.02853 (Algorithm 2, with clipping)"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.9999), "eps": 1e-6, "weight_decay": 0.0, "clip": True}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            if self.t == 1:
                v.copy_(g**2)
                continue
            p *= 1 - h.lr * h.weight_decay
            c = g / v.sqrt().clamp(min=h.eps)
            if h.clip:
                c = c.clamp(-((self.t - 1) ** 0.25), (self.t - 1) ** 0.25)
            m.copy_(b1 * m + (1 - b1) * c)
            p -= h.lr * m
            v.copy_(b2 * v + (1 - b2) * g**2)


@reference("qhadam")
class QHAdam(Reference):
    """p <- p - lr ((1 - nu1) g + nu1 m_hat) / (sqrt((1 - nu2) g^2 + nu2 v_hat) + eps)."""

    paper = "Ma & Yarats 2018, 1810.06801"
    defaults = {
        "lr": 1e-3,
        "betas": (0.995, 0.999),
        "nus": (0.7, 1.0),
        "eps": 1e-8,
        "weight_decay": 0.0,
    }

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        (b1, b2), (nu1, nu2) = h.betas, h.nus
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            g = g + h.weight_decay * p
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            top = (1 - nu1) * g + nu1 * m_hat
            p -= h.lr * top / (((1 - nu2) * g**2 + nu2 * v_hat).sqrt() + h.eps)


@reference("sadam")
class SAdam(Reference):
    """p <- p - lr m_hat / softplus(sqrt(v_hat)), softplus(x) = log(1 + exp(beta x)) / beta.

    No eps: softplus is positive. The paper's Algorithm 2 has no debiasing (debias=False).
    """

    paper = "Tong et al. 2019, 1908.00700"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "softplus_beta": 50.0,
        "weight_decay": 0.0,
        "debias": True,
    }

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        c1, c2 = (1 - b1**self.t, 1 - b2**self.t) if h.debias else (1.0, 1.0)
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            g = g + h.weight_decay * p
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            x = h.softplus_beta * (v / c2).sqrt()
            softplus = torch.logaddexp(x, torch.zeros_like(x)) / h.softplus_beta
            p -= h.lr * (m / c1) / softplus


@reference("diffgrad")
class DiffGrad(Reference):
    """Adam times sigmoid(|g_prev - g|); g_prev starts at 0. Decay is decoupled."""

    paper = "Dubey et al. 2019, 1909.11015"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.m, self.v, self.prev = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v, prev in zip(self.params, grads, self.m, self.v, self.prev):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            friction = torch.sigmoid((prev - g).abs())
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            p -= h.lr * friction * m_hat / (v_hat.sqrt() + h.eps)
            prev.copy_(g)


@reference("adapnm")
class AdaPNM(Reference):
    """PNM's momentum over AMSGrad's root; debiased by 1 - b1^t (not b1^2). Decay is decoupled."""

    paper = "Xie et al. 2021, 2103.17182, Algorithm 2"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999, 1.0),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "amsgrad": True,
    }

    def init(self):
        self.m_last, self.m_before = self.zeros(), self.zeros()
        self.v, self.v_max = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2, b0 = h.betas
        for i, (p, g) in enumerate(zip(self.params, grads)):
            p *= 1 - h.lr * h.weight_decay
            m = b1**2 * self.m_before[i] + (1 - b1**2) * g
            self.v[i] = b2 * self.v[i] + (1 - b2) * g**2
            self.v_max[i] = torch.maximum(self.v_max[i], self.v[i])
            m_hat = ((1 + b0) * m - b0 * self.m_last[i]) / (1 - b1**self.t)
            v_hat = (self.v_max[i] if h.amsgrad else self.v[i]) / (1 - b2**self.t)
            norm = math.sqrt((1 + b0) ** 2 + b0**2)
            p -= h.lr * m_hat / (norm * (v_hat.sqrt() + h.eps))
            self.m_before[i], self.m_last[i] = self.m_last[i], m


@reference("adai")
class Adai(Reference):
    """b1_i = clip(1 - b0 v_hat_i / mean(v_hat), 0, 1 - eps), the mean over ALL parameters.

    m <- b1 m + (1 - b1) g; p <- p - lr m / (1 - prod b1). wd is L2, or with
    stable_weight_decay decoupled (AdaiW).
    """

    paper = "Xie et al. 2020, 2006.15815"
    defaults = {
        "lr": 1e-1,
        "betas": (0.1, 0.99),
        "eps": 1e-3,
        "weight_decay": 0.0,
        "stable_weight_decay": False,
    }

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()
        self.product = [torch.ones_like(p) for p in self.params]

    def update(self, grads):
        h = self.h
        b0, b2 = h.betas
        if h.stable_weight_decay:
            for p in self.params:
                p *= 1 - h.lr * h.weight_decay
        else:
            grads = [g + h.weight_decay * p for p, g in zip(self.params, grads)]
        v_hats = []
        for g, v in zip(grads, self.v):
            v.copy_(b2 * v + (1 - b2) * g**2)
            v_hats.append(v / (1 - b2**self.t))
        mean = torch.cat([v.flatten() for v in v_hats]).mean()
        for p, g, m, v_hat, product in zip(self.params, grads, self.m, v_hats, self.product):
            b1 = (1 - b0 * v_hat / mean).clamp(0, 1 - h.eps)
            product *= b1
            m.copy_(b1 * m + (1 - b1) * g)
            p -= h.lr * m / (1 - product)


@reference("adanorm")
class AdaNorm(Reference):
    """e <- r e + (1 - r)||g||; where e > ||g||, m sees g e / ||g||; v sees g. Per tensor."""

    paper = "Dubey et al. 2022, 2210.06364 (AdamNorm)"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "r": 0.95, "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.m, self.v, self.e = self.zeros(), self.zeros(), self.scalars()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for i, (p, g, m, v) in enumerate(zip(self.params, grads, self.m, self.v)):
            p *= 1 - h.lr * h.weight_decay
            norm = g.norm()
            self.e[i] = h.r * self.e[i] + (1 - h.r) * norm
            s = g * self.e[i] / norm if self.e[i] > norm > 0 else g
            m.copy_(b1 * m + (1 - b1) * s)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("adasmooth")
class AdaSmooth(Reference):
    """e = |sum of moves| / sum of |moves|; c = (b2 - b1) e + 1 - b2; v <- (1 - c^2) v + c^2 g^2.

    p <- p - lr g / sqrt(v + eps). `betas` are the fast and the slow rate. Sums run from the
    start (the paper: over a window of batches).
    """

    paper = "Lu 2022, 2204.00825"
    defaults = {"lr": 1e-3, "betas": (0.5, 0.99), "eps": 1e-6, "weight_decay": 0.0}

    def init(self):
        self.prev, self.s, self.n, self.v = self.copies(), self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        fast, slow = h.betas
        for p, g, prev, s, n, v in zip(self.params, grads, self.prev, self.s, self.n, self.v):
            g = g + h.weight_decay * p
            s += p - prev
            n += (p - prev).abs()
            c = (slow - fast) * s.abs() / (n + h.eps) + 1 - slow
            v.copy_((1 - c**2) * v + c**2 * g**2)
            prev.copy_(p)
            p -= h.lr * g / (v + h.eps).sqrt()


@reference("aida")
class Aida(Reference):
    """AdaBelief with (m_k - g_k)^2, where g and m are projected on each other k times.

    Per tensor (the paper: per layer). m itself is not projected; eps as in AdaBelief.
    """

    paper = "Zhang et al. 2022, 2203.13273"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "k": 2,
        "xi": 1e-20,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }

    def init(self):
        self.m, self.s = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, s in zip(self.params, grads, self.m, self.s):
            g = g + h.weight_decay * p
            m.copy_(b1 * m + (1 - b1) * g)
            g_k, m_k = g, m
            for _ in range(h.k):
                dot = (g_k * m_k).sum()
                g_k, m_k = (
                    dot / ((g_k**2).sum() + h.xi) * g_k,
                    dot / ((m_k**2).sum() + h.xi) * m_k,
                )
            s.copy_(b2 * s + (1 - b2) * (m_k - g_k) ** 2 + h.eps)
            m_hat, s_hat = m / (1 - b1**self.t), s / (1 - b2**self.t)
            p -= h.lr * m_hat / (s_hat.sqrt() + h.eps)


@reference("avagrad")
class AvaGrad(Reference):
    """eta = 1 / (sqrt(v_{t-1}) + eps); p <- p - lr m eta / ||eta / sqrt(d)||; then v_t.

    The norm is over ALL d elements of all parameters. m and v are debiased, as in the
    authors' code; the first step only fills m and v. That code, and pytorch_optimizer, take
    the norm one step late (from the root before the last update of v); the paper does not.
    Decay is decoupled.
    """

    paper = "Savarese et al. 2019, 1912.01823"
    defaults = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 0.1, "weight_decay": 0.0}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        if self.t > 1:
            etas = [1 / ((v / (1 - b2 ** (self.t - 1))).sqrt() + h.eps) for v in self.v]
            rms = torch.cat([eta.flatten() for eta in etas]).square().mean().sqrt()
        for i, (p, g, m, v) in enumerate(zip(self.params, grads, self.m, self.v)):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            if self.t > 1:
                p -= h.lr * m / (1 - b1**self.t) * etas[i] / rms
            v.copy_(b2 * v + (1 - b2) * g**2)


@reference("acprop")
class ACProp(Reference):
    """p <- p - lr (g / (sqrt(s_{t-1}) + eps) + wd p); s <- b2 s + (1 - b2)(g - m)^2 + eps.

    g, not m, is divided: m only centres s. As optax, s_{t-1} is debiased, and the first step,
    which has none, divides by 1 + eps. optax centres on m_{t-1} (lagged_mean).
    """

    paper = "Zhuang et al. 2021, 2110.05454"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-16,
        "weight_decay": 0.0,
        "lagged_mean": False,
    }

    def init(self):
        self.m, self.s = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, s in zip(self.params, grads, self.m, self.s):
            mean = m.clone()
            m.copy_(b1 * m + (1 - b1) * g)
            s_hat = s / (1 - b2 ** (self.t - 1)) if self.t > 1 else torch.ones_like(s)
            s.copy_(b2 * s + (1 - b2) * (g - (mean if h.lagged_mean else m)) ** 2 + h.eps)
            p -= h.lr * (g / (s_hat.sqrt() + h.eps) + h.weight_decay * p)


@reference("fadam")
class FAdam(Reference):
    """F: debiased average of g^2; u = g / (F^q + e^(2q)), RMS-clipped; m <- average of u.

    p <- p - lr (m + wd w), w = p / (F^q + e^(2q)), RMS-clipped; e = min(eps, eps2 RMS(g)).
    `power` is q = 1/2, Adam's root.
    """

    paper = "Hwang 2024, 2405.12807"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "weight_decay": 0.1,
        "clip": 1.0,
        "power": 0.5,
        "eps": 1e-8,
        "eps2": 1e-2,
    }

    def init(self):
        self.m, self.F = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        b2 = b2 * (1 - b2 ** (self.t - 1)) / (1 - b2**self.t)
        rms = lambda x: x.square().mean().sqrt().item()
        for p, g, m, F in zip(self.params, grads, self.m, self.F):
            F.copy_(b2 * F + (1 - b2) * g**2)
            e = min(h.eps, h.eps2 * rms(g)) if rms(g) > 0 else h.eps
            base = F**h.power + e ** (2 * h.power)
            u, w = g / base, p / base
            u = u / max(1, rms(u) / h.clip)
            w = w / max(1, rms(w) / h.clip)
            m.copy_(b1 * m + (1 - b1) * u)
            p -= h.lr * (m + h.weight_decay * w)


@reference("grams")
class Grams(Reference):
    """p <- p - lr (sign(g) |u| + wd p), u Adam's update."""

    paper = "Cao et al. 2024, 2412.17107"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.0}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            u = m / (1 - b1**self.t) / ((v / (1 - b2**self.t)).sqrt() + h.eps)
            p -= h.lr * (g.sign() * u.abs() + h.weight_decay * p)


@reference("laprop")
class LaProp(Reference):
    """m <- b1 m + (1 - b1) g / (sqrt(v_hat) + eps); p <- p - lr m_hat. Decay is decoupled.

    The authors' code, pytorch_optimizer and timm keep lr inside m, so that a changed lr
    leaves past terms as they were; the paper, as here, multiplies by today's lr. Their decay
    comes after the step, here before it (the difference is of order lr^2).
    """

    paper = "Ziyin et al. 2020, 2002.04839"
    defaults = {"lr": 4e-4, "betas": (0.9, 0.999), "eps": 1e-15, "weight_decay": 0.0}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            p *= 1 - h.lr * h.weight_decay
            v.copy_(b2 * v + (1 - b2) * g**2)
            m.copy_(b1 * m + (1 - b1) * g / ((v / (1 - b2**self.t)).sqrt() + h.eps))
            p -= h.lr * m / (1 - b1**self.t)


@reference("msvag")
class MSVAG(Reference):
    """p <- p - lr gamma m_hat, gamma = m^2 / (m^2 + rho s), s = (v - m^2) / (1 - rho).

    m and v share one beta and are debiased; rho = (1 - b)(1 + b^t) / ((1 + b)(1 - b^t)),
    at most 0.9999. gamma is clipped to [0, 1] (0 where 0/0).
    """

    paper = "Balles & Hennig 2017, 1705.07774"
    defaults = {"lr": 1e-1, "beta": 0.9}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b = h.beta
        rho = min((1 - b) * (1 + b**self.t) / ((1 + b) * (1 - b**self.t)), 0.9999)
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(b * m + (1 - b) * g)
            v.copy_(b * v + (1 - b) * g**2)
            m_hat, v_hat = m / (1 - b**self.t), v / (1 - b**self.t)
            s = (v_hat - m_hat**2) / (1 - rho)
            gamma = (m_hat**2 / (m_hat**2 + rho * s)).nan_to_num(nan=0.0).clamp(0, 1)
            p -= h.lr * gamma * m_hat


@reference("swats")
class SWATS(Reference):
    """Adam until the SGD rate that its steps imply settles; then SGD with momentum at that rate.

    A tensor's step u and gradient g give gamma = u.u / -(u.g), averaged with b2. When some
    tensor's debiased average is within eps of gamma, SGD takes over for all, at that
    average (lr is then replaced by it): b <- b1 b + g, p <- p - (1 - b1) lr b.
    pytorch_optimizer means eps relative to gamma, so it switches at other steps.
    """

    paper = "Keskar & Socher 2017, 1712.07628"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-9, "weight_decay": 0.0}

    def init(self):
        self.m, self.v, self.buf = self.zeros(), self.zeros(), self.zeros()
        self.average, self.sgd_lr = self.scalars(), None

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        next_lr = self.sgd_lr
        for i, (p, g, m, v, b) in enumerate(zip(self.params, grads, self.m, self.v, self.buf)):
            g = g + h.weight_decay * p
            if self.sgd_lr is not None:
                b.copy_(b1 * b + g)
                p -= (1 - b1) * self.sgd_lr * b
                continue
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            rate = h.lr * math.sqrt(1 - b2**self.t) / (1 - b1**self.t)
            u = -rate * m / (v.sqrt() + h.eps)
            p += u
            ug = (u * g).sum().item()
            if ug != 0:
                gamma = (u * u).sum().item() / -ug
                self.average[i] = b2 * self.average[i] + (1 - b2) * gamma
                settled = self.average[i] / (1 - b2**self.t)
                if self.t > 1 and settled > 0 and abs(settled - gamma) < h.eps:
                    next_lr = settled
        self.sgd_lr = next_lr


@reference("exadam")
class EXAdam(Reference):
    """Adam whose moments correct each other, plus the present gradient.

    m~ = m_hat (1 + b2^t v/(v + eps)), v~ = v_hat (1 + b1^t m^2/(m^2 + eps)),
    g~ = g/(1 - b1^t) (1 + b2^t v/(v + eps)); p <- p - lr (m~ + g~) / (sqrt(v~) + eps).
    """

    paper = "Adly 2024, 2412.20302"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            d1 = 1 + b2**self.t * v / (v + h.eps)
            d2 = 1 + b1**self.t * m**2 / (m**2 + h.eps)
            top = (m + g) / (1 - b1**self.t) * d1
            p -= h.lr * top / ((v / (1 - b2**self.t) * d2).sqrt() + h.eps)


@reference("focus")
class FOCUS(Reference):
    """p <- p - lr (sign(m) + gamma sign(p - p_bar) + wd p_bar); p_bar: debiased average of p.

    As the authors' code and pytorch_optimizer: decay acts before the sign is taken, and on
    p_bar; m is not debiased.
    """

    paper = "Zheng et al. 2025, 2501.12243"
    defaults = {"lr": 1e-2, "betas": (0.9, 0.999), "gamma": 0.1, "weight_decay": 0.0}

    def init(self):
        self.m, self.bar = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, bar in zip(self.params, grads, self.m, self.bar):
            m.copy_(b1 * m + (1 - b1) * g)
            bar.copy_(b2 * bar + (1 - b2) * p)
            bar_hat = bar / (1 - b2**self.t)
            p -= h.lr * h.weight_decay * bar_hat
            pull = (p - bar_hat).sign()
            pull[(p - bar_hat).abs() <= 1e-6 * bar_hat.abs()] = 0  # the first step: rounding alone
            p -= h.lr * (m.sign() + h.gamma * pull)


@reference("kate")
class KATE(Reference):
    """b2 <- b2 + g^2 + eps; m2 <- m2 + eta g^2 + g^2 / b2; p <- p - lr sqrt(m2) g / b2.

    b2 and m2 are squares: the denominator has no root. Decay is decoupled.
    """

    paper = "Choudhury et al. 2024, 2403.02648"
    defaults = {"lr": 1e-3, "eta": 0.0, "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.b2, self.m2 = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, b2, m2 in zip(self.params, grads, self.b2, self.m2):
            p *= 1 - h.lr * h.weight_decay
            b2 += g**2 + h.eps
            m2 += h.eta * g**2 + g**2 / b2
            p -= h.lr * m2.sqrt() * g / b2


@reference("cautious_adamw")
class CautiousAdamW(Reference):
    """AdamW whose update u is kept only where u g > 0, and scaled by n / (kept + 1).

    The paper's Algorithm 2 scales by dim / (nnz + 1); timm and the authors' code divide by
    the mask's mean with a floor of 1e-3, HeavyBall by the mean without a floor.
    """

    paper = "Liang et al. 2024, 2411.16085"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            u = m / (1 - b1**self.t) / ((v / (1 - b2**self.t)).sqrt() + h.eps)
            mask = (u * g > 0).to(p.dtype)
            p -= h.lr * u * mask * (mask.numel() / (mask.sum() + 1))


@reference("cautious_decay_adamw")
class CautiousDecayAdamW(Reference):
    """p <- p - lr (u + wd [u p > 0] p), u Adam's update, the mask from the parameter before the step."""

    paper = "Chen et al. 2025, 2510.12402"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            u = m / (1 - b1**self.t) / ((v / (1 - b2**self.t)).sqrt() + h.eps)
            shrunk = torch.where(u * p > 0, (1 - h.lr * h.weight_decay) * p, p)
            p.copy_(shrunk - h.lr * u)


class ScheduleFree(Reference):
    """y = (1 - b) z + b x (gradients are taken there); z <- z - lr d(y); x <- (1 - c) x + c z.

    c = w / sum of w, w = t^r lr_max^weight_lr_power, lr_max the largest rate so far. `params`
    is y, `eval_params()` is x; decay enters the direction at y, after the division.
    """

    defaults: dict = {}

    def init(self):
        self.x, self.z, self.v = self.copies(), self.copies(), self.zeros()
        self.weight_sum, self.lr_max = 0.0, 0.0

    def beta(self):
        return self.h.betas[0]

    def rate(self):
        """lr, warmed up linearly."""
        h = self.h
        return h.lr * min(1.0, self.t / h.warmup_steps) if h.warmup_steps else h.lr

    def direction(self, g, v):
        raise NotImplementedError

    def update(self, grads):
        h = self.h
        lr, beta = self.rate(), self.beta()
        self.lr_max = max(self.lr_max, lr)
        w = self.t**h.r * self.lr_max**h.weight_lr_power
        self.weight_sum += w
        c = w / self.weight_sum if self.weight_sum > 0 else 0.0
        for p, g, x, z, v in zip(self.params, grads, self.x, self.z, self.v):
            z -= lr * (self.direction(g, v) + h.weight_decay * p)
            x.copy_((1 - c) * x + c * z)
            p.copy_((1 - beta) * z + beta * x)

    def eval_params(self):
        return self.x


@reference("schedulefree_sgd")
class ScheduleFreeSGD(ScheduleFree):
    """d(y) = g + wd y."""

    paper = "Defazio et al. 2024, 2405.15682"
    defaults = {
        "lr": 1.0,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "r": 0.0,
        "weight_lr_power": 2.0,
    }

    def beta(self):
        return self.h.momentum

    def direction(self, g, v):
        return g


@reference("schedulefree_adamw")
class ScheduleFreeAdamW(ScheduleFree):
    """d(y) = g / (sqrt(v_hat) + eps) + wd y; momentum is the interpolation alone.

    The paper debiases by lr sqrt(1 - b2^t), equal but for where eps is added; keras weighs
    by 1/t.
    """

    paper = "Defazio et al. 2024, 2405.15682, Algorithm 1"
    defaults = {
        "lr": 2.5e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "r": 0.0,
        "weight_lr_power": 2.0,
    }

    def direction(self, g, v):
        b2 = self.h.betas[1]
        v.copy_(b2 * v + (1 - b2) * g**2)
        return g / ((v / (1 - b2**self.t)).sqrt() + self.h.eps)


@reference("schedulefree_radam")
class ScheduleFreeRAdam(ScheduleFree):
    """d(y) as AdamW's, lr times RAdam's rectification; where rho_t <= 4 the step is lr = 0.

    With silent_sgd_phase=False those early steps are SGD at the full rate.
    """

    paper = "Defazio et al. 2024, 2405.15682 (RAdamScheduleFree of the authors' package)"
    defaults = {
        "lr": 2.5e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "r": 0.0,
        "weight_lr_power": 2.0,
        "silent_sgd_phase": True,
    }

    def rho(self):
        b2 = self.h.betas[1]
        rho_inf = 2 / (1 - b2) - 1
        return rho_inf, rho_inf - 2 * self.t * b2**self.t / (1 - b2**self.t)

    def rate(self):
        rho_inf, rho = self.rho()
        if rho <= 4:
            return 0.0 if self.h.silent_sgd_phase else self.h.lr
        r2 = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
        return self.h.lr * math.sqrt(r2)

    def direction(self, g, v):
        b2 = self.h.betas[1]
        v.copy_(b2 * v + (1 - b2) * g**2)
        if self.rho()[1] <= 4:
            return g
        return g / ((v / (1 - b2**self.t)).sqrt() + self.h.eps)


@reference("ano")
class Ano(Reference):
    """v <- b2 v + (1 - b2) sign(g^2 - v) g^2; p <- p - lr |g| sign(m) / (sqrt(v_hat) + eps).

    b2 v, as the authors' code, where Yogi keeps v whole. Decay is decoupled.
    """

    paper = "Kegreisz 2025, 2508.18258"
    defaults = {"lr": 1e-4, "betas": (0.92, 0.99), "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * (g**2 - v).sign() * g**2)
            p -= h.lr * g.abs() * m.sign() / ((v / (1 - b2**self.t)).sqrt() + h.eps)


@reference("adamc")
class AdamC(Reference):
    """AdamW whose decay is lr^2 / max_lr wd: max_lr is the schedule's peak.

    The paper means layers before a normalisation; the others keep AdamW's. Here all of them.
    """

    paper = "Defazio 2025, 2506.02285"
    defaults = {
        "lr": 1e-3,
        "max_lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 1e-2,
    }

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            p *= 1 - h.lr**2 / h.max_lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("adamd")
class AdamD(Reference):
    """Adam that debiases v alone: p <- p - lr m / (sqrt(v_hat) + eps). Decay is decoupled."""

    paper = "St John 2021, 2110.10828"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            p -= h.lr * m / ((v / (1 - b2**self.t)).sqrt() + h.eps)


@reference("adam_atan2")
class AdamAtan2(Reference):
    """p <- (1 - lr wd) p - lr a atan2(m_hat, b sqrt(v_hat)): no eps, invariant to the scale of g.

    The paper's a = b = 1 by default; lucidrains' has a = 1.27, so that the step is near Adam's.
    """

    paper = "Everett et al. 2024, 2407.05872"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "a": 1.0, "b": 1.0, "weight_decay": 0.0}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            p -= h.lr * h.a * torch.atan2(m_hat, h.b * v_hat.sqrt())


@reference("optimistic_adam")
class OptimisticAdam(Reference):
    """u = Adam's update; p <- p - lr ((alpha + beta) u - beta u_prev); at first u_prev = u."""

    paper = "Daskalakis et al. 2017, 1711.00141"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "alpha": 1.0, "beta": 1.0}

    def init(self):
        self.m, self.v, self.prev = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v, prev in zip(self.params, grads, self.m, self.v, self.prev):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            u = m / (1 - b1**self.t) / ((v / (1 - b2**self.t)).sqrt() + h.eps)
            if self.t == 1:
                prev.copy_(u)
            p -= h.lr * ((h.alpha + h.beta) * u - h.beta * prev)
            prev.copy_(u)


@reference("dual_adam")
class DualAdam(Reference):
    """p <- p - lr m_hat (r d + (1 - r) / d), d = sqrt(v_hat) + eps, r = max(0, 1 - t switch_rate).

    Below switch_rate r is 0: Adam. Decay is L2.
    """

    paper = "2603.07122"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "switch_rate": 0.01,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        r = max(0.0, 1 - self.t * h.switch_rate)
        r = r if r >= h.switch_rate else 0.0
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            g = g + h.weight_decay * p
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            d = (v / (1 - b2**self.t)).sqrt() + h.eps
            p -= h.lr * m / (1 - b1**self.t) * (r * d + (1 - r) / d)


@reference("adamg")
class AdamG(Reference):
    """r averages the golden step size s(v) = P v^Q; m averages r g; Adam's root; lr <= 1/sqrt(t).

    Decay is L2.
    """

    paper = "Pan et al. 2024, 2405.04376"
    defaults = {
        "lr": 1.0,
        "betas": (0.95, 0.999, 0.95),
        "P": 0.2,
        "Q": 0.24,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }

    def init(self):
        self.m, self.v, self.r = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2, b3 = h.betas
        lr = min(h.lr, 1 / math.sqrt(self.t))
        for p, g, m, v, r in zip(self.params, grads, self.m, self.v, self.r):
            g = g + h.weight_decay * p
            v.copy_(b2 * v + (1 - b2) * g**2)
            r.copy_(b3 * r + (1 - b3) * h.P * v**h.Q)
            m.copy_(b1 * m + (1 - b1) * r * g)
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            p -= lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("bcos")
class BCOS(Reference):
    """p <- (1 - lr wd) p - lr d / (sqrt(v) + eps); d and v by `mode`; m starts at the first g.

    "g": d = g, v averages g^2; "m": d = m, v averages m^2; "c": d = m, and v is what the old m
    and g imply, (3 b^2 - 2 b^3) m^2 + (1 - b)^2 g^2 + 2 b (1 - b)^2 m g: no second state. v starts
    at the first g^2. In mode "c" pytorch_optimizer 4.1 has overwritten the old m by then.
    """

    paper = "Jiang et al. 2025, 2507.08963"
    defaults = {"lr": 1e-3, "beta": 0.9, "mode": "c", "eps": 1e-6, "weight_decay": 0.1}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b = h.beta
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            p *= 1 - h.lr * h.weight_decay
            if self.t == 1:
                m.copy_(g)
                v.copy_(g**2)
            old = m.clone()
            m.copy_(b * m + (1 - b) * g)
            d = g if h.mode == "g" else m
            if h.mode == "c":
                v.copy_((3 * b**2 - 2 * b**3) * old**2 + (1 - b) ** 2 * g**2)
                v += 2 * b * (1 - b) ** 2 * old * g
            else:
                v.copy_(b * v + (1 - b) * d**2)
            p -= h.lr * d / (v.sqrt() + h.eps)
