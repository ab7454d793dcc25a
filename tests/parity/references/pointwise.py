"""References for SGD and its kin: momentum, signs, and what divides by a root of squares."""

# ruff: noqa: RUF012  (a table of defaults is never written to)
from __future__ import annotations

import math

import torch

from .base import Reference, reference


@reference("sgd")
class SGD(Reference):
    """g <- g + wd p; b <- mu b + (1 - dampening) g; p <- p - lr b, or p - lr (g + mu b).

    As torch.optim.SGD: the buffer is the gradient itself at the first step, whatever the
    dampening. Keras folds lr into the buffer, so a changed lr does not rescale the past there.
    """

    paper = "Robbins & Monro 1951; Polyak 1964; Nesterov 1983; Sutskever et al. 2013"
    defaults = {
        "lr": 1e-3,
        "momentum": 0.0,
        "dampening": 0.0,
        "weight_decay": 0.0,
        "nesterov": False,
    }

    def init(self):
        self.buf = self.zeros()

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            g = g + h.weight_decay * p
            if self.t == 1:
                self.buf[i] = g
            else:
                self.buf[i] = h.momentum * self.buf[i] + (1 - h.dampening) * g
            if h.momentum != 0:
                g = g + h.momentum * self.buf[i] if h.nesterov else self.buf[i]
            p -= h.lr * g


@reference("nag")
class NAG(Reference):
    """v <- mu v + g; p <- p - lr (g + mu v): Nesterov's method at its look-ahead point."""

    paper = "Nesterov 1983; Sutskever et al. 2013 (in the form of torch's nesterov=True)"
    defaults = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0}

    def init(self):
        self.v = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, v in zip(self.params, grads, self.v):
            g = g + h.weight_decay * p
            v.copy_(h.momentum * v + g)
            p -= h.lr * (g + h.momentum * v)


@reference("sgdw")
class SGDW(Reference):
    """p <- (1 - lr wd) p, then SGD with momentum.

    The paper's Algorithm 1 keeps the base lr out of the decay and the schedule inside the
    buffer; every implementation in use (pytorch_optimizer, timm, optimi, fastai) multiplies
    the decay by lr and the buffer by lr afterwards, and so does this.
    """

    paper = "Loshchilov & Hutter 2017, 1711.05101"
    defaults = {
        "lr": 1e-3,
        "momentum": 0.9,
        "dampening": 0.0,
        "weight_decay": 1e-2,
        "nesterov": False,
    }

    def init(self):
        self.buf = self.zeros()

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            p *= 1 - h.lr * h.weight_decay
            if self.t == 1:
                self.buf[i] = g
            else:
                self.buf[i] = h.momentum * self.buf[i] + (1 - h.dampening) * g
            if h.momentum != 0:
                g = g + h.momentum * self.buf[i] if h.nesterov else self.buf[i]
            p -= h.lr * g


@reference("signsgd")
class SignSGD(Reference):
    """p <- p - lr (sign(g) + wd p)."""

    paper = "Bernstein et al. 2018, 1802.04434"
    defaults = {"lr": 1e-3, "weight_decay": 0.0}

    def update(self, grads):
        h = self.h
        for p, g in zip(self.params, grads):
            p -= h.lr * (g.sign() + h.weight_decay * p)


@reference("signum")
class Signum(Reference):
    """m <- beta m + (1 - beta) g; p <- p - lr (sign(m) + wd p)."""

    paper = "Bernstein et al. 2018, 1802.04434, Algorithm 2"
    defaults = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0}

    def init(self):
        self.m = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, m in zip(self.params, grads, self.m):
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            p -= h.lr * (m.sign() + h.weight_decay * p)


@reference("tiger")
class Tiger(Reference):
    """m <- beta m + (1 - beta) g; p <- p - lr (sign(m) + wd p): Signum with beta 0.965."""

    paper = "Su 2023, github.com/bojone/tiger"
    defaults = {"lr": 1e-3, "beta": 0.965, "weight_decay": 0.01}

    def init(self):
        self.m = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, m in zip(self.params, grads, self.m):
            m.copy_(h.beta * m + (1 - h.beta) * g)
            p -= h.lr * (m.sign() + h.weight_decay * p)


