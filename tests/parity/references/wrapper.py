"""References for what wraps another optimizer: slow weights, averages, sharpness, tuners.

A wrapper's `inner` is the name of a reference, or its class, with its own hypers in
`inner_hypers`; hypers changed at a step that are not the wrapper's go to the inner one. What
evaluates the gradient itself has `step_fn(grad_fn)`, where `grad_fn(params)` gives
`(loss, grads)` at these parameters.
"""

# ruff: noqa: C408, RUF012  (hypers read best as keywords, and nobody changes them)
from __future__ import annotations

import math
from collections import deque

import torch

from .base import REFERENCES, Reference, reference


class Wrapper(Reference):
    """Steps `self.inner`, whose parameters are this one's own, then does `after`."""

    def __init__(self, params, inner="sgd", inner_hypers=None, **hypers):
        inner = REFERENCES[inner] if isinstance(inner, str) else inner
        self.inner = inner(params, **(inner_hypers or {}))
        super().__init__(params, **hypers)

    def init(self):
        self.params = self.inner.params  # the fast weights

    def step(self, grads, loss=None, **changed_hypers):
        mine = {k: v for k, v in changed_hypers.items() if k in self.defaults}
        theirs = {k: v for k, v in changed_hypers.items() if k not in self.defaults}
        self.changed = theirs
        super().step(grads, loss, **mine)

    def update(self, grads):
        self.before(grads)
        self.inner.step(grads, self.loss, **self.changed)
        self.after()

    def before(self, grads):
        pass

    def after(self):
        pass


# ------------------------------------------------------------------ slow weights


@reference("lookahead")
class Lookahead(Wrapper):
    """Every k steps: slow <- slow + alpha (fast - slow); fast <- slow.

    The slow weights start as the weights before the first step. The inner state is kept
    (`pullback_momentum="none"`); the paper's other options reset or interpolate it. k is 5 in
    the paper's experiments, 6 in fastai, Ranger and timm.
    """

    paper = "Zhang, Lucas, Hinton & Ba 2019, 1907.08610"
    defaults = dict(k=6, alpha=0.5)

    def init(self):
        super().init()
        self.slow = self.copies()

    def after(self):
        if self.t % self.h.k == 0:
            for p, slow in zip(self.params, self.slow):
                slow += self.h.alpha * (p - slow)
                p.copy_(slow)


@reference("ranger")
class Ranger(Reference):
    """RAdam on centralized gradients, in a Lookahead of k = 6, alpha = 0.5.

    g of more than one axis loses its mean over all axes but the first. With
    N = N_max - 2 t b2^t / (1 - b2^t), N_max = 2 / (1-b2) - 1: for N > threshold,
    p <- p - lr sqrt(1-b2^t) r / (1-b1^t) m / (sqrt(v) + eps) with RAdam's r, else
    p <- p - lr / (1-b1^t) m. Decay is decoupled, before the step.

    The order of the author's code. fastai has no centralization (`centralize=False`), momentum
    .95, decay .01. pytorch_optimizer goes lr m / (1 - b1^t) *up* the gradient below the threshold
    unless `degenerated_to_sgd=True`.
    """

    paper = "Wright 2019, github.com/lessw2020; Liu et al. 2019, 1908.03265; Yong et al. 2020"
    defaults = dict(
        lr=1e-3,
        betas=(0.95, 0.999),
        eps=1e-5,
        weight_decay=0.0,
        k=6,
        alpha=0.5,
        n_sma_threshold=5,
        centralize=True,
    )

    def init(self):
        self.m, self.v, self.slow = self.zeros(), self.zeros(), self.copies()

    def update(self, grads):
        h, t = self.h, self.t
        b1, b2 = h.betas
        n_max = 2 / (1 - b2) - 1
        n = n_max - 2 * t * b2**t / (1 - b2**t)
        for p, g, m, v, slow in zip(self.params, grads, self.m, self.v, self.slow):
            if h.centralize and g.ndim > 1:
                g = g - g.mean(dim=tuple(range(1, g.ndim)), keepdim=True)
            p *= 1 - h.lr * h.weight_decay
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * g.square())
            if n > h.n_sma_threshold:
                r = math.sqrt(
                    (n - 4) * (n - 2) * n_max / ((n_max - 4) * (n_max - 2) * n) * (1 - b2**t)
                )
                p -= h.lr * r / (1 - b1**t) * m / (v.sqrt() + h.eps)
            else:
                p -= h.lr / (1 - b1**t) * m
            if t % h.k == 0:
                slow += h.alpha * (p - slow)
                p.copy_(slow)


