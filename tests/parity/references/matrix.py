# ruff: noqa: C408, RUF012  (hypers read best as keywords, and nobody changes them)
"""References for what treats a parameter as a matrix: orthogonalized, Kronecker, low rank.

Everything is float64, the Newton-Schulz iterations too, while most public implementations run
them in bfloat16 (so those agree to about 1e-2 of an update, not to rounding).

A weight of more than two axes is a matrix of its output units (`rows`: out, everything else),
unless its class says otherwise. Methods that are only defined for matrices raise for vectors:
whoever uses them sends vectors elsewhere.

Where a method draws random numbers, the hyper `draw` gives them: a function of a shape, called
once for each random matrix in parameter order, so that two implementations can be given the
same ones. Without it, a generator of this file's own draws.
"""

from __future__ import annotations

import math

import torch

from .base import Reference, reference, rows

# ------------------------------------------------------------------ orthogonalization

JORDAN = (3.4445, -4.7750, 2.0315)  # kellerjordan.github.io/posts/muon

_POLAR_EXPRESS = [  # Algorithm 1 of 2505.16932, before its safety factor
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
]
POLAR_EXPRESS = [
    *((a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in _POLAR_EXPRESS[:-1]),
    _POLAR_EXPRESS[-1],
]


def quintic(x, coefficients):
    """X <- a X + b (X X^T) X + c (X X^T)^2 X for each (a, b, c), on the wide orientation."""
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for a, b, c in coefficients:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def newton_schulz(g, h):
    """Five quintic steps from G / max(||G||_F, eps), as torch.optim.Muon.

    Jordan's original divides by ||G||_F + eps instead; a zero gradient gives zero in both.
    """
    return quintic(g / g.norm().clamp(min=h.eps), [h.ns_coefficients] * h.ns_steps)


def polar_express(g, steps=5):
    """2505.16932, Algorithm 1: from G / (1.01 ||G||_F + 1e-7), another quintic each step.

    Its coefficients are divided by the safety factor 1.01 (not the last one's, which repeats).
    modded-nanogpt and microsoft/dion compute five coefficients for a safety factor of 1.02.
    """
    steps = [POLAR_EXPRESS[min(i, len(POLAR_EXPRESS) - 1)] for i in range(steps)]
    return quintic(g / (1.01 * g.norm() + 1e-7), steps)


def polar(g):
    """U V^T, exactly, of the directions that g has: what g sends to zero has no direction."""
    u, s, vh = torch.linalg.svd(g, full_matrices=False)
    rank = int((s > 1e-12 * s[0]).sum())
    return u[:, :rank] @ vh[:rank]


def orthogonalize(g, h):
    return polar_express(g, h.ns_steps) if h.polar_express else newton_schulz(g, h)


def matrix_scale(shape, adjust):
    """What multiplies lr for an update of this shape."""
    m, n = shape
    match adjust:
        case None | "original":
            return math.sqrt(max(1, m / n))
        case "match_rms_adamw":
            return 0.2 * math.sqrt(max(m, n))
        case "spectral_norm":
            return math.sqrt(m / n)
        case "none":
            return 1.0
    raise ValueError(adjust)


NS = dict(ns_coefficients=JORDAN, ns_steps=5, eps=1e-7, polar_express=False)


def as_matrix(name, x):
    if x.ndim < 2:
        raise ValueError(f"{name} updates matrices, not a tensor of shape {tuple(x.shape)}")
    return rows(x)


@reference("muon")
class Muon(Reference):
    """M <- mu M + (1 - mu) G; O = NS(G + mu (M - G), or M); W <- (1 - lr wd) W - lr s O.

    As torch.optim.Muon, but in float64: M is an average (the blog's and keras' is a sum, which
    differs only through eps, as NS normalizes), decay uses the base lr, the step the adjusted
    one: s = sqrt(max(1, m/n)) ("original") or 0.2 sqrt(max(m, n)) ("match_rms_adamw", 2502.16982).
    torch takes 2-D only; here a convolution is a matrix of its output channels, as in the blog.
    """

    paper = "Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, 2502.16982"
    defaults = dict(
        lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn=None, **NS
    )

    def init(self):
        self.m = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, m in zip(self.params, grads, self.m):
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            u = (1 - h.momentum) * g + h.momentum * m if h.nesterov else m
            u = as_matrix(self.name, u)
            o = orthogonalize(u, h) * matrix_scale(u.shape, h.adjust_lr_fn)
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * o.reshape(p.shape)


@reference("muon_polar_express")
class MuonPolarExpress(Muon):
    """Muon with five steps of Polar Express instead of Jordan's quintic."""

    paper = "Amsel et al. 2025, 2505.16932"
    defaults = {**Muon.defaults, "polar_express": True}


@reference("muonclip")
class MuonClip(Reference):
    """M <- mu M + G; O = NS(M) 0.2 sqrt(max(m, n)); W <- W - lr (O + wd W). No QK-clip.

    Algorithm 1 of the paper, lines 2-5: a sum, no Nesterov. The second half rescales W_q and
    W_k by the largest attention logit, which an optimizer does not see.
    """

    paper = "Kimi Team 2025, 2507.20534"
    defaults = dict(lr=1e-3, weight_decay=0.1, momentum=0.95, **NS)

    def init(self):
        self.m = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, m in zip(self.params, grads, self.m):
            m.copy_(h.momentum * m + g)
            u = as_matrix(self.name, m)
            o = orthogonalize(u, h) * 0.2 * math.sqrt(max(u.shape))
            p -= h.lr * (o.reshape(p.shape) + h.weight_decay * p)


@reference("normuon")
class NorMuon(Reference):
    """Muon whose rows (neurons) are divided by the root of an average of their mean square.

    M <- b1 M + (1-b1) G; O = NS(M); v <- b2 v + (1-b2) mean_cols(O^2); O <- O / (sqrt(v) + eps);
    W <- (1 - lr wd) W - 0.2 lr sqrt(mn) / ||O||_F O.

    Choices: v has no debias; the update has an RMS of 0.2 (Algorithm 1). `update_scale =
    "preserve_norm"` instead gives back the norm that O had before the division and multiplies
    by Muon's sqrt(max(1, m/n)), as in the speedrun, pytorch_optimizer's default and
    microsoft/dion (which scales by sqrt(m/n)); `nesterov` is on in the first two. Emerging
    Optimizers averages over the longer side instead of always over columns.
    """

    paper = "Li et al. 2025, 2510.05491"
    defaults = dict(
        lr=1e-3,
        betas=(0.95, 0.95),
        weight_decay=0.1,
        nesterov=False,
        update_scale="rms",
        adjust_lr_fn=None,
        norm_eps=1e-8,
        **NS,
    )

    def init(self):
        self.m = self.zeros()
        self.v = [p.new_zeros(p.shape[0], 1) for p in self.params]

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(b1 * m + (1 - b1) * g)
            u = as_matrix(self.name, (1 - b1) * g + b1 * m if h.nesterov else m)
            o = orthogonalize(u, h)
            before = o.norm()
            v.copy_(b2 * v + (1 - b2) * o.square().mean(dim=1, keepdim=True))
            o = o / (v.sqrt() + h.norm_eps)
            if h.update_scale == "rms":
                o = o * 0.2 * math.sqrt(o.numel()) / o.norm()
            else:
                o = o * before / o.norm() * matrix_scale(o.shape, h.adjust_lr_fn)
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * o.reshape(p.shape)


@reference("adamuon")
class AdaMuon(Reference):
    """M <- mu M + G; O = NS(sign M); V <- mu V + (1-mu) O^2; O <- O / (sqrt(V) + eps);
    W <- W - lr (0.2 sqrt(mn) / ||O||_F O + wd W).

    The second version of the paper: the momentum's sign is orthogonalized, V has no debias
    (the renormalization removes it). pytorch_optimizer has `sign=False` (the first version).
    """

    paper = "Si, Zhang & Shen 2025, 2507.11005v2"
    defaults = dict(lr=1e-3, betas=(0.95, 0.95), weight_decay=0.1, sign=True, norm_eps=1e-8, **NS)

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m.copy_(h.betas[0] * m + g)
            o = orthogonalize(as_matrix(self.name, m.sign() if h.sign else m), h).reshape(p.shape)
            v.copy_(h.betas[1] * v + (1 - h.betas[1]) * o.square())
            o = o / (v.sqrt() + h.norm_eps)
            o = o * 0.2 * math.sqrt(o.numel()) / o.norm()
            p -= h.lr * (o + h.weight_decay * p)


@reference("adago")
class AdaGO(Reference):
    """M <- mu M + (1-mu) G; v^2 <- v^2 + min(||G||, gamma)^2;
    W <- W - max(eps, lr min(||G||, gamma) / v) NS(M).

    The paper divides by v; pytorch_optimizer divides by v^2 (and has Nesterov and the scale of
    Muon as options), so the two do not agree. No weight decay in the paper; here decoupled.
    """

    paper = "Zhang, Liu & Schaeffer 2025, 2509.02981"
    defaults = dict(
        lr=5e-2, momentum=0.95, gamma=10.0, eps_step=5e-4, v0=1e-6, weight_decay=0.0, **NS
    )

    def init(self):
        self.m = self.zeros()
        self.v_sq = self.scalars(self.h.v0**2)

    def update(self, grads):
        h = self.h
        for i, (p, g, m) in enumerate(zip(self.params, grads, self.m)):
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            norm = min(g.norm().item(), h.gamma)
            self.v_sq[i] += norm**2
            alpha = max(h.eps_step, h.lr * norm / math.sqrt(self.v_sq[i]))
            p *= 1 - h.lr * h.weight_decay
            p -= alpha * orthogonalize(as_matrix(self.name, m), h).reshape(p.shape)


@reference("namo")
class NAMO(Reference):
    """Muon times Adam's ratio of whole norms: ||M|| / (sqrt(v) + eps), v an average of ||G||^2.

    M <- b1 M + (1-b1) G; v <- b2 v + (1-b2) ||G||_F^2;
    W <- W - lr sqrt(1 - b2^t) / (1 - b1^t) ||M|| / (sqrt(v) + eps) (NS(M) + wd W).
    Emerging Optimizers has no bias correction, and decays with lr alone.
    """

    paper = "Zhang, Liu & Schaeffer 2026, 2602.17080"
    defaults = dict(lr=1e-3, betas=(0.95, 0.99), weight_decay=0.0, norm_eps=1e-8, **NS)

    def init(self):
        self.m = self.zeros()
        self.v = self.scalars()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for i, (p, g, m) in enumerate(zip(self.params, grads, self.m)):
            m.copy_(b1 * m + (1 - b1) * g)
            self.v[i] = b2 * self.v[i] + (1 - b2) * g.square().sum().item()
            correction = math.sqrt(1 - b2**self.t) / (1 - b1**self.t)
            alpha = h.lr * correction * m.norm().item() / (math.sqrt(self.v[i]) + h.norm_eps)
            o = orthogonalize(as_matrix(self.name, m), h).reshape(p.shape)
            p -= alpha * (o + h.weight_decay * p)


@reference("mars_muon", "mars_m")
class MarsMuon(Reference):
    """C = G + gamma mu / (1-mu) (G - G_prev), at most of norm 1; M <- mu M + (1-mu) C;
    W <- (1 - lr wd) W - 0.2 lr sqrt(max(m, n)) NS(M).

    The approximate form: G_prev is the gradient of the step before on its own batch, zero
    before the first step in the authors' code, so that G is scaled there; the clipping that
    follows makes up for most of it.
    """

    paper = "Liu, Yuan & Gu 2025, 2510.21800"
    defaults = dict(lr=1e-3, momentum=0.95, gamma=0.025, weight_decay=0.1, **NS)

    def init(self):
        self.m, self.previous = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, m, previous in zip(self.params, grads, self.m, self.previous):
            c = g + h.gamma * h.momentum / (1 - h.momentum) * (g - previous)
            c = c / c.norm().clamp(min=1)
            m.copy_(h.momentum * m + (1 - h.momentum) * c)
            previous.copy_(g)
            u = as_matrix(self.name, m)
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * 0.2 * math.sqrt(max(u.shape)) * orthogonalize(u, h).reshape(p.shape)


@reference("muon_laprop")
class MuonLaProp(Reference):
    """LaProp's average of g / sqrt(v), orthogonalized as in Muon.

    HeavyBall's chain: v <- b2 v + (1-b2) g^2, debiased; m <- b1 m + (1-b1) g / (sqrt(v^) + eps),
    debiased by 1 - b1^t (which orthogonalization forgets).
    """

    paper = "HeavyBall (no paper); Ziyin et al. 2020, 2002.04839; Muon"
    defaults = dict(
        lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0, norm_eps=1e-8, adjust_lr_fn=None, **NS
    )

    def init(self):
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            v.copy_(b2 * v + (1 - b2) * g.square())
            m.copy_(b1 * m + (1 - b1) * g / ((v / (1 - b2**self.t)).sqrt() + h.norm_eps))
            u = as_matrix(self.name, m)
            o = orthogonalize(u, h) * matrix_scale(u.shape, h.adjust_lr_fn)
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * o.reshape(p.shape)


@reference("spectral_descent")
class SpectralDescent(Reference):
    """W <- W - lr ||G||_* U V^T: steepest descent in the spectral norm, exactly (by SVD).

    `dual_norm=False` leaves the nuclear norm out (Muon without momentum; Meta's Shampoo).
    """

    paper = "Carlson, Cevher & Carin 2015 (AISTATS)"
    defaults = dict(lr=1e-3, weight_decay=0.0, dual_norm=True)

    def update(self, grads):
        h = self.h
        for p, g in zip(self.params, grads):
            u, s, vh = torch.linalg.svd(as_matrix(self.name, g), full_matrices=False)
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * (s.sum() if h.dual_norm else 1.0) * (u @ vh).reshape(p.shape)


@reference("polargrad")
class PolarGrad(Reference):
    """M <- b M + (1-b) G; M = O H; W <- (1 - lr wd) W - lr tr(H) O, where tr(H) = ||M||_*.

    Momentum first, then the polar factor, exactly. The same as optax' `muon(adaptive=True)` up
    to its iterations: there tr(H) is <M, NS(M)>, M is debiased, and Nesterov is on.
    """

    paper = "Lau, Long & Su 2025, 2505.21799; Bernstein & Newhouse 2024, 2409.20325"
    defaults = dict(lr=1e-3, momentum=0.95, weight_decay=0.0)

    def init(self):
        self.m = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, m in zip(self.params, grads, self.m):
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            o = polar(as_matrix(self.name, m)).reshape(p.shape)
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * (m * o).sum() * o


@reference("muonh")
class MuonH(Reference):
    """Hyperball on Muon: W <- R n(W - lr R n(U)), n(X) = X / ||X||_F, R = ||W_0||_F.

    U is Muon's orthogonalized momentum; its scale does not matter. No weight decay.
    """

    paper = "Wen et al. 2026, 2606.16899"
    defaults = dict(lr=1e-2, momentum=0.95, nesterov=True, **NS)

    def init(self):
        self.m = self.zeros()
        self.radius = [p.norm() for p in self.params]

    def update(self, grads):
        h = self.h
        for p, g, m, radius in zip(self.params, grads, self.m, self.radius):
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            u = (1 - h.momentum) * g + h.momentum * m if h.nesterov else m
            o = orthogonalize(as_matrix(self.name, u), h).reshape(p.shape)
            w = p - h.lr * radius * o / o.norm()
            p.copy_(radius * w / w.norm())


@reference("spel")
class SPEL(Reference):
    """W <- msign(W - lr msign(M)), M <- b M + (1-b) G: spectral descent along the Stiefel manifold.

    msign exactly (by SVD); Emerging Optimizers uses five Newton-Schulz steps for both, and
    decays W before the step.
    """

    paper = "Manifold Constrained Steepest Descent, 2026, 2601.21487"
    defaults = dict(lr=1e-2, momentum=0.95, weight_decay=0.0)

    def init(self):
        self.m = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, m in zip(self.params, grads, self.m):
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            w = as_matrix(self.name, (1 - h.lr * h.weight_decay) * p)
            p.copy_(polar(w - h.lr * polar(as_matrix(self.name, m))).reshape(p.shape))


@reference("spectral_sphere")
class SpectralSphere(Reference):
    """W <- R W / ||W||_2; W <- W - lr R msign(M + c Theta), <Theta, msign(M + c Theta)> = 0.

    Theta = u1 v1^T of W, R = sqrt(m/n), M the normalized average of the gradients: the step of
    spectral norm one that is tangent to the sphere. c by bisection, with exact SVDs, where the
    paper iterates. pytorch_optimizer has neither R nor the retraction (`retract=False`), but
    Nesterov and decay, and works in bfloat16.
    """

    paper = "Xie et al. 2026, 2601.08393"
    defaults = dict(lr=1e-2, momentum=0.9, retract=True)

    def init(self):
        self.m = self.zeros()

    def update(self, grads):
        h = self.h
        for p, g, m in zip(self.params, grads, self.m):
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            x = as_matrix(self.name, m) / m.norm()
            u, s, vh = torch.linalg.svd(rows(p), full_matrices=False)
            radius = math.sqrt(x.shape[0] / x.shape[1]) if h.retract else 1.0
            w = radius / s[0] * rows(p) if h.retract else rows(p)
            theta = u[:, :1] @ vh[:1]
            off = lambda c: (theta * polar(x + c * theta)).sum()  # grows with c
            low, high = -1.0, 1.0
            while off(low) > 0:
                low *= 2
            while off(high) < 0:
                high *= 2
            for _ in range(100):
                middle = (low + high) / 2
                low, high = (middle, high) if off(middle) < 0 else (low, middle)
            p.copy_((w - h.lr * radius * polar(x + (low + high) / 2 * theta)).reshape(p.shape))


@reference("scion")
class Scion(Reference):
    """D <- (1-a) D + a G; W <- (1 - lr) W - lr scale lmo(D), or without the (1 - lr).

    `momentum` is the weight a of the new gradient, the paper's alpha. `norm` chooses the ball:
    spectral: sqrt(out/in) NS(D); sign: sign(D) / in; col and row: each column, or row, to RMS
    norm one (row divided by sqrt(in) as well); bias: D / rms(D); auto: by rank, a convolution
    as spectral divided by its kernel's size. `normalized=False` leaves out the division by the
    input size. The authors' `init()`, which redraws the weights on the ball, is not here.
    """

    paper = "Pethick et al. 2025, 2502.07529"
    defaults = dict(
        lr=1e-3, momentum=0.1, norm="auto", scale=1.0, constrained=True, normalized=True, **NS
    )

    def init(self):
        self.d = self.zeros()

    def lmo(self, d):
        h = self.h
        norm = h.norm
        if norm == "auto":
            norm = "bias" if d.ndim <= 1 else "spectral"
        if norm == "bias":
            return d / (d.square().mean().sqrt() + 1e-8)
        m, n = d.shape[:2]
        if norm == "spectral":
            scale = math.sqrt(m / n) if h.normalized else math.sqrt(m)
            return scale / math.prod(d.shape[2:]) * orthogonalize(rows(d), h).reshape(d.shape)
        if norm == "sign":
            return d.sign() / (n if h.normalized else 1)
        if norm == "col":
            rms = d.norm(dim=0, keepdim=True) / math.sqrt(m)
            return d / (rms * (n if h.normalized else 1) + 1e-8)
        if norm == "row":
            return d / (d.norm(dim=1, keepdim=True) * (math.sqrt(n) if h.normalized else 1) + 1e-8)
        raise ValueError(norm)

    def update(self, grads):
        h = self.h
        for p, g, d in zip(self.params, grads, self.d):
            d.copy_((1 - h.momentum) * d + h.momentum * g)
            if h.constrained:
                p *= 1 - h.lr
            p -= h.lr * h.scale * self.lmo(d)


@reference("scion_light")
class ScionLight(Scion):
    """Scion with D <- (1-a) D + G, which public implementations keep in the gradient's place.

    The same as Scion, but for the eps of the norms: lmo forgets the scale of D.
    """

    def update(self, grads):
        for d, g in zip(self.d, grads):
            g /= self.h.momentum
        super().update(grads)


# ------------------------------------------------------------------ low rank


def drawer(seed=0):
    """Standard normal matrices of this file's own, float64, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64)


@reference("dion")
class Dion(Reference):
    """B = M + G; P = orth(B Q) (QR); R = B^T P; M <- B - (1-mu) P R^T; Q <- R / ||columns||;
    W <- (1 - lr wd) W - lr sqrt(m/n) P Q^T.

    One power iteration a step from the last basis Q, error feedback in M. Q starts as a
    Gaussian n x r matrix, from `draw`. QR's signs cancel in P Q^T and P R^T.
    """

    paper = "Ahn et al. 2025, 2504.05295"
    defaults = dict(lr=1e-2, momentum=0.95, weight_decay=0.01, rank=4, eps=1e-8, draw=None)

    def init(self):
        draw = self.h.draw or drawer()
        self.m = [torch.zeros_like(as_matrix(self.name, p)) for p in self.params]
        self.q = [draw((m.shape[1], min(self.h.rank, *m.shape))).double() for m in self.m]

    def update(self, grads):
        h = self.h
        for p, g, m, q in zip(self.params, grads, self.m, self.q):
            b = m + rows(g)
            left, _ = torch.linalg.qr(b @ q)
            r = b.T @ left
            m.copy_(b - (1 - h.momentum) * left @ r.T)
            q.copy_(r / (r.norm(dim=0, keepdim=True) + h.eps))
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * math.sqrt(m.shape[0] / m.shape[1]) * (left @ q.T).reshape(p.shape)


@reference("dion2")
class Dion2(Reference):
    """M <- M + G; K = the ceil(fraction) slices of largest l1 norm along the shorter side;
    W_K <- W_K - lr s orth(M_K); M_K <- mu M_K (error feedback); before it, W <- (1 - lr wd) W.

    Rows are selected where m <= n, else columns. orth is Jordan's quintic here
    (`polar_express=True`: microsoft/dion's default, though with its coefficients);
    s = sqrt(m/n) of the whole matrix ("spectral_norm", as there) or another `adjust_lr_fn`.
    """

    paper = "Ahn et al. 2025, 2512.16928"
    defaults = dict(
        lr=1e-2,
        momentum=0.95,
        weight_decay=0.01,
        fraction=0.25,
        adjust_lr_fn="spectral_norm",
        **NS,
    )

    def init(self):
        self.m = [torch.zeros_like(as_matrix(self.name, p)) for p in self.params]

    def update(self, grads):
        h = self.h
        for p, g, m in zip(self.params, grads, self.m):
            m += rows(g)
            by_rows = m.shape[0] <= m.shape[1]
            short = m if by_rows else m.T  # a view: slices are its rows
            k = max(1, math.ceil(h.fraction * short.shape[0]))
            selected = short.abs().sum(dim=1).topk(k).indices
            update = torch.zeros_like(short)
            update[selected] = orthogonalize(short[selected], h)
            short[selected] *= h.momentum
            update = update if by_rows else update.T
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * matrix_scale(m.shape, h.adjust_lr_fn) * update.reshape(p.shape)


@reference("nordion2")
class NorDion2(Reference):
    """Dion2 on rows, whose orthogonalized rows are normalized as in NorMuon.

    v, one for each row, moves only where the row is selected; the selected part keeps its norm.
    """

    paper = "microsoft/dion (no paper); 2512.16928, 2510.05491"
    defaults = {**Dion2.defaults, "muon_beta2": 0.95, "norm_eps": 1e-8}

    def init(self):
        self.m = [torch.zeros_like(as_matrix(self.name, p)) for p in self.params]
        self.v = [m.new_zeros(m.shape[0], 1) for m in self.m]

    def update(self, grads):
        h = self.h
        for p, g, m, v in zip(self.params, grads, self.m, self.v):
            m += rows(g)
            k = max(1, math.ceil(h.fraction * m.shape[0]))
            chosen = m.abs().sum(dim=1).topk(k).indices
            o = orthogonalize(m[chosen], h)
            m[chosen] *= h.momentum
            v[chosen] = h.muon_beta2 * v[chosen] + (1 - h.muon_beta2) * o.square().mean(1, True)
            u = o / (v[chosen].sqrt() + h.norm_eps)
            update = torch.zeros_like(m)
            update[chosen] = u * o.norm() / u.norm()
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * matrix_scale(m.shape, h.adjust_lr_fn) * update.reshape(p.shape)


def adam_direction(state, g, t, betas, eps):
    """m / (sqrt(v) + eps sqrt(1 - b2^t)): Adam's direction but for sqrt(1 - b2^t) / (1 - b1^t).

    state = [m, v], None at the first call.
    """
    b1, b2 = betas
    m, v = (torch.zeros_like(g), torch.zeros_like(g)) if state[0] is None else state
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g.square()
    state[:] = m, v
    return m / (v.sqrt() + eps * math.sqrt(1 - b2**t))


def limited_growth(x, last_norm, gamma):
    """x, shrunk so that its norm is at most gamma times the last one's (None: the first)."""
    norm = x.norm()
    if last_norm is not None:
        limiter = max((norm / (last_norm + 1e-8)).item(), gamma) / gamma
        x, norm = x / limiter, norm / limiter
    return x, norm


class LowRank(Reference):
    """Projection on r directions of the shorter side, renewed every `update_proj_gap` steps.

    For m >= n the directions are right singular vectors, P is r x n and R = G P^T; otherwise
    P is m x r and R = P^T G. Renewed at the steps 1, 1 + gap, 1 + 2 gap, ... (the authors';
    pytorch_optimizer: 1, gap, 2 gap, ...). What is not a matrix gets plain AdamW.
    """

    def init(self):
        self.basis = [None for _ in self.params]
        self.adam = [[None, None] for _ in self.params]
        self.norm = [None for _ in self.params]

    def new_basis(self, g):
        u, _, vh = torch.linalg.svd(g, full_matrices=False)
        return vh[: self.h.rank] if g.shape[0] >= g.shape[1] else u[:, : self.h.rank]

    def project(self, i, g):
        if (self.t - 1) % self.h.update_proj_gap == 0:
            self.basis[i] = self.new_basis(g)
        return g @ self.basis[i].T if g.shape[0] >= g.shape[1] else self.basis[i].T @ g

    def back(self, i, r):
        tall = self.params[i].shape[0] >= self.params[i].shape[1]
        return r @ self.basis[i] if tall else self.basis[i] @ r

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            if p.ndim == 2:
                r = self.project(i, g)
                u = self.direction(i, g, r, adam_direction(self.adam[i], r, self.t, h.betas, h.eps))
            else:
                u = adam_direction(self.adam[i], g, self.t, h.betas, h.eps)
            correction = math.sqrt(1 - h.betas[1] ** self.t) / (1 - h.betas[0] ** self.t)
            p -= h.lr * correction * u
            p -= h.lr * h.weight_decay * p


@reference("galore_adamw", "galore")
class GaLoreAdamW(LowRank):
    """Adam on R, the gradient in its leading singular directions; W <- W - lr scale back(N).

    The moments are kept when P changes, without turning them into the new basis, so the signs
    that an SVD happens to give its vectors matter from the first renewal on. Decay follows the
    step. eps is added to sqrt(v^) (Algorithm 2 of the paper, and torch's Adam); the authors'
    code and pytorch_optimizer add it to sqrt(v).
    """

    paper = "Zhao et al. 2024, 2403.03507"
    defaults = dict(
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-6,
        weight_decay=0.0,
        rank=4,
        update_proj_gap=200,
        scale=0.25,
    )

    def direction(self, i, g, r, n):
        return self.h.scale * self.back(i, n)


@reference("fira")
class Fira(LowRank):
    """GaLore plus what the projection leaves out, scaled as Adam scales what it keeps.

    u = back(N) + phi (G - back(R)), phi = ||N|| / ||R|| for each column of R (m < n) or row,
    the norm of the second term limited to 1.01 times its last. `scale` multiplies both
    back-projections. N is Adam's direction before its bias correction, which multiplies lr, so
    the limiter sees norms that are not corrected: the authors' code and pytorch_optimizer.
    """

    paper = "Chen et al. 2024, 2410.01623"
    defaults = {**GaLoreAdamW.defaults, "scale": 1.0, "gamma": 1.01}

    def direction(self, i, g, r, n):
        h = self.h
        dim = 0 if g.shape[0] < g.shape[1] else 1
        phi = n.norm(dim=dim, keepdim=True) / (r.norm(dim=dim, keepdim=True) + 1e-8)
        rest = (g - h.scale * self.back(i, r)) * phi
        rest, self.norm[i] = limited_growth(rest, self.norm[i], h.gamma)
        return h.scale * self.back(i, n) + rest


@reference("apollo")
class Apollo(LowRank):
    """W <- W - lr sqrt(scale) limit(s G), s = ||N|| / ||R|| for each channel, R a random projection.

    N is Adam on R; channels are columns where m < n, else rows; P has entries N(0, 1/rank),
    from `draw` (shape r x n or m x r), renewed every gap. It is the full gradient that is
    scaled (Algorithm 1); pytorch_optimizer scales R and projects it back. The limiter and the
    bias correction are Fira's. Not to be confused with ApolloDQN (2009.13586).
    """

    paper = "Zhu et al. 2024, 2412.05270"
    defaults = {
        **GaLoreAdamW.defaults,
        "scale": 1.0,
        "scale_type": "channel",
        "gamma": 1.01,
        "draw": None,
    }

    def init(self):
        super().init()
        self.draw = self.h.draw or drawer()

    def new_basis(self, g):
        m, n = g.shape
        shape = (self.h.rank, n) if m >= n else (m, self.h.rank)
        return self.draw(shape).double() / math.sqrt(self.h.rank)

    def direction(self, i, g, r, n):
        h = self.h
        if h.scale_type == "tensor":
            s = n.norm() / (r.norm() + 1e-8)
        else:
            dim = 0 if g.shape[0] < g.shape[1] else 1
            s = n.norm(dim=dim, keepdim=True) / (r.norm(dim=dim, keepdim=True) + 1e-8)
        u, self.norm[i] = limited_growth(s * g, self.norm[i], h.gamma)
        return math.sqrt(h.scale) * u


@reference("apollo_mini")
class ApolloMini(Apollo):
    """APOLLO of rank one with one factor for the whole tensor, and scale 128."""

    defaults = {**Apollo.defaults, "rank": 1, "scale": 128.0, "scale_type": "tensor"}


@reference("conda")
class Conda(LowRank):
    """Adam's second moment in the singular directions of the momentum, at full rank.

    M <- b1 M + (1-b1) G; every gap, P = the singular vectors of M on the shorter side (the paper
    writes the left ones, for m <= n);
    V <- b2 V + (1-b2) proj(G)^2; W <- W - lr scale back(proj(M^) / (sqrt(V^) + eps)).
    Renewed at 1, 1 + gap, ...; vectors get AdamW; eps as in `galore_adamw`.
    """

    paper = "Wang et al. 2025, 2509.24218"
    defaults = {**GaLoreAdamW.defaults, "eps": 1e-8, "update_proj_gap": 2000, "scale": 1.0}

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        if self.t == 1:
            self.m, self.v = self.zeros(), self.zeros()
        for i, (p, g, m, v) in enumerate(zip(self.params, grads, self.m, self.v)):
            m.copy_(b1 * m + (1 - b1) * g)
            if p.ndim == 2 and (self.t - 1) % h.update_proj_gap == 0:
                self.basis[i] = self.new_basis(m)
            tall = p.ndim == 2 and p.shape[0] >= p.shape[1]
            into = lambda x: x @ self.basis[i].T if tall else self.basis[i].T @ x
            low_g, low_m = (into(g), into(m)) if p.ndim == 2 else (g, m)
            v.copy_(b2 * v + (1 - b2) * low_g.square())
            n = low_m / (1 - b1**self.t) / ((v / (1 - b2**self.t)).sqrt() + h.eps)
            p -= h.lr * (h.scale * self.back(i, n) if p.ndim == 2 else n)
            p -= h.lr * h.weight_decay * p

    def new_basis(self, g):
        u, _, vh = torch.linalg.svd(g, full_matrices=False)
        return vh if g.shape[0] >= g.shape[1] else u


@reference("racs")
class RACS(Reference):
    """W <- W - lr alpha limit(Q^-1/2 G S^-1/2): rows and columns scaled, S and Q diagonal.

    s and q solve s_j = sum_i q_i G_ij^2 / ||q||^2 and q_i = sum_j s_j G_ij^2 / ||s||^2, by
    `iterations` of one after the other from q = 1, then averaged with beta from zero. The norm
    may grow by gamma = 1.01 a step. pytorch_optimizer does one pass, both from ones, and
    starts q at one, so it does not agree.
    """

    paper = "Gong et al. 2025, 2502.07752"
    defaults = dict(lr=0.02, beta=0.9, alpha=0.05, gamma=1.01, eps=1e-8, iterations=5)

    def init(self):
        self.s = [p.new_zeros(as_matrix(self.name, p).shape[1]) for p in self.params]
        self.q = [p.new_zeros(p.shape[0]) for p in self.params]
        self.norm = [None for _ in self.params]

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            g = rows(g)
            q = g.new_ones(g.shape[0])
            for _ in range(h.iterations):
                s = q @ g.square() / q.square().sum()
                q = g.square() @ s / s.square().sum()
            self.s[i] = h.beta * self.s[i] + (1 - h.beta) * s
            self.q[i] = h.beta * self.q[i] + (1 - h.beta) * q
            u = g / (self.q[i] + h.eps).sqrt()[:, None] / (self.s[i] + h.eps).sqrt()
            u, self.norm[i] = limited_growth(u, self.norm[i], h.gamma)
            p -= h.lr * h.alpha * u.reshape(p.shape)


@reference("swan")
class SWAN(Reference):
    """W <- W - lr ||G~|| / ||O|| O, O = (G~ G~^T)^-1/2 G~, G~ = G with each row standardized.

    No state. The inverse root exactly (by SVD); the paper iterates. The whitening is over the
    shorter side. `rescale=False` leaves the norms out.
    """

    paper = "Ma et al. 2024, 2412.13148"
    defaults = dict(lr=1e-3, rescale=True, eps=1e-8)

    def update(self, grads):
        h = self.h
        for p, g in zip(self.params, grads):
            g = as_matrix(self.name, g)
            g = g - g.mean(dim=1, keepdim=True)
            g = g / (g.square().mean(dim=1, keepdim=True).sqrt() + h.eps)
            o = polar(g)
            p -= h.lr * (g.norm() / o.norm() if h.rescale else 1.0) * o.reshape(p.shape)


# ------------------------------------------------------------------ Kronecker factors


def unfold(x, axis):
    """The axis as rows, everything else as columns."""
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


def along(x, matrix, axis):
    """matrix times x, along that axis."""
    return torch.tensordot(matrix, x, dims=([1], [axis])).movedim(0, axis)


def power(a, exponent, eps=0.0):
    """(A + eps I)^exponent of a symmetric matrix, by its eigenvalues."""
    eigenvalues, q = torch.linalg.eigh(a + eps * torch.eye(len(a), dtype=a.dtype))
    return q @ torch.diag(eigenvalues.pow(exponent)) @ q.T


@reference("shampoo")
class Shampoo(Reference):
    """L <- L + G G^T, R <- R + G^T G, from eps I; W <- W - lr L^-1/4 G R^-1/4.

    Algorithms 1 and 2 of the paper: sums, every axis of a tensor of order k, exponent -1/(2k).
    Its experiments average the gradient that is preconditioned (`momentum`), not the one of the
    statistics; pytorch_optimizer averages with the last preconditioned gradient instead. Decay
    is decoupled.

    `graft` keeps the direction and takes the length of another step (2002.11803): "sgd" ||G||,
    "adagrad" ||G / sqrt(sum G^2 + eps)||. `precondition_frequency` renews roots every so many
    steps, from the first one on.
    """

    paper = "Gupta, Koren & Singer 2018, 1802.09568; grafting: Agarwal et al. 2020, 2002.11803"
    defaults = dict(
        lr=1e-2, momentum=0.0, eps=1e-6, weight_decay=0.0, graft=None, precondition_frequency=1
    )

    def init(self):
        eye = lambda n: self.h.eps * torch.eye(n, dtype=torch.float64)
        self.factors = [[eye(n) for n in p.shape] for p in self.params]
        self.roots = [[None for _ in p.shape] for p in self.params]
        self.m, self.sum_sq = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        for i, (p, g, m) in enumerate(zip(self.params, grads, self.m)):
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            u = m.clone()
            for axis in range(g.ndim):
                self.factors[i][axis] += unfold(g, axis) @ unfold(g, axis).T
                if (self.t - 1) % h.precondition_frequency == 0:
                    self.roots[i][axis] = power(self.factors[i][axis], -1 / (2 * g.ndim))
                u = along(u, self.roots[i][axis], axis)
            self.sum_sq[i] += g.square()
            if h.graft == "sgd":
                u = u * m.norm() / (u.norm() + 1e-16)
            elif h.graft == "adagrad":
                u = u * (m / (self.sum_sq[i] + 1e-10).sqrt()).norm() / (u.norm() + 1e-16)
            p *= 1 - h.lr * h.weight_decay
            p -= h.lr * u


@reference("distributed_shampoo")
class DistributedShampoo(Reference):
    """Shampoo with averages, debiased, and Adam's length: what Meta's implementation does.

    F <- b2 F + (1-b2) G G^T for each axis; m <- b1 m + (1-b1) G;
    u = (F/(1-b2^t) + eps I)^-1/(2k) along each axis of m^, times ||adam|| / ||u||;
    W <- W - lr (u + wd W). Before `start_preconditioning_step`, the grafted step itself.
    Roots are renewed every `precondition_frequency` steps from then on. `graft`: None, "sgd",
    "rmsprop" or "adam" (their second moment debiased, eps added to its root).
    No blocks, no Nesterov.
    """

    paper = "Shi et al. 2023, 2309.06497; Anil et al. 2020, 2002.09018"
    defaults = dict(
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-12,
        weight_decay=0.0,
        graft="adam",
        graft_beta2=0.999,
        graft_eps=1e-8,
        precondition_frequency=1,
        start_preconditioning_step=1,
    )

    def init(self):
        square = lambda n: torch.zeros(n, n, dtype=torch.float64)
        self.factors = [[square(n) for n in p.shape] for p in self.params]
        self.roots = [[None for _ in p.shape] for p in self.params]
        self.m, self.v = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        since = self.t - h.start_preconditioning_step
        for i, (p, g, m, v) in enumerate(zip(self.params, grads, self.m, self.v)):
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(h.graft_beta2 * v + (1 - h.graft_beta2) * g.square())
            m_hat = m / (1 - b1**self.t)
            root_v = (v / (1 - h.graft_beta2**self.t)).sqrt() + h.graft_eps
            grafted = m_hat if h.graft in (None, "sgd") else m_hat / root_v
            u = m_hat
            for axis in range(g.ndim):
                f = self.factors[i][axis]
                f.copy_(b2 * f + (1 - b2) * unfold(g, axis) @ unfold(g, axis).T)
                if since >= 0 and since % h.precondition_frequency == 0:
                    f_hat = f / (1 - b2**self.t)
                    self.roots[i][axis] = power(f_hat, -1 / (2 * g.ndim), h.eps)
                u = along(u, self.roots[i][axis], axis) if since >= 0 else u
            if since < 0:
                u = grafted
            elif h.graft is not None:
                u = u * grafted.norm() / (u.norm() + 1e-16)
            p -= h.lr * (u + h.weight_decay * p)


def eigenbasis(a):
    """Orthonormal eigenvectors, largest eigenvalue first."""
    return torch.linalg.eigh(a)[1].flip(1)


@reference("soap")
class SOAP(Reference):
    """Adam in the eigenbasis of Shampoo's factors.

    L <- b L + (1-b) G G^T, R likewise, for each axis; G' = Q_L^T G Q_R; M <- b1 M + (1-b1) G,
    M' = Q_L^T M Q_R; V <- b2 V + (1-b2) G'^2; W <- W - lr Q_L (M'^ / (sqrt(V^) + eps)) Q_R^T;
    then W <- (1 - lr wd) W, then the factors, then every `precondition_frequency` steps
    Q <- QR(L Q) (one step of orthogonal iteration).

    As in the authors' implementation: the first gradient only makes the factors and the bases
    (by eigh), so t counts from the second; before QR, the columns of L Q are sorted by
    diag(Q^T L Q), and V with them (V is not rotated otherwise; HeavyBall puts the columns back
    where they were); eps in sqrt(V) + eps with the
    correction in lr (not in sqrt(V^) + eps); vectors get Adam. M is kept in the original basis
    (pytorch_optimizer) or turned along with the basis (the authors, HeavyBall): the same.

    A caution for comparisons: after one gradient of m x n, the factor of the longer side has
    rank min(m, n), and its null space has no basis of its own: whatever eigh returns there
    depends on rounding. So does Q <- QR(L Q) until L has full rank. Compare on square
    matrices, or set `self.q[i]` after the first step to the bases of the other.
    """

    paper = "Vyas et al. 2024, 2409.11321"
    defaults = dict(
        lr=3e-3,
        betas=(0.95, 0.95),
        shampoo_beta=None,
        eps=1e-8,
        weight_decay=0.01,
        precondition_frequency=10,
    )

    def init(self):
        square = lambda n: torch.zeros(n, n, dtype=torch.float64)
        self.factors = [[square(n) for n in p.shape] if p.ndim > 1 else [] for p in self.params]
        self.q = [[] for _ in self.params]
        self.m, self.v = self.zeros(), self.zeros()

    def to_basis(self, i, x):
        for axis, q in enumerate(self.q[i]):
            x = along(x, q.T, axis)
        return x

    def from_basis(self, i, x):
        for axis, q in enumerate(self.q[i]):
            x = along(x, q, axis)
        return x

    def update_factors(self, i, g):
        beta = self.h.betas[1] if self.h.shampoo_beta is None else self.h.shampoo_beta
        for axis, f in enumerate(self.factors[i]):
            f.copy_(beta * f + (1 - beta) * unfold(g, axis) @ unfold(g, axis).T)

    def refresh(self, i):
        for axis, (f, q) in enumerate(zip(self.factors[i], self.q[i])):
            order = (q * (f @ q)).sum(dim=0).argsort(descending=True)
            self.v[i] = self.v[i].index_select(axis, order)
            self.q[i][axis] = torch.linalg.qr((f @ q)[:, order])[0]

    def direction(self, i, g, t):
        """The update, by Adam in the basis."""
        h = self.h
        b1, b2 = h.betas
        self.m[i] = b1 * self.m[i] + (1 - b1) * g
        self.v[i] = b2 * self.v[i] + (1 - b2) * self.to_basis(i, g).square()
        u = self.to_basis(i, self.m[i]) / (self.v[i].sqrt() + h.eps)
        return self.from_basis(i, u) * math.sqrt(1 - b2**t) / (1 - b1**t)

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            if self.t == 1:
                self.update_factors(i, g)
                self.q[i] = [eigenbasis(f) for f in self.factors[i]]
                continue
            t = self.t - 1
            p -= h.lr * self.direction(i, g, t)
            p *= 1 - h.lr * h.weight_decay
            self.update_factors(i, g)
            if t % h.precondition_frequency == 0:
                self.refresh(i)


@reference("soap_laprop", "solp")
class SOLP(SOAP):
    """SOAP with LaProp in the basis: the average is of G' / sqrt(V^), not of G'.

    HeavyBall's SOLP: M' <- b1 M' + (1-b1) G' / sqrt(V^), debiased; M' turns with the basis.
    eps is added to the root here; HeavyBall clamps.
    """

    paper = "HeavyBall (no paper); 2409.11321, 2002.04839"

    def direction(self, i, g, t):
        h = self.h
        b1, b2 = h.betas
        low = self.to_basis(i, g)
        self.v[i] = b2 * self.v[i] + (1 - b2) * low.square()
        scaled = self.from_basis(i, low / ((self.v[i] / (1 - b2**t)).sqrt() + h.eps))
        self.m[i] = b1 * self.m[i] + (1 - b1) * scaled  # kept in the original basis: the same
        return self.m[i] / (1 - b1**t)


@reference("soap_nadam")
class SOAPNAdam(SOAP):
    """SOAP with NAdam in the basis: M' and G' mixed with mu_t = b1 (1 - 0.96^(t psi) / 2).

    HeavyBall's, with the eps of torch.optim.NAdam: beside the root of the debiased V.
    """

    paper = "HeavyBall (no paper); 2409.11321, Dozat 2016"
    defaults = {**SOAP.defaults, "momentum_decay": 4e-3}

    def init(self):
        super().init()
        self.product = self.scalars(1.0)

    def direction(self, i, g, t):
        h = self.h
        b1, b2 = h.betas
        mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (s * h.momentum_decay)) for s in (t, t + 1))
        self.product[i] *= mu
        self.m[i] = b1 * self.m[i] + (1 - b1) * g
        self.v[i] = b2 * self.v[i] + (1 - b2) * self.to_basis(i, g).square()
        u = (1 - mu) / (1 - self.product[i]) * g
        u = u + mu_next / (1 - self.product[i] * mu_next) * self.m[i]
        u = self.to_basis(i, u) / ((self.v[i] / (1 - b2**t)).sqrt() + h.eps)
        return self.from_basis(i, u)


