"""Optimizers that step by signs."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["FOCUS", "Ano", "CautiousLion", "Grams", "SignSGD", "Signum", "Tiger"]

average = rename(cb.average, momentum="beta")


class SignSGD(Algorithm):
    r"""SignSGD: steps by the sign of the gradient.

        p <- p - lr * (sign(g) + weight_decay * p)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        weight_decay: decoupled, as in AdamW.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SignSGD([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Bernstein et al., 2018, arXiv:1802.04434.
    """

    paper = "Bernstein et al., 2018, arXiv:1802.04434"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(maximize and cb.ascend, cb.weight_decay, cb.sign, cb.descend, **hypers)


class Signum(Algorithm):
    r"""Signum: steps by the sign of the momentum.

        m <- momentum * m + (1 - momentum) * g
        p <- p - lr * (sign(m) + weight_decay * p)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: of the average.
        weight_decay: decoupled, as in AdamW.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Signum([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Bernstein et al., 2018, arXiv:1802.04434. Algorithm 2.
    """

    paper = "Bernstein et al., 2018, arXiv:1802.04434"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend, cb.weight_decay, cb.average, cb.sign, cb.descend, **hypers
        )


class Tiger(Algorithm):
    r"""Tiger: Signum with the decay that its author found for language models.

        m <- beta * m + (1 - beta) * g
        p <- p - lr * (sign(m) + weight_decay * p)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        beta: of the average.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Tiger([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8990, 0.8990])

    Su, 2023, github.com/bojone/tiger.
    """

    paper = "Su, 2023, github.com/bojone/tiger"
    blocks = (cb.weight_decay, average, cb.sign, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        beta: float = 0.965,
        weight_decay: float = 0.01,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class CautiousLion(Algorithm):
    r"""Lion that takes only the steps that the gradient agrees with.

        u = sign(beta1 * m + (1 - beta1) * g);   k = [u * g > 0]
        p <- p * (1 - lr * weight_decay);   p <- p - lr * u * k * n / (sum(k) + 1)
        m <- beta2 * m + (1 - beta2) * g

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: of the interpolation, and of the momentum.
        weight_decay: decoupled, as in AdamW.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.CautiousLion([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9333, 0.9333])

    Liang et al., 2024, arXiv:2411.16085. Scaled as in the paper's algorithm 2; timm and the
    authors' code divide by the mean of k, at least 1e-3. `weft.Lion.chain() +
    weft.callbacks.cautious` is the same.
    """

    paper = "Liang et al., 2024, arXiv:2411.16085"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.weight_decay,
            cb.interpolate,
            cb.sign,
            cb.cautious,
            cb.descend,
            **hypers,
        )


class Grams(Algorithm):
    r"""Adam with the sign of the gradient.

        u = Adam's step
        p <- p - lr * (sign(g) * |u| + weight_decay * p)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Grams([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Cao et al., 2024, arXiv:2412.17107.
    """

    paper = "Cao et al., 2024, arXiv:2412.17107"
    blocks = (
        cb.weight_decay,
        cb.ema,
        cb.ema_sq,
        cb.debias,
        cb.precondition,
        cb.borrow_sign,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class Ano(Algorithm):
    r"""Ano: the sign of the momentum, the size of the gradient.

        m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * sign(g^2 - v) * g^2
        p <- p * (1 - lr * weight_decay)
        p <- p - lr * |g| * sign(m) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Ano([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Kegreisz, 2025, arXiv:2508.18258. v decays as in the authors' code, where Yogi's does not; it
    stops at zero, where theirs may turn negative and its root NaN.
    """

    paper = "Kegreisz, 2025, arXiv:2508.18258"
    blocks = (
        cb.weight_decay,
        cb.ema,
        cb.signed_sq,
        cb.sign,
        cb.borrow_size,
        cb.precondition,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-4,
        betas: tuple[float, float] = (0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class FOCUS(Algorithm):
    r"""FOCUS: the sign of the momentum, and a pull towards the average of the parameter.

        m <- beta1 * m + (1 - beta1) * g;   a <- beta2 * a + (1 - beta2) * p,   a' = a / (1 - beta2^t)
        p <- p - lr * weight_decay * a'
        p <- p - lr * (sign(m) + gamma * sign(p - a'))

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages of the gradient and of the parameter.
        gamma: strength of the pull.
        weight_decay: decay of the parameter along its average.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.FOCUS([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Zheng et al., 2025, arXiv:2501.12243.
    """

    paper = "Zheng et al., 2025, arXiv:2501.12243"
    blocks = (cb.ema, cb.sign, cb.attract, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        gamma: float = 0.1,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