@reference("lion")
class Lion(Reference):
    """c = b1 m + (1 - b1) g; p <- p - lr (sign(c) + wd p); m <- b2 m + (1 - b2) g."""

    paper = "Chen et al. 2023, 2302.06675"
    defaults = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0}

    def init(self):
        self.m = self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m in zip(self.params, grads, self.m):
            c = b1 * m + (1 - b1) * g
            p -= h.lr * (c.sign() + h.weight_decay * p)
            m.copy_(b2 * m + (1 - b2) * g)


@reference("cautious_lion")
class CautiousLion(Reference):
    """Lion, where u = sign(c) is kept only where u g > 0 and scaled by n / (kept + 1).

    The paper's Algorithm 2 (its general form) scales by dim / (nnz + 1). timm, and the
    paper's own code, divide by the mask's mean with a floor of 1e-3 instead; HeavyBall
    by the mean without a floor.
    """

    paper = "Liang et al. 2024, 2411.16085, on Chen et al. 2023, 2302.06675"
    defaults = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0}

    def init(self):
        self.m = self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m in zip(self.params, grads, self.m):
            u = (b1 * m + (1 - b1) * g).sign()
            mask = (u * g > 0).to(p.dtype)
            p -= h.lr * h.weight_decay * p
            p -= h.lr * u * mask * (mask.numel() / (mask.sum() + 1))
            m.copy_(b2 * m + (1 - b2) * g)


@reference("aggmo")
class AggMo(Reference):
    """v_k <- beta_k v_k + g for each k; p <- p - lr mean_k v_k."""

    paper = "Lucas et al. 2018, 1804.00325"
    defaults = {"lr": 1e-3, "betas": (0.0, 0.9, 0.99), "weight_decay": 0.0}

    def init(self):
        self.v = [self.zeros() for _ in self.h.betas]

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            g = g + h.weight_decay * p
            total = torch.zeros_like(p)
            for beta, v in zip(h.betas, self.v):
                v[i] = beta * v[i] + g
                total += v[i]
            p -= h.lr * total / len(h.betas)


@reference("qhm")
class QHM(Reference):
    """b <- beta b + (1 - beta) g; p <- p - lr ((1 - nu) g + nu b)."""

    paper = "Ma & Yarats 2018, 1810.06801"
    defaults = {"lr": 1e-3, "momentum": 0.999, "nu": 0.7, "weight_decay": 0.0}

    def init(self):
        self.buf = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, b in zip(self.params, grads, self.buf):
            g = g + h.weight_decay * p
            b.copy_(h.momentum * b + (1 - h.momentum) * g)
            p -= h.lr * ((1 - h.nu) * g + h.nu * b)


@reference("pid")
class PID(Reference):
    """I <- mu I + (1 - dampening) g; D <- mu D + (1 - mu)(g - g_prev); p <- p - lr (g + Ki I + Kd D).

    The paper writes momentum as P and I in one; its authors' code has the three terms apart,
    which is what implementations follow. The first step has no g_prev: its difference is 0.
    """

    paper = "An et al. 2018 (CVPR), A PID Controller Approach for Stochastic Optimization"
    defaults = {
        "lr": 1e-3,
        "momentum": 0.9,
        "dampening": 0.0,
        "integral": 5.0,
        "derivative": 10.0,
        "weight_decay": 0.0,
    }

    def init(self):
        self.i, self.d, self.prev = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, i, d, prev in zip(self.params, grads, self.i, self.d, self.prev):
            g = g + h.weight_decay * p
            difference = g - prev if self.t > 1 else torch.zeros_like(g)
            i.copy_(h.momentum * i + (1 - h.dampening) * g)
            d.copy_(h.momentum * d + (1 - h.momentum) * difference)
            prev.copy_(g)
            p -= h.lr * (g + h.integral * i + h.derivative * d)