@reference("soap_ademamix")
class SOAPAdEMAMix(SOAP):
    """SOAP with AdEMAMix in the basis: (M1'^ + alpha M2') / (sqrt(V^) + eps), M2 not debiased.

    HeavyBall's, without its warm-ups of alpha and b3.
    """

    paper = "HeavyBall (no paper); 2409.11321, 2409.03137"
    defaults = {**SOAP.defaults, "betas": (0.9, 0.95, 0.9999), "alpha": 2.0}

    def init(self):
        super().init()
        self.slow = self.zeros()

    def direction(self, i, g, t):
        h = self.h
        b1, b2, b3 = h.betas
        self.m[i] = b1 * self.m[i] + (1 - b1) * g
        self.slow[i] = b3 * self.slow[i] + (1 - b3) * g
        self.v[i] = b2 * self.v[i] + (1 - b2) * self.to_basis(i, g).square()
        u = self.to_basis(i, self.m[i] / (1 - b1**t) + h.alpha * self.slow[i])
        return self.from_basis(i, u / ((self.v[i] / (1 - b2**t)).sqrt() + h.eps))


@reference("heavy_soap")
class HeavySOAP(SOAP):
    """SOAP whose V moves with the basis: V <- (R_L^2)^T V R_R^2, R = Q_old^T Q_new, elementwise
    squares; columns are sorted by diag(Q^T L Q) after the QR, not before.

    HeavyBall's, whose factors also have a debiased average.
    """

    paper = "HeavyBall 3 (no paper); 2409.11321"

    def refresh(self, i):
        for axis, (f, old) in enumerate(zip(self.factors[i], self.q[i])):
            q = torch.linalg.qr(f @ old)[0]
            q = q[:, (q * (f @ q)).sum(dim=0).argsort(descending=True)]
            self.v[i] = along(self.v[i], (old.T @ q).square().T, axis)
            self.q[i][axis] = q