@reference("snoo", "outer_nesterov")
class Snoo(Wrapper):
    """Every k steps: s = slow - fast; b <- mu b + s; slow <- slow - lr (mu b + s); fast <- slow.

    Nesterov's SGD (torch's form) on the pseudo-gradient: DiLoCo on one worker. With mu = 0,
    Lookahead. The inner state is kept. `outer_lr` and `outer_momentum` are the outer hypers.
    """

    paper = "Kallusky et al. 2025, 2510.15830; Douillard et al. 2023, 2311.08105"
    defaults = dict(k=20, outer_lr=0.7, outer_momentum=0.9)

    def init(self):
        super().init()
        self.slow, self.b = self.copies(), self.zeros()

    def after(self):
        h = self.h
        if self.t % h.k == 0:
            for p, slow, b in zip(self.params, self.slow, self.b):
                s = slow - p
                b.copy_(h.outer_momentum * b + s)
                slow -= h.outer_lr * (h.outer_momentum * b + s)
                p.copy_(slow)


# ------------------------------------------------------------------ averages


@reference("weight_ema")
class WeightEMA(Wrapper):
    """ema <- d ema + (1-d) p after each step, from the weights before the first one.

    torch's AveragedModel starts the average at the first weights that it is given; keras from
    zero with a correction. `warmup=True`: d is at most (1 + t) / (10 + t), timm's convention,
    t counting from 1.
    """

    paper = "Polyak & Juditsky 1992; torch.optim.swa_utils.get_ema_avg_fn"
    defaults = dict(decay=0.999, warmup=False)

    def init(self):
        super().init()
        self.average = self.copies()

    def after(self):
        d = self.h.decay
        if self.h.warmup:
            d = min(d, (1 + self.t) / (10 + self.t))
        for p, average in zip(self.params, self.average):
            average.copy_(d * average + (1 - d) * p)

    def eval_params(self):
        return self.average


@reference("swa")
class SWA(Wrapper):
    """The plain mean of the weights at the steps start, start + every, start + 2 every, ...

    Evaluated at the weights themselves before. As torch's AveragedModel when its
    `update_parameters` is called at those steps.
    """

    paper = "Izmailov et al. 2018, 1803.05407"
    defaults = dict(start=1, every=1)

    def init(self):
        super().init()
        self.average, self.n = None, 0

    def after(self):
        since = self.t - self.h.start
        if since >= 0 and since % self.h.every == 0:
            if self.n == 0:
                self.average = self.copies()
            else:
                for p, average in zip(self.params, self.average):
                    average += (p - average) / (self.n + 1)
            self.n += 1

    def eval_params(self):
        return self.params if self.average is None else self.average


@reference("lawa")
class LAWA(Wrapper):
    """The mean of the last `window` checkpoints, taken every `every` steps.

    Fewer than that are averaged while there are fewer; none yet: the weights themselves.
    """

    paper = "Kaddour 2022, 2209.14981"
    defaults = dict(window=6, every=1)

    def init(self):
        super().init()
        self.queue = deque(maxlen=self.h.window)

    def after(self):
        if self.t % self.h.every == 0:
            self.queue.append(self.copies())

    def eval_params(self):
        if not self.queue:
            return self.params
        return [sum(ps) / len(self.queue) for ps in zip(*self.queue)]