@reference("pnm")
class PNM(Reference):
    """m_t = b1^2 m_{t-2} + (1 - b1^2) g; p <- p - lr ((1 + b0) m_t - b0 m_{t-1}) / sqrt((1+b0)^2 + b0^2).

    `betas` is (b1, b0), b0 = 1, as in the authors' code. Decay is decoupled.
    """

    paper = "Xie et al. 2021, 2103.17182"
    defaults = {"lr": 1e-3, "betas": (0.9, 1.0), "weight_decay": 0.0}

    def init(self):
        self.m_last, self.m_before = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b0 = h.betas
        for i, (p, g) in enumerate(zip(self.params, grads)):
            p *= 1 - h.lr * h.weight_decay
            m = b1**2 * self.m_before[i] + (1 - b1**2) * g
            mixed = (1 + b0) * m - b0 * self.m_last[i]
            p -= h.lr * mixed / math.sqrt((1 + b0) ** 2 + b0**2)
            self.m_before[i], self.m_last[i] = self.m_last[i], m


@reference("rprop")
class Rprop(Reference):
    """s <- s eta+ where g g_prev > 0, s eta- where < 0 (and g <- 0 there); p <- p - s sign(g)."""

    paper = "Riedmiller & Braun 1993 (the variant without backtracking, as torch.optim.Rprop)"
    defaults = {"lr": 1e-2, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0)}

    def init(self):
        self.prev = self.zeros()
        self.size = None

    def update(self, grads):
        h = self.h
        minus, plus = h.etas
        if self.size is None:
            self.size = [torch.full_like(p, h.lr) for p in self.params]
        for p, g, prev, s in zip(self.params, grads, self.prev, self.size):
            agree = g * prev
            s[agree > 0] *= plus
            s[agree < 0] *= minus
            s.clamp_(*h.step_sizes)
            g = torch.where(agree < 0, torch.zeros_like(g), g)
            p -= s * g.sign()
            prev.copy_(g)


@reference("asgd")
class ASGD(Reference):
    """p <- (1 - lambd eta) p - eta g; ax <- ax + mu (p - ax); eta, mu decay with t.

    torch.optim.ASGD: eta_{t+1} = lr / (1 + lambd lr t)^alpha, mu_{t+1} = 1 / max(1, t - t0),
    so a changed lr takes effect one step late. The average is kept, not swapped in; it is
    `eval_params()`. pytorch_optimizer's ASGD is another algorithm (AdGD).
    """

    paper = "Polyak & Juditsky 1992 (torch.optim.ASGD)"
    defaults = {"lr": 1e-2, "lambd": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0.0}

    def init(self):
        self.ax = self.zeros()
        self.eta, self.mu = None, 1.0

    def update(self, grads):
        h = self.h
        if self.eta is None:
            self.eta = h.lr
        for p, g, ax in zip(self.params, grads, self.ax):
            g = g + h.weight_decay * p
            p *= 1 - h.lambd * self.eta
            p -= self.eta * g
            ax.copy_(p if self.mu == 1 else ax + self.mu * (p - ax))
        self.eta = h.lr / (1 + h.lambd * h.lr * self.t) ** h.alpha
        self.mu = 1 / max(1, self.t - h.t0)

    def eval_params(self):
        return self.ax


@reference("accsgd")
class AccSGD(Reference):
    """w_bar <- a w_bar + (1 - a)(w - (kappa lr / c) g); w <- (c (w - lr g) + (1 - a) w_bar)/(c + 1 - a).

    a = 1 - c^2 xi / kappa. w_bar starts at the parameters.
    """

    paper = "Jain et al. 2017, 1704.08227 (as run in 1803.05591)"
    defaults = {"lr": 1e-3, "kappa": 1000.0, "xi": 10.0, "constant": 0.7, "weight_decay": 0.0}

    def init(self):
        self.bar = self.copies()

    def update(self, grads):
        h = self.h
        a = 1 - h.constant**2 * h.xi / h.kappa
        for p, g, bar in zip(self.params, grads, self.bar):
            g = g + h.weight_decay * p
            bar.copy_(a * bar + (1 - a) * (p - h.kappa * h.lr / h.constant * g))
            p.copy_((h.constant * (p - h.lr * g) + (1 - a) * bar) / (h.constant + 1 - a))