@reference("kl_shampoo")
class KLShampoo(Reference):
    """Factors that minimize a KL divergence: each is whitened by the other.

    S_a <- b S_a + (1-b)/n G S_b^-1 G^T, S_b <- b S_b + (1-b)/m G^T S_a^-1 G, where S^-1 is
    Q diag(1/d) Q^T with the bases Q and the eigenvalues d, which are averaged in that basis:
    d_a <- b d_a + (1-b)/n diag(Q_a^T G S_b^-1 G^T Q_a), d_b likewise; Q <- QR(S Q) every
    `precondition_frequency` steps; W <- W - lr Q_a (M' / (sqrt(d_a d_b) + eps)) Q_b^T with
    M' the average M of gradients in the basis; then W <- (1 - lr wd) W.

    As in the authors' implementation (yorkerlin/KL-Methods): the step uses the factors of the
    step before; the first gradient only makes S (as if the other were I), Q (by eigh) and
    d = init_factor; M is not debiased; columns are not sorted. Their clamp on 1 / sqrt(d) and
    their bfloat16 are not here. HeavyBall and Emerging Optimizers take d = diag(Q^T S Q)
    instead of averaging it (and the second renews before the step). Matrices only; the
    caution of `soap` on null spaces holds.
    """

    paper = "Lin et al. 2025, 2509.03378"
    defaults = dict(
        lr=1e-3,
        betas=(0.9, 0.98),
        shampoo_beta=None,
        eps=1e-8,
        weight_decay=0.01,
        precondition_frequency=10,
        init_factor=0.1,
    )

    def init(self):
        square = lambda n: torch.zeros(n, n, dtype=torch.float64)
        self.factors = [[square(n) for n in as_matrix(self.name, p).shape] for p in self.params]
        self.q = [[] for _ in self.params]
        self.d = [
            [p.new_full((n,), self.h.init_factor) for n in rows(p).shape] for p in self.params
        ]
        self.m = [torch.zeros_like(rows(p)) for p in self.params]
        self.v = [torch.zeros_like(rows(p)) for p in self.params]

    def update_factors(self, i, g):
        beta = self.h.betas[1] if self.h.shampoo_beta is None else self.h.shampoo_beta
        m, n = g.shape
        (left, right), ((q_a, q_b), (d_a, d_b)) = self.factors[i], (self.q[i], self.d[i])
        by_b = g @ q_b / d_b.sqrt()  # G S_b^-1/2, up to a rotation
        by_a = g.T @ q_a / d_a.sqrt()
        left.copy_(beta * left + (1 - beta) * by_b @ by_b.T / n)
        right.copy_(beta * right + (1 - beta) * by_a @ by_a.T / m)
        new_a = beta * d_a + (1 - beta) * (q_a.T @ by_b).square().mean(dim=1)
        new_b = beta * d_b + (1 - beta) * (q_b.T @ by_a).square().mean(dim=1)
        self.d[i] = [new_a, new_b]

    def direction(self, i, g):
        h = self.h
        (q_a, q_b), (d_a, d_b) = self.q[i], self.d[i]
        self.m[i] = h.betas[0] * self.m[i] + (1 - h.betas[0]) * g
        u = q_a.T @ self.m[i] @ q_b / (torch.outer(d_a, d_b).sqrt() + h.eps)
        return q_a @ u @ q_b.T

    def update(self, grads):
        h = self.h
        for i, (p, g) in enumerate(zip(self.params, grads)):
            g = rows(g)
            if self.t == 1:
                beta = h.betas[1] if h.shampoo_beta is None else h.shampoo_beta
                self.factors[i][0] += (1 - beta) * g @ g.T / g.shape[1]
                self.factors[i][1] += (1 - beta) * g.T @ g / g.shape[0]
                self.q[i] = [eigenbasis(f) for f in self.factors[i]]
                continue
            p -= h.lr * self.direction(i, g).reshape(p.shape)
            p *= 1 - h.lr * h.weight_decay
            self.update_factors(i, g)
            if (self.t - 1) % h.precondition_frequency == 0:
                self.q[i] = [torch.linalg.qr(f @ q)[0] for f, q in zip(self.factors[i], self.q[i])]