@reference("gpa")
class GPA(Wrapper):
    """z <- inner step from z, with the gradient at y; x <- mu_x x + (1 - mu_x) z; then
    y = mu_y x + (1 - mu_y) z. Trained at y (`params`), evaluated at x.

    All three start at the first weights; decay is the inner one's, on z. mu_y = 0: an average
    of the inner weights; mu_y = 1 with SGD: heavy ball with lr (1 - mu_x).
    """

    paper = "Defazio et al. 2025, 2512.17131"
    defaults = dict(mu_x=0.9967, mu_y=0.8)

    def init(self):
        self.x = self.copies()  # and self.params is y, a copy of its own

    def after(self):
        h = self.h
        for y, x, z in zip(self.params, self.x, self.inner.params):
            x.copy_(h.mu_x * x + (1 - h.mu_x) * z)
            y.copy_(h.mu_y * x + (1 - h.mu_y) * z)

    def eval_params(self):
        return self.x


# ------------------------------------------------------------------ sharpness


class Sharpness(Wrapper):
    """What evaluates the gradient more than once: `step_fn(grad_fn)`, then the inner step."""

    def step(self, grads, loss=None, **changed_hypers):
        raise TypeError(f"{self.name} evaluates the gradient itself: call step_fn(grad_fn)")

    @torch.no_grad()
    def step_fn(self, grad_fn, **changed_hypers):
        mine = {k: v for k, v in changed_hypers.items() if k in self.defaults}
        theirs = {k: v for k, v in changed_hypers.items() if k not in self.defaults}
        vars(self.h).update(mine)
        self.t += 1
        loss, grads = self.gradient(grad_fn)
        self.inner.step(grads, loss, **theirs)
        return loss

    def at(self, grad_fn, offsets=None):
        """Loss and gradient at params + offsets, float64, detached; the params as before."""
        params = self.copies()
        if offsets is not None:
            params = [p + e for p, e in zip(params, offsets)]
        with torch.enable_grad():
            loss, grads = grad_fn(params)
        return loss, [g.detach().clone().to(torch.float64) for g in grads]

    def gradient(self, grad_fn):
        """The loss at the params, and the gradient that the inner optimizer gets."""
        raise NotImplementedError


def norm_of(xs):
    """The norm over all tensors."""
    return math.sqrt(sum(x.square().sum().item() for x in xs))


def scaled(xs, factor):
    return [factor * x for x in xs]


def dot(xs, ys):
    return sum((x * y).sum().item() for x, y in zip(xs, ys))


@reference("sam")
class SAM(Sharpness):
    """The gradient at p + rho g / ||g||, the norm over all parameters; the step from p.

    eps is added to the norm, as in the public implementations.
    """

    paper = "Foret et al. 2020, 2010.01412"
    defaults = dict(rho=0.05, eps=1e-12)

    def gradient(self, grad_fn):
        loss, g = self.at(grad_fn)
        e = scaled(g, self.h.rho / (norm_of(g) + self.h.eps))
        return loss, self.at(grad_fn, e)[1]


@reference("asam")
class ASAM(Sharpness):
    """The gradient at p + rho T^2 g / ||T g||, T = |p| + eta for each element.

    eta is .01 in the paper and its code for weights, and 0 in pytorch_optimizer's
    `adaptive=True`. HeavyBall does not divide by the norm. The paper gives biases T = 1.
    """

    paper = "Kwon et al. 2021, 2102.11600"
    defaults = dict(rho=0.5, eta=0.01, eps=1e-12)

    def gradient(self, grad_fn):
        h = self.h
        loss, g = self.at(grad_fn)
        t = [p.abs() + h.eta for p in self.params]
        norm = norm_of([ti * gi for ti, gi in zip(t, g)]) + h.eps
        return loss, self.at(grad_fn, [h.rho / norm * ti**2 * gi for ti, gi in zip(t, g)])[1]


