"""From online learning and control: statistics of their own in the place of Adam's."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["COCOB", "FTRL", "KATE", "MSVAG", "VSGD", "AdaSmooth"]

average = rename(cb.average, momentum="beta")
mean_square = rename(cb.mean_square, alpha="beta")


class FTRL(Algorithm):
    r"""Follow the regularised leader, proximal: sparse by its l1.

        z <- z + g - (sqrt(n + g^2) - sqrt(n)) / lr * p;   n <- n + g^2
        p <- -(z - sign(z) * l1) / ((beta + sqrt(n)) / lr + l2),   0 where |z| <= l1

    Args:
        params: parameters, named parameters or groups.
        lr: alpha in the paper.
        beta: added to the root.
        l1: below which z gives 0.
        l2: penalty.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.FTRL([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.4500, 0.4500])

    McMahan et al., 2013, KDD. The parameter is a function of the sums: where it starts counts only
    in the first step. Keras doubles l2 and starts n at 0.1.
    """

    paper = "McMahan et al., 2013, KDD"
    blocks = (cb.follow_leader,)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-1,
        beta: float = 1.0,
        l1: float = 0.0,
        l2: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class COCOB(Algorithm):
    r"""COCOB: coin betting, without a learning rate.

        L <- max(L, |g|);   G <- G + |g|;   R <- max(R - (p - p0) * g, 0);   theta <- theta - g
        p <- p0 + theta / (L * max(G + L, alpha * L)) * (L + R)

    Args:
        params: parameters, named parameters or groups.
        lr: multiplies the gradient, as in optax; leave it at 1.
        alpha: how small the first bets are.
        eps: where L starts.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.COCOB([p], lr=1.0)
    >>> opt.step(); p.data
    tensor([0.9900, 0.9900])

    Orabona and Tommasi, 2017, arXiv:1705.07795. Algorithm 2.
    """

    paper = "Orabona and Tommasi, 2017, arXiv:1705.07795"
    blocks = (cb.l2, cb.bet)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        alpha: float = 100.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class VSGD(Algorithm):
    r"""Variational SGD: the posterior of the true gradient, given the noisy one.

        m = (s_h * m + s_g * g) / (s_g + s_h);   s2 = s_g * s_h / (s_g + s_h)
        p <- p * (1 - lr * weight_decay);   p <- p - lr * m / (sqrt(m^2 + s2) + eps)
        s_g, s_h follow the squared changes and residuals of m with weights t^-tau1 and t^-tau2

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        ghattg: prior ratio of the variances of noisy and true gradient.
        ps: prior strength.
        tau1: how fast the weight for the true gradient falls.
        tau2: how fast the weight for the noise falls.
        weight_decay: decoupled, as in AdamW.
        eps: added outside the root.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.VSGD([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9082, 0.9082])

    Chen et al., 2024, arXiv:2404.06549.
    """

    paper = "Chen et al., 2024, arXiv:2404.06549"
    blocks = (cb.weight_decay, cb.posterior, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 0.1,
        ghattg: float = 30.0,
        ps: float = 1e-8,
        tau1: float = 0.81,
        tau2: float = 0.9,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class KATE(Algorithm):
    r"""KATE: Adagrad without the root, invariant to the scale of the data.

        b2 <- b2 + g^2 + eps;   m2 <- m2 + eta * g^2 + g^2 / b2
        p <- p * (1 - lr * weight_decay);   p <- p - lr * sqrt(m2) * g / b2

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        eta: weight of the squared gradient in m2.
        eps: added to b2 in every step.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.KATE([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Choudhury et al., 2024, arXiv:2403.02648.
    """

    paper = "Choudhury et al., 2024, arXiv:2403.02648"
    blocks = (cb.weight_decay, cb.kate, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        eta: float = 0.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdaSmooth(Algorithm):
    r"""AdaSmooth: a mean square whose window follows how straight the way has been.

        e = |sum of moves| / (sum of |moves| + eps);   c = (beta2 - beta1) * e + 1 - beta2
        v <- (1 - c^2) * v + c^2 * g^2;   p <- p - lr * g / sqrt(v + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: the fast and the slow decay.
        eps: inside the root.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdaSmooth([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([-8.9504, -8.9504])

    Lu, 2022, arXiv:2204.00825. The sums run from the start; in the paper, over a window of
    batches.
    """

    paper = "Lu, 2022, arXiv:2204.00825"
    blocks = (cb.l2, cb.smooth_root, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.5, 0.99),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class MSVAG(Algorithm):
    r"""M-SVAG: momentum scaled by its share of signal.

        m, v <- averages of g and g^2 with one beta, corrected to m', v'
        s = (v' - m'^2) / (1 - rho);   p <- p - lr * m'^2 / (m'^2 + rho * s) * m'

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        beta: decay of both averages.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.MSVAG([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Balles and Hennig, 2017, arXiv:1705.07774. rho is the variance that averaging leaves.
    """

    paper = "Balles and Hennig, 2017, arXiv:1705.07774"
    blocks = (average, mean_square, cb.signal_to_noise, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-1,
        beta: float = 0.9,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