@reference("kl_soap")
class KLSOAP(KLShampoo):
    """Adam in the eigenbasis of KL-Shampoo's factors.

    M' = Q_a^T M Q_b; V <- b2 V + (1-b2) G'^2; W <- W - lr Q_a (M' / (sqrt(V) + eps)) Q_b^T.
    The authors debias neither (`correct_bias=False`); HeavyBall does. V is neither rotated
    nor sorted when the basis changes.
    """

    defaults = {**KLShampoo.defaults, "correct_bias": False}

    def direction(self, i, g):
        h = self.h
        b1, b2 = h.betas
        q_a, q_b = self.q[i]
        self.m[i] = b1 * self.m[i] + (1 - b1) * g
        self.v[i] = b2 * self.v[i] + (1 - b2) * (q_a.T @ g @ q_b).square()
        u = q_a.T @ self.m[i] @ q_b / (self.v[i].sqrt() + h.eps)
        if h.correct_bias:
            u = u * math.sqrt(1 - b2 ** (self.t - 1)) / (1 - b1 ** (self.t - 1))
        return q_a @ u @ q_b.T


@reference("splus")
class SPlus(Reference):
    """The sign of the momentum in the eigenbasis of Shampoo's factors.

    M <- b1 M + (1-b1) G; L <- b2 L + (1-b2) G G^T, R likewise;
    W <- W - lr 2/(m+n) Q_L sign(Q_L^T M Q_R) Q_R^T; then E <- r E + (1-r) W, evaluated as
    E / (1 - r^t); then decay. Q = eigenvectors at the first step and every `inverse_steps`,
    used from the step after (so the first step has Q = I). What is no matrix: lr 1e-3 sign(M).
    Signs depend on no sign of an eigenvector, but on the basis of a null space: see `soap`.
    """

    paper = "Frans, Levine & Abbeel 2025, 2506.07254"
    defaults = dict(
        lr=0.1,
        betas=(0.9, 0.999),
        weight_decay=0.01,
        ema_rate=0.999,
        inverse_steps=100,
        nonstandard_constant=1e-3,
        eps=1e-30,
    )

    def init(self):
        matrix = [p.ndim == 2 for p in self.params]
        eye = lambda n: torch.eye(n, dtype=torch.float64)
        self.q = [[eye(n) for n in p.shape] if y else [] for p, y in zip(self.params, matrix)]
        self.factors = [[0 * q for q in qs] for qs in self.q]
        self.m, self.ema = self.zeros(), self.zeros()

    def update(self, grads):
        h = self.h
        b1, b2 = h.betas
        for i, (p, g, m) in enumerate(zip(self.params, grads, self.m)):
            m.copy_(b1 * m + (1 - b1) * g)
            u = m
            for axis, q in enumerate(self.q[i]):
                u = along(u, q.T, axis)
            u = u.sign()
            for axis, (q, f) in enumerate(zip(self.q[i], self.factors[i])):
                u = along(u, q, axis)
                f.copy_(b2 * f + (1 - b2) * unfold(g, axis) @ unfold(g, axis).T)
                if self.t == 1 or self.t % h.inverse_steps == 0:
                    self.q[i][axis] = torch.linalg.eigh(f + h.eps * torch.eye(len(f)).double())[1]
            lr = h.lr * (2 / sum(p.shape) if p.ndim == 2 else h.nonstandard_constant)
            p -= lr * u
            self.ema[i] = h.ema_rate * self.ema[i] + (1 - h.ema_rate) * p
            p *= 1 - lr * h.weight_decay

    def eval_params(self):
        return [e / (1 - self.h.ema_rate**self.t) for e in self.ema]