@reference("gcsam")
class GCSAM(Sharpness):
    """SAM whose ascent direction is centralized, e = rho gc(g) / ||g||.

    gc takes the mean over all axes but the first from gradients of more than one axis. The
    norm is that of g before it, as pytorch_optimizer computes it.
    """

    paper = "2025, 2501.11584"
    defaults = dict(rho=0.05, eps=1e-12)

    def gradient(self, grad_fn):
        loss, g = self.at(grad_fn)
        centre = lambda x: x - x.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        centred = [centre(x) if x.ndim > 1 else x for x in g]
        e = scaled(centred, self.h.rho / (norm_of(g) + self.h.eps))
        return loss, self.at(grad_fn, e)[1]


@reference("gsam")
class GSAM(Sharpness):
    """g_p = the gradient at p + rho g / ||g||; the step is along g_p - alpha g_v, where
    g_v = g - (g . g_p) g_p / ||g_p||^2, the part of g orthogonal to g_p.

    The surrogate gap falls along -g_v and the perturbed loss does not change. rho is scheduled
    in the paper; here it is a hyper.
    """

    paper = "Zhuang et al. 2022 (ICLR), 2203.08065"
    defaults = dict(rho=0.05, alpha=0.4, eps=1e-12)

    def gradient(self, grad_fn):
        h = self.h
        loss, g = self.at(grad_fn)
        g_p = self.at(grad_fn, scaled(g, h.rho / (norm_of(g) + h.eps)))[1]
        along = dot(g, g_p) / (norm_of(g_p) ** 2 + h.eps)
        return loss, [q - h.alpha * (x - along * q) for x, q in zip(g, g_p)]


@reference("looksam")
class LookSAM(Sharpness):
    """Every k steps SAM's gradient g_s, keeping g_v = g_s - (g . g_s) g / ||g||^2; in between
    g + alpha ||g|| / ||g_v|| g_v, with one evaluation.

    Steps 1, 1 + k, ... are SAM's. The norms and products of g_v are each tensor's own (the
    authors' code, and pytorch_optimizer); rho g / ||g|| is global. ||g_v|| has no floor, as in
    the paper; pytorch_optimizer adds 1e-8.
    """

    paper = "Liu et al. 2022, 2203.02714"
    defaults = dict(rho=0.05, k=5, alpha=0.7, eps=1e-12)

    def gradient(self, grad_fn):
        h = self.h
        loss, g = self.at(grad_fn)
        if (self.t - 1) % h.k == 0:
            g_s = self.at(grad_fn, scaled(g, h.rho / (norm_of(g) + h.eps)))[1]
            self.g_v = [s - (s * x).sum() * x / x.square().sum() for s, x in zip(g_s, g)]
            return loss, g_s
        return loss, [
            x + h.alpha * x.norm() / v.norm() * v if v.any() else x for x, v in zip(g, self.g_v)
        ]


@reference("wsam")
class WSAM(Sharpness):
    """Sharpness as a weighted term: the inner step along g, then p <- p - lr a (g_s - g),
    a = gamma / (1 - gamma), g_s SAM's gradient (the decoupled form, the paper's default).

    `decouple=False`: the inner step along g + a (g_s - g) = (1-a) g + a g_s. lr is the inner's.
    """

    paper = "Yue et al. 2023, 2305.15817"
    defaults = dict(rho=0.05, gamma=0.9, decouple=True, eps=1e-12)

    def gradient(self, grad_fn):
        h = self.h
        loss, g = self.at(grad_fn)
        g_s = self.at(grad_fn, scaled(g, h.rho / (norm_of(g) + h.eps)))[1]
        self.sharpness = [h.gamma / (1 - h.gamma) * (s - x) for s, x in zip(g_s, g)]
        return loss, g if h.decouple else [x + s for x, s in zip(g, self.sharpness)]

    @torch.no_grad()
    def step_fn(self, grad_fn, **changed_hypers):
        loss = super().step_fn(grad_fn, **changed_hypers)
        if self.h.decouple:
            for p, s in zip(self.params, self.sharpness):
                p -= self.inner.h.lr * s
        return loss


