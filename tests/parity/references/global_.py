"""References with a number that concerns all parameters at once: d, the global norm, the loss."""

# ruff: noqa: RUF012  (a table of defaults is never written to)
from __future__ import annotations

import math

import torch

from .adaptive import Adam, AdamW
from .base import Reference, reference
from .pointwise import SGD


def dot(xs, ys):
    return sum((x * y).sum().item() for x, y in zip(xs, ys))


def norm(xs):
    return math.sqrt(dot(xs, xs))


def l1(xs):
    return sum(x.abs().sum().item() for x in xs)


@reference("adamw_clip_global")
class AdamWClipGlobal(AdamW):
    """AdamW on gradients scaled by min(1, max_norm / (||all g|| + clip_eps)), as torch's clip.

    optax has no clip_eps.
    """

    paper = "Pascanu et al. 2013, 1211.5063"
    defaults = {**AdamW.defaults, "max_norm": 1.0, "clip_eps": 1e-6}

    def update(self, grads):
        scale = min(1.0, self.h.max_norm / (norm(grads) + self.h.clip_eps))
        super().update([scale * g for g in grads])


@reference("sgd_clip_global")
class SGDClipGlobal(SGD):
    """SGD on gradients scaled by min(1, max_norm / (||all g|| + clip_eps)), as torch's clip."""

    paper = "Pascanu et al. 2013, 1211.5063"
    defaults = {**SGD.defaults, "max_norm": 1.0, "clip_eps": 1e-6}

    def update(self, grads):
        scale = min(1.0, self.h.max_norm / (norm(grads) + self.h.clip_eps))
        super().update([scale * g for g in grads])


@reference("normalized_gd")
class NormalizedGD(Reference):
    """p <- p - lr g / (||all g|| + eps); optax has 1e-6 for eps."""

    paper = "Hazan et al. 2015, 1507.02030"
    defaults = {"lr": 1e-2, "eps": 0.0}

    def update(self, grads):
        n = norm(grads) + self.h.eps
        for p, g in zip(self.params, grads):
            p -= self.h.lr * g / n


@reference("prodigy")
class Prodigy(Reference):
    """r <- b3 r + lr d^2 <g, p0 - p>; s <- b3 s + lr d^2 g; d <- max(d, d_coef r / ||s||_1).

    m, v see d g and d^2 g^2; p <- p - lr d m / (sqrt(v) + d eps), with the d of before in the
    rate, the new one beside eps (as the authors' code and its peers; the paper has the old
    one). r and s are divided by d0 in code: the ratio is the same. One d for all parameters.
    use_bias_correction multiplies lr d by sqrt(1 - b2^t) / (1 - b1^t), safeguard_warmup
    leaves lr out of s. Decay is decoupled, at rate lr d. b3 is sqrt(b2) if not given.
    """

    paper = "Mishchenko & Defazio 2023, 2306.06101"
    defaults = {
        "lr": 1.0,
        "betas": (0.9, 0.999),
        "beta3": None,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "use_bias_correction": False,
        "safeguard_warmup": False,
        "d0": 1e-6,
        "d_coef": 1.0,
        "growth_rate": float("inf"),
    }

    def init(self):
        self.m, self.v, self.s = self.zeros(), self.zeros(), self.zeros()
        self.p0, self.r = self.copies(), 0.0
        self.d = self.d_max = self.h.d0

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        b3 = math.sqrt(b2) if h.beta3 is None else h.beta3
        d, d0 = self.d, h.d0
        rate = h.lr * d
        if h.use_bias_correction:
            rate *= math.sqrt(1 - b2**self.t) / (1 - b1**self.t)
        moved = [p0 - p for p0, p in zip(self.p0, self.params)]
        self.r = b3 * self.r + d / d0 * rate * dot(grads, moved)
        for g, m, v, s in zip(grads, self.m, self.v, self.s):
            m.copy_(b1 * m + (1 - b1) * d * g)
            v.copy_(b2 * v + (1 - b2) * d**2 * g**2)
            s.copy_(b3 * s + d / d0 * (d if h.safeguard_warmup else rate) * g)
        total = l1(self.s)
        if total == 0:
            return
        if h.lr > 0:
            d_hat = h.d_coef * self.r / total
            if d == d0:
                d = max(d, d_hat)
            self.d_max = max(self.d_max, d_hat)
            self.d = min(self.d_max, d * h.growth_rate)
        for p, m, v in zip(self.params, self.m, self.v):
            p *= 1 - rate * h.weight_decay
            p -= rate * m / (v.sqrt() + self.d * h.eps)