# ------------------------------------------------------------------ PSGD


def spectral_lower_bound(a):
    """A cheap lower bound of the spectral norm: two products with the heaviest column."""
    largest = a.abs().max()
    if largest == 0:
        return largest
    a = a / largest
    column = a[:, a.square().sum(dim=0).argmax()]
    x = column @ a
    return largest * (x / x.norm() @ a.T).norm()


@reference("psgd_kron", "kron")
class PSGDKron(Reference):
    """Kronecker factors Q that whiten the gradient, fitted by descent on the Lie group.

    M <- mu M + (1-mu) G, M^ = M / (1 - mu^t); with a probe V ~ N(0, I):
    A = M^ with Q_i along each axis i, B = V with Q_i^-T along each;
    Q_i <- Q_i - step triu(A_i A_i^T - B_i B_i^T) / norm(A_i A_i^T + B_i B_i^T) Q_i;
    P = M^ with Q_i^T Q_i along each axis, scaled to an RMS of at most 1.1;
    W <- W - lr (P + wd W).

    A_i is A with axis i as rows; `norm` is a lower bound of the spectral norm. A vector (or an
    axis of length 1, or one longer than max_size_triangular) has a diagonal Q, whose norm is
    the largest entry. Q starts as I.

    Random in the public implementations, given here: V (`draw`, once a parameter and update),
    when Q is updated (`update_probability(t)`, t from 0; the default falls from 1 to 0.03;
    with a counter, so that probability 1/k means every k-th step, not a coin), and the 1 %
    of updates that balance the norms of the factors (`balance(t)`, never by default).
    Decay is decoupled and only for matrices.
    """

    paper = "Li 2015, 1512.04202; Li 2024, 2402.11858; in the form of evanatyourservice/kron_torch"
    defaults = dict(
        lr=1e-3,
        momentum=0.9,
        weight_decay=0.0,
        precondition_lr=0.1,
        max_size_triangular=8192,
        update_probability=None,
        balance=None,
        draw=None,
    )

    def init(self):
        limit = self.h.max_size_triangular
        dense = lambda n, p: p.ndim > 1 and 1 < n <= limit
        one = lambda n, p: torch.eye(n).double() if dense(n, p) else torch.ones(n).double()
        self.q = [[one(n, p) for n in (p.shape or (1,))] for p in self.params]
        self.m = self.zeros()
        self.draw = self.h.draw or drawer()
        self.counter = 0

    @staticmethod
    def probability(t):
        return min(1.0, max(0.03, math.exp(-0.001 * (t - 500))))

    @staticmethod
    def apply(q, x, axis):
        """Q times x along the axis."""
        return along(x, torch.diag(q) if q.ndim == 1 else q, axis)

    def fit(self, qs, g, v):
        a, b = g, v
        for axis, q in enumerate(qs):
            inverse = 1 / q if q.ndim == 1 else torch.linalg.inv(q).T
            a, b = self.apply(q, a, axis), self.apply(inverse, b, axis)
        for axis, q in enumerate(qs):
            aa = unfold(a, axis) @ unfold(a, axis).T
            bb = unfold(b, axis) @ unfold(b, axis).T
            if q.ndim == 1:
                aa, bb = aa.diag(), bb.diag()
                q -= self.h.precondition_lr * (aa - bb) / (aa + bb).abs().max() * q
            else:
                step = self.h.precondition_lr / spectral_lower_bound(aa + bb)
                q -= step * torch.triu(aa - bb) @ q

    def update(self, grads):
        h = self.h
        self.counter += 1
        due = self.counter >= 1 / (h.update_probability or self.probability)(self.t - 1)
        self.counter = 0 if due else self.counter
        for p, g, m, qs in zip(self.params, grads, self.m, self.q):
            m.copy_(h.momentum * m + (1 - h.momentum) * g)
            m_hat = (m / (1 - h.momentum**self.t)).reshape(p.shape or (1,))
            if due and p.ndim > 1 and h.balance is not None and h.balance(self.t - 1):
                norms = torch.stack([q.abs().max() for q in qs])
                for q, norm in zip(qs, norms):
                    q *= norms.prod() ** (1 / len(qs)) / norm
            if due:
                self.fit(qs, m_hat, self.draw(m_hat.shape).double())
            u = m_hat
            for axis, q in enumerate(qs):
                u = self.apply(q.square() if q.ndim == 1 else q.T @ q, u, axis)
            u = u * (1.1 / (u.square().mean().sqrt() + 1e-6)).clamp(max=1)
            if p.ndim >= 2:
                u = u + h.weight_decay * p
            p -= h.lr * u.reshape(p.shape)