@reference("friendly_sam", "fsam")
class FriendlySAM(Sharpness):
    """SAM along d = g - sigma m, m <- lambda m + (1-lambda) g: the noise of the batch only.

    As in the authors' code: m is the m of before this step, starts as the first gradient, and
    leaves the first step to SAM.
    """

    paper = "Li et al. 2024 (CVPR), 2403.12350"
    defaults = dict(rho=0.05, sigma=1.0, lmbda=0.9, eps=1e-12)

    def init(self):
        super().init()
        self.m = None

    def gradient(self, grad_fn):
        h = self.h
        loss, g = self.at(grad_fn)
        if self.m is None:
            d, self.m = g, g
        else:
            d = [x - h.sigma * m for x, m in zip(g, self.m)]
            self.m = [h.lmbda * m + (1 - h.lmbda) * x for x, m in zip(g, self.m)]
        return loss, self.at(grad_fn, scaled(d, h.rho / (norm_of(d) + h.eps)))[1]


@reference("bsam")
class BSAM(Reference):
    """g at p + N(0, 1 / (N s)); g_e at p + rho g / s; m <- b1 m + (1-b1) (g_e + delta p);
    s <- b2 s + (1-b2) (sqrt(s) |g| + delta + gamma); p <- p - lr m / s.

    delta is weight_decay, gamma damping, N num_data. s starts at `s_init`; no debias. The noise
    is `draw(shape)` over sqrt(N s). pytorch_optimizer takes delta g in place of g + delta p,
    squares the term of s, and leaves noise and perturbation in the weights.
    """

    paper = "Moellenhoff & Khan 2022, 2210.01620"
    defaults = dict(
        lr=0.5,
        betas=(0.9, 0.999),
        weight_decay=1e-4,
        rho=0.05,
        damping=0.1,
        num_data=1000,
        s_init=1.0,
        draw=None,
    )

    def init(self):
        self.m = self.zeros()
        self.s = [torch.full_like(p, self.h.s_init) for p in self.params]
        generator = torch.Generator().manual_seed(0)
        own = lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64)
        self.draw = self.h.draw or own

    @torch.no_grad()
    def step_fn(self, grad_fn, **changed_hypers):
        vars(self.h).update(changed_hypers)
        self.t += 1
        h = self.h
        b1, b2 = h.betas
        noise = [self.draw(s.shape).double() / (h.num_data * s).sqrt() for s in self.s]
        loss, g = grad_fn([p + e for p, e in zip(self.params, noise)])
        g_e = grad_fn([p + h.rho * x / s for p, x, s in zip(self.params, g, self.s)])[1]
        for p, m, s, x, y in zip(self.params, self.m, self.s, g, g_e):
            m.copy_(b1 * m + (1 - b1) * (y + h.weight_decay * p))
            s.copy_(b2 * s + (1 - b2) * (s.sqrt() * x.abs() + h.weight_decay + h.damping))
            p -= h.lr * m / s
        return loss


# ------------------------------------------------------------------ tuners


def erfi(x: float) -> float:
    """-i erf(i x), by its series."""
    term, total, n = x, x, 0
    while abs(term) > 1e-18 * abs(total):
        n += 1
        term *= x * x / n
        total += term / (2 * n + 1)
    return 2 / math.sqrt(math.pi) * total