@reference("dadapt_adam")
class DAdaptAdam(Reference):
    """r <- q r + (1 - q) d lr <g, s / (sqrt(v) + eps)>, q = sqrt(b2); s <- q s + (1 - q) d lr g.

    d <- max(d, r / ((1 - q)||s||_1)); m averages d lr g; p <- p - m / (sqrt(v) + eps). The inner
    product has s and v as they were before this step (the authors' code). decouple makes the
    decay AdamW's, at rate d lr.
    """

    paper = "Defazio & Mishchenko 2023, 2301.07733, Algorithm 5"
    defaults = {
        "lr": 1.0,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "decouple": False,
        "use_bias_correction": False,
        "d0": 1e-6,
        "growth_rate": float("inf"),
    }

    def init(self):
        self.m, self.v, self.s = self.zeros(), self.zeros(), self.zeros()
        self.d, self.r = self.h.d0, 0.0

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        q = math.sqrt(b2)
        rate = self.d * h.lr
        if h.use_bias_correction:
            rate *= math.sqrt(1 - b2**self.t) / (1 - b1**self.t)
        if not h.decouple:
            grads = [g + h.weight_decay * p for p, g in zip(self.params, grads)]
        weighted = [s / (v.sqrt() + h.eps) for s, v in zip(self.s, self.v)]
        self.r = q * self.r + (1 - q) * rate * dot(grads, weighted)
        for g, m, v, s in zip(grads, self.m, self.v, self.s):
            m.copy_(b1 * m + (1 - b1) * rate * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            s.copy_(q * s + (1 - q) * rate * g)
        if l1(self.s) == 0:
            return
        d_hat = self.r / ((1 - q) * l1(self.s))
        self.d = max(self.d, min(d_hat, self.d * h.growth_rate))
        for p, m, v in zip(self.params, self.m, self.v):
            if h.decouple:
                p *= 1 - rate * h.weight_decay
            p -= m / (v.sqrt() + h.eps)


@reference("dadapt_sgd")
class DAdaptSGD(Reference):
    """l = d lr / ||g_0||; r <- r + l <g, s>; s <- s + l g; d <- max(d, 2 r / ||s||).

    z = p0 - s; p <- mu p + (1 - mu) z. ||g_0|| is the first global norm, of gradients
    with their decay, as all else sees them. r has s as it was before this step.
    """

    paper = "Defazio & Mishchenko 2023, 2301.07733, Algorithm 4"
    defaults = {
        "lr": 1.0,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "d0": 1e-6,
        "growth_rate": float("inf"),
    }

    def init(self):
        self.s, self.p0, self.r, self.d = self.zeros(), self.copies(), 0.0, self.h.d0

    def update(self, grads):
        h = self.h
        grads = [g + h.weight_decay * p for p, g in zip(self.params, grads)]
        if self.t == 1:
            self.g0 = norm(grads)
        rate = self.d * h.lr / self.g0
        self.r += rate * dot(grads, self.s)
        for s, g in zip(self.s, grads):
            s += rate * g
        d_hat = 2 * self.r / norm(self.s)
        self.d = max(self.d, min(d_hat, self.d * h.growth_rate))
        for p, p0, s in zip(self.params, self.p0, self.s):
            p.copy_(h.momentum * p + (1 - h.momentum) * (p0 - s))


@reference("dadapt_adagrad")
class DAdaptAdaGrad(Reference):
    """a <- a + g^2 (from 1e-6); s <- s + d lr g; p <- mu p + (1 - mu)(p0 - s / (sqrt(a) + eps)).

    w <- w + (d lr)^2 sum g^2/(sqrt(a) + eps); d <- max(d, (sum s^2/(sqrt(a) + eps) - w)/||s||_1),
    this step's s and a in all of them.
    """

    paper = "Defazio & Mishchenko 2023, 2301.07733, Algorithm 2"
    defaults = {
        "lr": 1.0,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "eps": 0.0,
        "d0": 1e-6,
        "growth_rate": float("inf"),
    }

    def init(self):
        self.a = [torch.full_like(p, 1e-6) for p in self.params]
        self.s, self.p0, self.w, self.d = self.zeros(), self.copies(), 0.0, self.h.d0

    def update(self, grads):
        h = self.h
        rate = self.d * h.lr
        grads = [g + h.weight_decay * p for p, g in zip(self.params, grads)]
        for g, a, s in zip(grads, self.a, self.s):
            a += g**2
            s += rate * g
        roots = [a.sqrt() + h.eps for a in self.a]
        self.w += rate**2 * dot(grads, [g / root for g, root in zip(grads, roots)])
        if l1(self.s) == 0:
            return
        weighted = dot(self.s, [s / root for s, root in zip(self.s, roots)])
        d_hat = (weighted - self.w) / l1(self.s)
        self.d = max(self.d, min(d_hat, self.d * h.growth_rate))
        for p, p0, s, root in zip(self.params, self.p0, self.s, roots):
            p.copy_(h.momentum * p + (1 - h.momentum) * (p0 - s / root))


@reference("dadapt_adan")
class DAdaptAdan(Reference):
    """Adan whose m and v average d lr g and d lr (g - g_prev), without debiasing.

    s <- b3 s + (1 - b3) d lr g; w <- b3 w + (1 - b3)(d lr)^2 sum g^2/root;
    d <- max(d, (sum s^2/root / (1 - b3) - w) / ||s||_1), root = sqrt(n) + eps of this step.
    Decay: p / (1 + d lr wd) after the step, or with no_prox (1 - d lr wd) p before.
    pytorch_optimizer averages the fourth power in n, squaring the square.
    """

    paper = "Defazio & Mishchenko 2023, 2301.07733 (the authors' package)"
    defaults = {
        "lr": 1.0,
        "betas": (0.98, 0.92, 0.99),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "no_prox": False,
        "d0": 1e-6,
        "growth_rate": float("inf"),
    }

    def init(self):
        self.m, self.v, self.n, self.s = self.zeros(), self.zeros(), self.zeros(), self.zeros()
        self.prev, self.w, self.d = None, 0.0, self.h.d0

    def update(self, grads):
        h = self.h
        b1, b2, b3 = h.betas
        rate = self.d * h.lr
        prevs = grads if self.prev is None else self.prev
        for g, prev, m, v, n, s in zip(grads, prevs, self.m, self.v, self.n, self.s):
            m.copy_(b1 * m + (1 - b1) * rate * g)
            v.copy_(b2 * v + (1 - b2) * rate * (g - prev))
            n.copy_(b3 * n + (1 - b3) * (g + b2 * (g - prev)) ** 2)
            s.copy_(b3 * s + (1 - b3) * rate * g)
        self.prev = grads
        roots = [n.sqrt() + h.eps for n in self.n]
        g_sq = dot(grads, [g / root for g, root in zip(grads, roots)])
        s_sq = dot(self.s, [s / root for s, root in zip(self.s, roots)])
        if l1(self.s) == 0:
            return
        self.w = b3 * self.w + (1 - b3) * rate**2 * g_sq
        d_hat = (s_sq / (1 - b3) - self.w) / l1(self.s)
        self.d = max(self.d, min(d_hat, self.d * h.growth_rate))
        for p, m, v, root in zip(self.params, self.m, self.v, roots):
            if h.no_prox:
                p *= 1 - rate * h.weight_decay
            p -= (m + b2 * v) / root
            if not h.no_prox:
                p /= 1 + rate * h.weight_decay


@reference("dadapt_lion")
class DAdaptLion(Reference):
    """u = sign(b1 m + (1 - b1) g); p <- p - d lr (u + wd p); m averages d lr g.

    r <- q r + (1 - q) d lr <u, s>; s <- q s + (1 - q) d lr u, q = sqrt(b2);
    d <- max(d, r / ((1 - q)||s||_1)). r has s as it was before this step. m carries d lr,
    while the g in u does not, as in the authors' code.
    """

    paper = "Defazio & Mishchenko 2023, 2301.07733 (the authors' package)"
    defaults = {"lr": 1.0, "betas": (0.9, 0.999), "weight_decay": 0.0, "d0": 1e-6}

    def init(self):
        self.m, self.s, self.r, self.d = self.zeros(), self.zeros(), 0.0, self.h.d0

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        q = math.sqrt(b2)
        rate = self.d * h.lr
        us = [(b1 * m + (1 - b1) * g).sign() for m, g in zip(self.m, grads)]
        self.r = q * self.r + (1 - q) * rate * dot(us, self.s)
        for p, g, u, m, s in zip(self.params, grads, us, self.m, self.s):
            p *= 1 - rate * h.weight_decay
            p -= rate * u
            m.copy_(b2 * m + (1 - b2) * rate * g)
            s.copy_(q * s + (1 - q) * rate * u)
        if l1(self.s) > 0:
            self.d = max(self.d, self.r / ((1 - q) * l1(self.s)))


@reference("dog")
class DoG(Reference):
    """r <- max(r, ||p - p0||); G <- G + ||g||^2; p <- p - lr r / sqrt(G + eps) g, all global.

    r starts at reps_rel (1 + ||p0||). The paper evaluates an average of the iterates; that is
    another wrapper's work.
    """

    paper = "Ivgi et al. 2023, 2302.12022"
    defaults = {"lr": 1.0, "reps_rel": 1e-6, "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.p0, self.G = self.copies(), 0.0
        self.r = self.h.reps_rel * (1 + norm(self.params))

    def update(self, grads):
        h = self.h
        grads = [g + h.weight_decay * p for p, g in zip(self.params, grads)]
        self.r = max(self.r, norm([p - p0 for p, p0 in zip(self.params, self.p0)]))
        self.G += dot(grads, grads)
        for p, g in zip(self.params, grads):
            p -= h.lr * self.r / math.sqrt(self.G + h.eps) * g


@reference("ldog")
class LDoG(Reference):
    """DoG with a distance and a sum of squares for each tensor."""

    paper = "Ivgi et al. 2023, 2302.12022 (L-DoG)"
    defaults = {"lr": 1.0, "reps_rel": 1e-6, "eps": 1e-8, "weight_decay": 0.0}

    def init(self):
        self.p0, self.G = self.copies(), self.scalars()
        self.r = [self.h.reps_rel * (1 + p.norm().item()) for p in self.params]

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            g = g + h.weight_decay * p
            self.r[i] = max(self.r[i], (p - self.p0[i]).norm().item())
            self.G[i] += g.square().sum().item()
            p -= h.lr * self.r[i] / math.sqrt(self.G[i] + h.eps) * g


@reference("dowg")
class DoWG(Reference):
    """r <- max(r, ||p - p0||); G <- G + r^2 ||g||^2; p <- p - lr r^2 / (sqrt(G) + eps) g."""

    paper = "Khaled et al. 2023, 2305.16284"
    defaults = {"lr": 1.0, "r0": 1e-4, "eps": 1e-4}

    def init(self):
        self.p0, self.G, self.r = self.copies(), 0.0, self.h.r0

    def update(self, grads):
        h = self.h
        self.r = max(self.r, norm([p - p0 for p, p0 in zip(self.params, self.p0)]))
        self.G += self.r**2 * dot(grads, grads)
        for p, g in zip(self.params, grads):
            p -= h.lr * self.r**2 / (math.sqrt(self.G) + h.eps) * g


@reference("adagrad_norm")
class AdaGradNorm(Reference):
    """b^2 <- b^2 + ||all g||^2; p <- p - lr g / b: one accumulator, from b0."""

    paper = "Ward et al. 2018, 1806.01811"
    defaults = {"lr": 1.0, "b0": 0.1}

    def init(self):
        self.b2 = self.h.b0**2

    def update(self, grads):
        self.b2 += dot(grads, grads)
        for p, g in zip(self.params, grads):
            p -= self.h.lr * g / math.sqrt(self.b2)


@reference("adgd")
class AdGD(Reference):
    """l_k = min(sqrt(1 + theta) l_{k-1}, ||p - p_prev|| / (2 ||g - g_prev||)); p <- p - l_k g.

    theta = l_{k-1} / l_{k-2}, infinite at first: so lr is the first step's rate only. Norms are
    global and of differences; pytorch_optimizer's ASGD takes differences of norms.
    """

    paper = "Malitsky & Mishchenko 2019, 1910.09529, Algorithm 1"
    defaults = {"lr": 1e-6}

    def init(self):
        self.rate, self.theta = self.h.lr, float("inf")
        self.p_prev = self.g_prev = None

    def update(self, grads):
        if self.g_prev is not None:
            dp = norm([p - q for p, q in zip(self.params, self.p_prev)])
            dg = norm([g - q for g, q in zip(grads, self.g_prev)])
            grown = math.sqrt(1 + self.theta) * self.rate
            rate = min(grown, dp / (2 * dg) if dg > 0 else float("inf"))
            self.theta, self.rate = rate / self.rate, rate
        self.p_prev, self.g_prev = self.copies(), grads
        for p, g in zip(self.params, grads):
            p -= self.rate * g


@reference("polyak_sgd")
class PolyakSGD(Reference):
    """p <- p - lr min((f - f_min) / (||all g||^2 + eps), max_lr) g; needs the loss f."""

    paper = "Polyak 1969; Loizou et al. 2020, 2002.10542 (SPS_max)"
    defaults = {"lr": 1.0, "max_lr": 1.0, "f_min": 0.0, "eps": 0.0}

    def update(self, grads):
        h = self.h
        rate = min((self.loss - h.f_min) / (dot(grads, grads) + h.eps), h.max_lr)
        for p, g in zip(self.params, grads):
            p -= h.lr * rate * g


@reference("grokadamw")
class GrokAdamW(Reference):
    """mu <- a mu + (1 - a) g, a = alpha_init exp(-kappa s); AdamW on g + lamb mu.

    s = max(0, eval - train) / max(eval, train), of the step's loss and the hyper eval_loss
    (0 if either is missing). g is first clipped, per tensor, to norm gradient_clipping (torch's
    clip, 1e-6). The i-th tensor has b1 (1 - gamma)^i in m, while debiasing has b1 for all, and
    eps is added to the raw root: as the author's package, which Hugging Face uses.
    """

    paper = "Hartford 2024, github.com/cognitivecomputations/grokadamw; Lee et al. 2405.20233"
    defaults = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 1e-2,
        "alpha_init": 0.98,
        "lamb": 2.0,
        "gamma": 0.1,
        "grokking_signal_decay_rate": 0.1,
        "gradient_clipping": 1.0,
        "eval_loss": None,
    }

    def init(self):
        self.mu, self.m, self.v = self.zeros(), self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        signal = 0.0
        if self.loss is not None and h.eval_loss is not None:
            largest = max(h.eval_loss, self.loss)
            signal = max(0.0, h.eval_loss - self.loss) / largest if largest > 0 else 0.0
        a = h.alpha_init * math.exp(-h.grokking_signal_decay_rate * signal)
        for i, (p, g, mu, m, v) in enumerate(zip(self.params, grads, self.mu, self.m, self.v)):
            if h.gradient_clipping > 0:
                g = g * min(1.0, h.gradient_clipping / (g.norm().item() + 1e-6))
            mu.copy_(a * mu + (1 - a) * g)
            g = g + h.lamb * mu
            b1_i = b1 * (1 - h.gamma) ** i
            m.copy_(b1_i * m + (1 - b1_i) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
            rate = h.lr * math.sqrt(1 - b2**self.t) / (1 - b1**self.t)
            p *= 1 - h.lr * h.weight_decay
            p -= rate * m / (v.sqrt() + h.eps)


def spikes(history, window, sigmas):
    """Is the last value more than so many standard deviations above the mean of those before?

    Not asked before max(2, window / 2) values (the last included) are known.
    """
    if len(history) < max(2, window // 2):
        return False
    before = torch.tensor(history[:-1], dtype=torch.float64)
    return bool(history[-1] - before.mean() > sigmas * before.std())


@reference("skip_step_adamw")
class SkipStepAdamW(AdamW):
    """AdamW that leaves out steps whose loss or global gradient norm spikes.

    A spike is more than sigmas unbiased standard deviations above the mean of the last
    `window` values before it. A skipped step changes nothing, the step count included; its loss
    and norm do enter the history. Without a loss only the norm is looked at.
    """

    paper = "OLMo-core's SkipStepOptimizer (Walsh et al. 2024, 2501.00656)"
    defaults = {**AdamW.defaults, "window": 128, "sigmas": 6.0}

    def init(self):
        super().init()
        self.losses, self.norms, self.skipped = [], [], 0

    def update(self, grads):
        h = self.h
        self.norms.append(norm(grads))
        if self.loss is not None:
            self.losses.append(self.loss)
        skip = spikes(self.norms, h.window, h.sigmas) or spikes(self.losses, h.window, h.sigmas)
        del self.norms[: -h.window], self.losses[: -h.window]
        if skip:
            self.t -= 1
            self.skipped += 1
        else:
            super().update(grads)


@reference("adams")
class AdamS(Reference):
    """Adam whose decay is lr wd / sqrt(mean of v_hat over ALL parameters), decoupled.

    Stable weight decay; unrelated to the later optimizers named AdamS. m and v see the bare
    gradient, and the decay precedes the step.
    """

    paper = "Xie et al. 2020, 2011.11152"
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-4}

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for g, m, v in zip(grads, self.m, self.v):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
        mean = torch.cat([v.flatten() for v in self.v]).mean() / (1 - b2**self.t)
        for p, m, v in zip(self.params, self.m, self.v):
            p *= max(0.0, 1 - h.lr * h.weight_decay / mean.sqrt())  # not beyond zero
            m_hat, v_hat = m / (1 - b1**self.t), v / (1 - b2**self.t)
            p -= h.lr * m_hat / (v_hat.sqrt() + h.eps)


class Mechanic(Reference):
    """p = p0 - S Delta, Delta the sum of a base's updates u, S = sum of n scales that bet on h.

    h = <g', Delta_before>, g' = g + wd S ||g||/(||p|| + eps) p; per beta: m <- max(beta m,
    |h| + eps), v <- beta^2 v + h^2, r <- beta r + clip(h, +-m_before) s, and
    s = (s_init / n m + max(r, 0)) / (sqrt(v) + eps). As optax.contrib.mechanize: the clip by the
    m of before is a later addition to the paper, Delta is found again from p.
    """

    defaults: dict = {}
    mechanic_defaults = {
        "mechanic_eps": 1e-8,
        "s_init": 1e-6,
        "num_betas": 6,
        "mechanic_decay": 1e-2,
    }
    base: type[Reference] = Reference

    def init(self):
        names = self.base.defaults
        self.inner = self.base(self.params, **{k: v for k, v in vars(self.h).items() if k in names})
        n = self.h.num_betas
        self.p0 = self.copies()
        self.m, self.v, self.r = [torch.zeros(n, dtype=torch.float64) for _ in range(3)]
        self.s = torch.full((n,), self.h.s_init, dtype=torch.float64)
        self.betas = 1 - 0.1 ** torch.arange(1, n + 1, dtype=torch.float64)

    def update(self, grads):
        h = self.h
        eps, S = h.mechanic_eps, self.s.sum().item()
        for q, p in zip(self.inner.params, self.params):
            q.copy_(p)
        hypers = {k: v for k, v in vars(h).items() if k in self.base.defaults}
        self.inner.step(grads, self.loss, **hypers)
        us = [p - q for p, q in zip(self.params, self.inner.params)]
        decay = h.mechanic_decay * S * norm(grads) / (norm(self.params) + eps)
        grads = [g + decay * p for p, g in zip(self.params, grads)]
        before = [(p0 - p) / (S + eps) for p0, p in zip(self.p0, self.params)]
        reward = torch.tensor(dot(grads, before), dtype=torch.float64)
        clipped = torch.minimum(torch.maximum(reward, -self.m), self.m)
        self.m = torch.maximum(self.betas * self.m, reward.abs() + eps)
        self.v = self.betas**2 * self.v + reward**2
        self.r = self.betas * self.r + clipped * self.s
        wealth = h.s_init / h.num_betas * self.m + self.r.clamp(min=0)
        self.s = wealth / (self.v.sqrt() + eps)
        for p, p0, delta, u in zip(self.params, self.p0, before, us):
            p.copy_(p0 - self.s.sum() * (delta + u))


@reference("mechanic_sgd")
class MechanicSGD(Mechanic):
    """Mechanic over SGD."""

    paper = "Cutkosky et al. 2023, 2306.00144"
    base = SGD
    defaults = {**SGD.defaults, **Mechanic.mechanic_defaults}


@reference("mechanic_adam")
class MechanicAdam(Mechanic):
    """Mechanic over Adam."""

    paper = "Cutkosky et al. 2023, 2306.00144"
    base = Adam
    defaults = {**Adam.defaults, **Mechanic.mechanic_defaults}


@reference("momo")
class MoMo(Reference):
    """f, m, c: averages of the loss, of g and of <g, p>; the rate that a linear model allows.

    tau = min(lr, max((1 + lr wd)(f - f_min - c) + <m, p>, 0) / ||m||^2);
    p <- p / (1 + lr wd) - tau m, as optax.
    Averages start at the first values. f_min is not adapted. Needs the loss.
    """

    paper = "Schaipp et al. 2023, 2305.07583"
    defaults = {"lr": 1.0, "beta": 0.9, "f_min": 0.0, "weight_decay": 0.0}

    def init(self):
        self.m, self.f, self.c = self.zeros(), 0.0, 0.0

    def update(self, grads):
        h = self.h
        beta = 0.0 if self.t == 1 else h.beta
        self.f = beta * self.f + (1 - beta) * self.loss
        self.c = beta * self.c + (1 - beta) * dot(grads, self.params)
        for m, g in zip(self.m, grads):
            m.copy_(beta * m + (1 - beta) * g)
        shrink = 1 + h.lr * h.weight_decay
        above = shrink * (self.f - h.f_min - self.c) + dot(self.m, self.params)
        tau = min(h.lr, max(above, 0.0) / dot(self.m, self.m))
        for p, m in zip(self.params, self.m):
            p.copy_(p / shrink - tau * m)


@reference("momo_adam")
class MoMoAdam(Reference):
    """MoMo in Adam's norm: D = sqrt(v_hat) + eps, ||m||^2 becomes <m, m / D>, the step m / D.

    f, m and c start at 0; f_min is weighed with 1 - b1^t, the rate's cap lr divided by it.
    """

    paper = "Schaipp et al. 2023, 2305.07583, Algorithm 4"
    defaults = {
        "lr": 1e-2,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "f_min": 0.0,
        "weight_decay": 0.0,
    }

    def init(self):
        self.m, self.v, self.f, self.c = self.zeros(), self.zeros(), 0.0, 0.0

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        self.f = b1 * self.f + (1 - b1) * self.loss
        self.c = b1 * self.c + (1 - b1) * dot(grads, self.params)
        for g, m, v in zip(grads, self.m, self.v):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g**2)
        c1, c2 = 1 - b1**self.t, 1 - b2**self.t
        steps = [m / ((v / c2).sqrt() + h.eps) for m, v in zip(self.m, self.v)]
        shrink = 1 + h.lr * h.weight_decay
        above = shrink * (self.f - c1 * h.f_min - self.c) + dot(self.m, self.params)
        tau = min(h.lr / c1, max(above, 0.0) / dot(self.m, steps))
        for p, s in zip(self.params, steps):
            p.copy_(p / shrink - tau * s)


@reference("alig")
class AliG(Reference):
    """gamma = min(loss / (||all g||^2 + eps), max_lr); b <- mu b - gamma g; p <- p - gamma g + mu b.

    Without the projection on a ball. Needs the loss.
    """

    paper = "Berrada et al. 2019, 1906.05661"
    defaults = {"max_lr": 0.1, "momentum": 0.9, "eps": 1e-6}

    def init(self):
        self.b = self.zeros()

    def update(self, grads):
        h = self.h
        gamma = min(self.loss / (dot(grads, grads) + h.eps), h.max_lr)
        for p, g, b in zip(self.params, grads, self.b):
            b.copy_(h.momentum * b - gamma * g)
            p += h.momentum * b - gamma * g