@reference("ftrl")
class FTRL(Reference):
    """z <- z + g - (sqrt(n + g^2) - sqrt(n))/lr p; n <- n + g^2; p from z, in closed form.

    p = 0 where |z| <= l1, else -(z - sign(z) l1) / ((beta + sqrt(n))/lr + l2). Keras doubles
    l2 and starts n at 0.1.
    """

    paper = "McMahan et al. 2013 (KDD), Ad Click Prediction"
    defaults = {"lr": 1e-1, "beta": 1.0, "l1": 0.0, "l2": 0.0}

    def init(self):
        self.z, self.n = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, z, n in zip(self.params, grads, self.z, self.n):
            sigma = ((n + g**2).sqrt() - n.sqrt()) / h.lr
            z += g - sigma * p
            n += g**2
            w = -(z - z.sign() * h.l1) / ((h.beta + n.sqrt()) / h.lr + h.l2)
            p.copy_(torch.where(z.abs() <= h.l1, torch.zeros_like(p), w))


@reference("cocob")
class COCOB(Reference):
    """COCOB-Backprop: bet a fraction of what each coordinate has won on the next sign.

    L <- max(L, |g|); G <- G + |g|; R <- max(R - (p - p0) g, 0); theta <- theta - g;
    p = p0 + theta / (L max(G + L, alpha L)) (L + R). There is no learning rate; optax's
    multiplies the gradient. L starts at eps.
    """

    paper = "Orabona & Tommasi 2017, 1705.07795, Algorithm 2"
    defaults = {"lr": 1.0, "alpha": 100.0, "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.p0 = self.copies()
        self.L = [torch.full_like(p, self.h.eps) for p in self.params]
        self.G, self.R, self.theta = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            g = h.lr * (g + h.weight_decay * p)
            self.L[i] = L = torch.maximum(self.L[i], g.abs())
            self.G[i] += g.abs()
            self.R[i] = (self.R[i] - (p - self.p0[i]) * g).clamp(min=0)
            self.theta[i] -= g
            fraction = self.theta[i] / (L * torch.maximum(self.G[i] + L, h.alpha * L))
            p.copy_(self.p0[i] + fraction * (L + self.R[i]))


@reference("optimistic_gd")
class OptimisticGD(Reference):
    """p <- p - lr ((alpha + beta) g - beta g_prev); at the first step g_prev = g (as optax)."""

    paper = "Daskalakis et al. 2017, 1711.00141"
    defaults = {"lr": 1e-2, "alpha": 1.0, "beta": 1.0}

    def init(self):
        self.prev = None

    def update(self, grads):
        h = self.h
        prev = grads if self.prev is None else self.prev
        for p, g, before in zip(self.params, grads, prev):
            p -= h.lr * ((h.alpha + h.beta) * g - h.beta * before)
        self.prev = grads


@reference("vsgd")
class VSGD(Reference):
    """A Kalman-like posterior over the true gradient, given the noisy one.

    Decay is decoupled. Rates of the two Gamma posteriors: t^-tau1 and t^-tau2.
    """

    paper = "Chen et al. 2024, openreview xu4ATNjcdy / 2404.06549"
    defaults = {
        "lr": 0.1,
        "ghattg": 30.0,
        "ps": 1e-8,
        "tau1": 0.81,
        "tau2": 0.9,
        "weight_decay": 0.0,
        "eps": 1e-8,
    }

    def init(self):
        self.mu, self.bg, self.bhg = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        a = 2 * h.ps + 1 + 1e-4
        prior_g, prior_hg = 2 * h.ps, 2 * h.ghattg * h.ps
        rho1, rho2 = self.t**-h.tau1, self.t**-h.tau2
        for i, (p, g) in enumerate(zip(self.params, grads)):
            p *= 1 - h.lr * h.weight_decay
            if self.t == 1:
                self.bg[i].fill_(prior_g), self.bhg[i].fill_(prior_hg)
                sg, shg = self.bg[i] / (a - 1), self.bhg[i] / (a - 1)
            else:
                sg, shg = self.bg[i] / a, self.bhg[i] / a
            before = self.mu[i]
            mu = (shg * before + sg * g) / (sg + shg)
            var = sg * shg / (sg + shg)
            new_bg = prior_g + var + mu**2 - 2 * mu * before + before**2
            new_bhg = prior_hg + var + mu**2 - 2 * g * mu + g**2
            self.bg[i] = (1 - rho1) * self.bg[i] + rho1 * new_bg
            self.bhg[i] = (1 - rho2) * self.bhg[i] + rho2 * new_bhg
            self.mu[i] = mu
            p -= h.lr * mu / ((mu**2 + var).sqrt() + h.eps)


@reference("srmm")
class SRMM(Reference):
    """g_bar, p_bar <- averages with weight w; p_bar <- p_bar - lr g_bar; p <- p_bar.

    w = n^-beta, n = 1, 2, ... memory_length, 1, ...: the first weight is 1. pytorch_optimizer
    counts from 2, so there a first step multiplies the parameters by 2^-beta.
    """

    paper = "Lyu 2022, 2201.01652"
    defaults = {"lr": 1e-2, "beta": 0.5, "memory_length": 100}

    def init(self):
        self.g_bar, self.p_bar = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        w = ((self.t - 1) % h.memory_length + 1) ** -h.beta
        for p, g, g_bar, p_bar in zip(self.params, grads, self.g_bar, self.p_bar):
            g_bar.copy_((1 - w) * g_bar + w * g)
            p_bar.copy_((1 - w) * p_bar + w * p - h.lr * g_bar)
            p.copy_(p_bar)


@reference("grokfast_adamw")
class GrokfastAdamW(Reference):
    """mu <- alpha mu + (1 - alpha) g (mu starts at the first g); g <- g + lamb mu; then AdamW.

    pytorch_optimizer divides lr by 1 + lamb at construction and clamps the root at eps.
    """

    paper = "Lee et al. 2024, 2405.20233 (Grokfast-EMA), on Loshchilov & Hutter 2017"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 1e-2,
        "alpha": 0.98,
        "lamb": 2.0,
    }

    def init(self):
        self.mu, self.m, self.v = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for i, (p, g) in enumerate(zip(self.params, grads)):
            self.mu[i] = g if self.t == 1 else h.alpha * self.mu[i] + (1 - h.alpha) * g
            g = g + h.lamb * self.mu[i]
            p *= 1 - h.lr * h.weight_decay
            self.m[i] = b1 * self.m[i] + (1 - b1) * g
            self.v[i] = b2 * self.v[i] + (1 - b2) * g**2
            m_hat = self.m[i] / (1 - b1**self.t)
            v_hat = self.v[i] / (1 - b2**self.t)
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("mars")
class MARS(Reference):
    """c = g + gamma b1/(1 - b1) (g - g_prev); c <- c / max(1, ||c||), per tensor; AdamW on c.

    The approximate variant (the previous step's own gradient, no second evaluation). g_prev
    starts at zero, as in the authors' code. With optimize_1d=False (their default) tensors
    of one dimension get AdamW on g with betas_1d instead.
    """

    paper = "Yuan et al. 2024, 2411.10438 (MARS-AdamW)"
    defaults = {
        "lr": 3e-3,
        "betas": (0.95, 0.99),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "gamma": 0.025,
        "optimize_1d": True,
        "betas_1d": (0.9, 0.95),
    }

    def init(self):
        self.prev, self.m, self.v = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            b1, b2 = h.betas
            if p.ndim >= 2 or h.optimize_1d:
                c = g + h.gamma * b1 / (1 - b1) * (g - self.prev[i])
                c = c / c.norm().clamp(min=1)
            else:
                b1, b2 = h.betas_1d
                c = g
            self.prev[i] = g
            self.m[i] = b1 * self.m[i] + (1 - b1) * c
            self.v[i] = b2 * self.v[i] + (1 - b2) * c**2
            m_hat = self.m[i] / (1 - b1**self.t)
            v_hat = self.v[i] / (1 - b2**self.t)
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