@reference("trac")
class TRAC(Wrapper):
    """p = ref + s delta: the distance from the first weights, tuned without parameters.

    With u the inner step from p, and the gradient g at p: d = (p - ref) / (s + eps),
    h = d . g over all parameters; for each beta_j: v_j <- beta_j^2 v_j + h^2,
    sigma_j <- beta_j sigma_j - h; s <- sum_j s_0 / erfi(1 / sqrt 2) erfi(sigma_j /
    (sqrt(2 v_j) + eps)); p <- ref + max(s, 0) (d + u).

    s starts at 0 and sigma at 1e-8, as in the authors' code, whose erf is an approximation.
    """

    paper = "Muppidi, Zhang & Yang 2024, 2405.16642"
    defaults = dict(betas=(0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999), s_0=1e-8, eps=1e-8)

    def init(self):
        super().init()
        self.ref, self.s = self.copies(), 0.0
        self.v, self.sigma = [0.0 for _ in self.h.betas], [1e-8 for _ in self.h.betas]

    def before(self, grads):
        self.old = self.copies()
        self.g = grads

    def after(self):
        hyper = self.h
        d = [(old - ref) / (self.s + hyper.eps) for old, ref in zip(self.old, self.ref)]
        h = dot(d, self.g)
        self.v = [b**2 * v + h**2 for b, v in zip(hyper.betas, self.v)]
        self.sigma = [b * s - h for b, s in zip(hyper.betas, self.sigma)]
        ratios = [s / (math.sqrt(2 * v) + hyper.eps) for s, v in zip(self.sigma, self.v)]
        self.s = hyper.s_0 / erfi(1 / math.sqrt(2)) * sum(erfi(x) for x in ratios)
        for p, old, ref, di in zip(self.params, self.old, self.ref, d):
            p.copy_(ref + max(self.s, 0.0) * (di + p - old))


@reference("mechanic")
class Mechanic(Wrapper):
    """p = p_0 + (sum s) D, D the sum of inner steps: s tuned online, with n discounts.

    g' = g + decay (sum s) ||g|| / (||p|| + eps) p; h = -<g', D> with D of before this step;
    r_i <- b_i r_i + s_i clip(h, -m_i, m_i); m_i <- max(b_i m_i, |h| + eps);
    v_i <- b_i^2 v_i + h^2; s_i <- (s_init m_i / n + max(r_i, 0)) / (sqrt(v_i) + eps);
    D <- D + u, with u the inner step at p; b_i = 1 - 0.1^i.

    As optax: D is recomputed from (p - p_0) / (sum s + eps); h is clipped, which the paper's
    first version does not have.
    """

    paper = "Cutkosky, Defazio & Mehta 2023, 2306.00144"
    defaults = dict(weight_decay=1e-2, eps=1e-8, s_init=1e-6, num_betas=6)

    def init(self):
        super().init()
        n = self.h.num_betas
        self.first = self.copies()
        self.b = [1 - 0.1**i for i in range(1, n + 1)]
        self.r, self.m, self.v = [0.0] * n, [0.0] * n, [0.0] * n
        self.s = [self.h.s_init] * n

    def before(self, grads):
        h, total = self.h, sum(self.s)
        self.old = self.copies()
        self.d = [(p - x) / (total + h.eps) for p, x in zip(self.params, self.first)]
        decay = h.weight_decay * total * norm_of(grads) / (norm_of(self.params) + h.eps)
        gain = -dot([g + decay * p for g, p in zip(grads, self.params)], self.d)
        for i, b in enumerate(self.b):
            clipped = max(-self.m[i], min(self.m[i], gain))
            self.r[i] = b * self.r[i] + clipped * self.s[i]
            self.m[i] = max(b * self.m[i], abs(gain) + h.eps)
            self.v[i] = b**2 * self.v[i] + gain**2
            wealth = h.s_init / h.num_betas * self.m[i] + max(self.r[i], 0.0)
            self.s[i] = wealth / (math.sqrt(self.v[i]) + h.eps)

    def after(self):
        for p, old, x, d in zip(self.params, self.old, self.first, self.d):
            p.copy_(x + sum(self.s) * (d + p - old))
