"""Optimizers that read the loss: Polyak's step, ALI-G, MoMo, GrokAdamW."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["AliG", "GrokAdamW", "MoMo", "MoMoAdam", "PolyakSGD"]

root_of_moment = rename(cb.root, square_avg="exp_avg_sq")
clip_gradient = rename(cb.clip_norm, max_norm="gradient_clipping")


class PolyakSGD(Algorithm):
    r"""SGD at Polyak's rate.

        p <- p - lr * min((loss - f_min) / (|all g|^2 + eps), max_lr) * g

    Args:
        params: parameters, named parameters or groups.
        lr: factor of the rate.
        max_lr: the largest rate.
        f_min: the smallest loss.
        eps: against a division by zero.

    Raises:
        StepError: where `step` is given neither a closure nor a loss.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.PolyakSGD([p])
    >>> _ = opt.step(loss=0.2); p.data
    tensor([0.9000, 0.9000])

    Polyak, 1969; Loizou et al., 2020, arXiv:2002.10542 (SPS_max).
    """

    paper = "Polyak, 1969; Loizou et al., 2020, arXiv:2002.10542"
    blocks = (cb.polyak_rate, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        max_lr: float = 1.0,
        f_min: float = 0.0,
        eps: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AliG(Algorithm):
    r"""ALI-G: Polyak's rate for a loss that reaches zero, with Nesterov's momentum.

        r = min(loss / (|all g|^2 + eps), lr);   b <- momentum * b - r * g
        p <- p - r * g + momentum * b

    Args:
        params: parameters, named parameters or groups.
        lr: the largest rate: `max_lr` in the authors' code.
        momentum: of the steps.
        eps: against a division by zero.

    Raises:
        StepError: where `step` is given neither a closure nor a loss.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AliG([p], lr=1., momentum=0.)
    >>> _ = opt.step(loss=0.2); p.data
    tensor([0.9000, 0.9000])

    Berrada, Zisserman and Kumar, 2019, arXiv:1906.05661, without the projection on a ball.
    """

    paper = "Berrada, Zisserman and Kumar, 2019, arXiv:1906.05661"
    blocks = (cb.alig,)

    def __init__(
        self,
        params: Any,
        lr: Any = 0.1,
        momentum: float = 0.9,
        eps: float = 1e-6,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class MoMo(Algorithm):
    r"""MoMo: SGD with momentum, its rate from a linear model of the averaged loss.

        m, f, c <- averages of g, the loss and <g, p>;   k = 1 + lr * weight_decay
        t = min(lr, max(k (f - f_min - c) + <m, p>, 0) / |m|^2);   p <- p / k - t * m

    Args:
        params: parameters, named parameters or groups.
        lr: the largest rate.
        beta: decay of the averages, which start at their first values.
        f_min: the smallest loss; it is not adapted.
        weight_decay: decoupled, by a proximal operator.

    Raises:
        StepError: where `step` is given neither a closure nor a loss.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.MoMo([p])
    >>> _ = opt.step(loss=0.2); p.data
    tensor([0.9000, 0.9000])

    Schaipp et al., 2023, arXiv:2305.07583.
    """

    paper = "Schaipp et al., 2023, arXiv:2305.07583"
    blocks = (cb.plain_ema, cb.momo)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        beta: float = 0.9,
        f_min: float = 0.0,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class MoMoAdam(Algorithm):
    r"""MoMo-Adam: Adam, its rate from a linear model of the averaged loss.

        m, v, f, c <- averages of g, g^2, the loss and <g, p>;   k = 1 + lr * weight_decay
        b = 1 - beta1^t;   D = sqrt(v / (1 - beta2^t)) + eps
        t = min(lr / b, max(k (f - b f_min - c) + <m, p>, 0) / <m, m / D>);   p <- p / k - t * m / D

    Args:
        params: parameters, named parameters or groups.
        lr: the largest rate.
        betas, eps: Adam's.
        f_min: the smallest loss; it is not adapted.
        weight_decay: decoupled, by a proximal operator.

    Raises:
        StepError: where `step` is given neither a closure nor a loss.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.MoMoAdam([p], lr=1.)
    >>> _ = opt.step(loss=0.2); p.data
    tensor([0.9000, 0.9000])

    Schaipp et al., 2023, arXiv:2305.07583, algorithm 4.
    """

    paper = "Schaipp et al., 2023, arXiv:2305.07583"
    blocks = (cb.ema, cb.ema_sq, cb.precondition, cb.momo_adam)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        f_min: float = 0.0,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class GrokAdamW(Algorithm):
    r"""GrokAdamW: AdamW on gradients with their slow part enlarged.

        g <- g * min(1, gradient_clipping / |g|)                              by tensor
        s = max(0, eval_loss - loss) / max(eval_loss, loss);   a = alpha_init * exp(-rate * s)
        h <- a * h + (1 - a) * g;   AdamW's step on g + lamb * h, with beta1 (1 - gamma)^depth

    Args:
        params: parameters, named parameters or groups.
        lr, betas, eps, weight_decay: AdamW's; eps is added to the uncorrected root.
        alpha_init: decay of the slow gradient.
        lamb: how much of it is added.
        gamma: by how much beta1 falls from layer to layer.
        depth: which layer this is; give groups their own.
        grokking_signal_decay_rate: how fast the decay follows the signal.
        gradient_clipping: norm of each tensor's gradient; 0 leaves it.
        eval_loss: the last loss on held-out data; set it with `opt.set_hypers(eval_loss=...)`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.GrokAdamW([p], lr=0.1, weight_decay=0.)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Hartford, 2024, github.com/cognitivecomputations/grokadamw; Lee et al., 2024, arXiv:2405.20233.
    There the layer is a parameter's place in its group; a callback knows no place, a group does.
    The signal is 0 without a loss, as it is without an `eval_loss`.
    """

    paper = "Hartford, 2024; Lee et al., 2024, arXiv:2405.20233"
    chain_options = ("gradient_clipping",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        alpha_init: float = 0.98,
        lamb: float = 2.0,
        gamma: float = 0.1,
        depth: int = 0,
        grokking_signal_decay_rate: float = 0.1,
        gradient_clipping: float = 1.0,
        eval_loss: float | None = None,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, gradient_clipping=1.0, **hypers: Any) -> Chain:
        return cls.weave(
            gradient_clipping != 0 and clip_gradient,
            cb.grok,
            cb.weight_decay,
            cb.deep_ema,
            cb.ema_sq,
            root_of_moment,
            cb.correct_bias,
            cb.descend,
            gradient_clipping=gradient_clipping,
            **hypers,
        )