@reference("adagrad")
class Adagrad(Reference):
    """G <- G + g^2; p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(G) + eps), as torch.

    keras and optax start G at 0.1 and put eps (1e-7) inside the root.
    """

    paper = "Duchi et al. 2011 (JMLR 12)"
    defaults = {
        "lr": 1e-2,
        "lr_decay": 0.0,
        "weight_decay": 0.0,
        "initial_accumulator_value": 0.0,
        "eps": 1e-10,
    }

    def init(self):
        self.G = [torch.full_like(p, self.h.initial_accumulator_value) for p in self.params]

    def update(self, grads):
        h = self.h
        lr = h.lr / (1 + (self.t - 1) * h.lr_decay)
        for p, g, G in zip(self.params, grads, self.G):
            g = g + h.weight_decay * p
            G += g**2
            p -= lr * g / (G.sqrt() + h.eps)


@reference("adadelta")
class Adadelta(Reference):
    """v <- rho v + (1 - rho) g^2; d = sqrt(u + eps)/sqrt(v + eps) g; u <- rho u + (1 - rho) d^2."""

    paper = "Zeiler 2012, 1212.5701"
    defaults = {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0.0}

    def init(self):
        self.v, self.u = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, v, u in zip(self.params, grads, self.v, self.u):
            g = g + h.weight_decay * p
            v.copy_(h.rho * v + (1 - h.rho) * g**2)
            d = (u + h.eps).sqrt() / (v + h.eps).sqrt() * g
            u.copy_(h.rho * u + (1 - h.rho) * d**2)
            p -= h.lr * d


@reference("rmsprop")
class RMSprop(Reference):
    """v <- alpha v + (1 - alpha) g^2; p <- p - lr g / (sqrt(v) + eps), as torch.

    centered subtracts the square of the gradient's own average from v; momentum sums the
    divided gradients. keras and TF put eps inside the root.
    """

    paper = "Tieleman & Hinton 2012, lecture 6.5; Graves 2013, 1308.0850 (centered)"
    defaults = {
        "lr": 1e-2,
        "alpha": 0.99,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "momentum": 0.0,
        "centered": False,
    }

    def init(self):
        self.v, self.mean, self.buf = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, v, mean, buf in zip(self.params, grads, self.v, self.mean, self.buf):
            g = g + h.weight_decay * p
            v.copy_(h.alpha * v + (1 - h.alpha) * g**2)
            var = v
            if h.centered:
                mean.copy_(h.alpha * mean + (1 - h.alpha) * g)
                var = v - mean**2
            buf.copy_(h.momentum * buf + g / (var.sqrt() + h.eps))
            p -= h.lr * buf


@reference("rmsprop_tf")
class RMSpropTF(Reference):
    """TensorFlow's RMSprop: v starts at ONE, eps inside the root, lr inside the momentum.

    b <- mu b + lr g / sqrt(v + eps); p <- p - b. decoupled_decay as in timm.
    """

    paper = "TensorFlow 1 RMSPropOptimizer, as in timm's rmsproptf"
    defaults = {
        "lr": 1e-2,
        "alpha": 0.9,
        "eps": 1e-10,
        "weight_decay": 0.0,
        "momentum": 0.0,
        "centered": False,
        "decoupled_decay": False,
        "lr_in_momentum": True,
    }

    def init(self):
        self.v = [torch.ones_like(p) for p in self.params]
        self.mean, self.buf = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, v, mean, buf in zip(self.params, grads, self.v, self.mean, self.buf):
            if h.decoupled_decay:
                p *= 1 - h.lr * h.weight_decay
            else:
                g = g + h.weight_decay * p
            v += (1 - h.alpha) * (g**2 - v)
            var = v
            if h.centered:
                mean += (1 - h.alpha) * (g - mean)
                var = v - mean**2
            d = g / (var + h.eps).sqrt()
            if h.lr_in_momentum:
                buf.copy_(h.momentum * buf + h.lr * d)
                p -= buf
            else:
                buf.copy_(h.momentum * buf + d)
                p -= h.lr * buf
