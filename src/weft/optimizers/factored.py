"""Optimizers with second moments smaller than the gradient: Adafactor, CAME, SM3, Adam-mini."""

from collections.abc import Mapping
from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.contract.hyperparameters import check_length, check_one, unused
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["CAME", "SM3", "Adafactor", "AdamMini"]


class Adafactor(Algorithm):
    r"""Adafactor: the root of rows times columns of g^2 for Adam's, and rates relative to p.

        R, C <- averages of mean(g^2) over columns and rows,   of weight t^beta2_decay
        u = g / sqrt(R C / mean(R));   u <- u / max(1, rms(u) / d)
        p <- p * (1 - lr * weight_decay) - max(eps2, rms(p)) * min(lr, 1 / sqrt(t)) * u

    Args:
        params: parameters, named parameters or groups.
        lr: the largest rate, relative to the parameter's size.
        beta2_decay: exponent of the averages' weight.
        eps: floor of the second moment (None: the machine's epsilon), and of rms(p).
        d: largest root mean square of an update.
        weight_decay: decoupled.
        foreach: torch's, accepted and ignored.
        maximize: ascend.
        sq_eps: what is added to g^2. torch adds nothing and has the floor.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    Raises:
        ValueError: for hypers out of range, in torch's words.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Adafactor([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Shazeer and Stern, 2018, arXiv:1804.04235, as torch has it: state, checkpoints, numbers. The
    paper's is `eps=(0.0, 1e-3), sq_eps=1e-30`. Kernels are batches of matrices in their last two
    dimensions. Others differ more: Hugging Face adds momentum, and its lr need not be relative.
    """

    paper = "Shazeer and Stern, 2018, arXiv:1804.04235"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        sq_eps: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        arguments = dict(locals())
        _check(arguments)
        super().__init__(params, arguments)

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.factored_sq,
            cb.factored_root,
            cb.clip_update_rms,
            cb.param_rms,
            cb.weight_decay,
            cb.descend_relative,
            **hypers,
        )


def _check(given: Mapping[str, Any]) -> None:
    """Adafactor's hypers, refused in torch's words."""
    check_length("eps", given["eps"], 2, 2)
    eps1, eps2 = given["eps"]
    for name in ("lr", "beta2_decay", "eps", "d", "weight_decay"):
        check_one(name, given[name])
    if not given["lr"] >= 0.0:
        raise ValueError(f"Learning rate should be >= 0 but is: {given['lr']}")
    if not given["beta2_decay"] <= 0.0:
        raise ValueError(f"beta2_decay should be <= 0 but is: {given['beta2_decay']}")
    if eps1 is not None and not eps1 >= 0.0:
        raise ValueError(f"epsilon1 should be >= 0 but is: {eps1}")
    if not eps2 >= 0.0:
        raise ValueError(f"epsilon2 should be >= 0 but is: {eps2}")
    if not given["d"] >= 1.0:
        raise ValueError(f"Clipping threshold d should be >= 1 but is: {given['d']}")
    if not given["weight_decay"] >= 0.0:
        raise ValueError(f"weight_decay should be >= 0 but is: {given['weight_decay']}")


class CAME(Algorithm):
    r"""CAME: Adafactor's update, averaged, and divided by how far it strays from its average.

        u = g / sqrt(factored v);   u <- u / max(1, rms(u) / d);   m <- beta1 * m + (1 - beta1) * u
        p <- p * (1 - lr * weight_decay) - lr * m / sqrt(factored average of (u - m)^2)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of m, of v and of (u - m)^2, none of them corrected.
        sq_eps, res_eps: added to g^2 and to (u - m)^2: the paper's two eps.
        d: largest root mean square of an update.
        weight_decay: decoupled.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.CAME([p], lr=0.1, betas=(0., .9, .9))
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Luo et al., 2023, arXiv:2307.02047. Vectors are not factored and take the average alone.
    """

    paper = "Luo et al., 2023, arXiv:2307.02047"
    blocks = (
        cb.weight_decay,
        cb.factored_ema_sq,
        cb.divide_factored,
        cb.clip_update_rms,
        cb.confidence,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-4,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        sq_eps: float = 1e-30,
        res_eps: float = 1e-16,
        d: float = 1.0,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class SM3(Algorithm):
    r"""SM3-II: a second moment in one number for each slice of each dimension.

        v = min over the slices through an entry of their numbers + g^2
        each slice's number <- the largest v in it
        m <- momentum * m + (1 - momentum) * g / sqrt(v + sq_eps);   p <- p - lr * m

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate; sums grow, so a constant one decays by itself.
        momentum: 0 leaves the average out.
        sq_eps: under the root.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2, 2)); p.grad = torch.ones(2, 2)
    >>> opt = weft.SM3([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([[0.9000, 0.9000],
            [0.9000, 0.9000]])

    Anil et al., 2019, arXiv:1901.11150.
    """

    paper = "Anil et al., 2019, arXiv:1901.11150"
    chain_options = ("momentum",)

    def __init__(
        self,
        params: Any,
        lr: Any = 0.1,
        momentum: float = 0.0,
        sq_eps: float = 1e-30,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, momentum=0.0, **hypers: Any) -> Chain:
        return cls.weave(
            cb.cover_root,
            not unused(momentum) and cb.average,
            cb.descend,
            momentum=momentum,
            **hypers,
        )


class AdamMini(Algorithm):
    r"""Adam-mini: AdamW with one second moment for each block of a parameter.

        p <- p * (1 - lr * weight_decay)
        m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * mean(g^2 over the block)
        p <- p - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages.
        eps: added outside the root.
        weight_decay: decoupled.
        blocks: "tensor", or "row": an output unit. Groups may differ.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdamMini([p], lr=0.1, weight_decay=0.)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Zhang et al., 2024, arXiv:2406.16793. The paper's blocks follow the model: rows for embeddings
    and the output layer, tensors for the rest. Queries and keys go by head, which a parameter does
    not know: "row" is finer, and safe.
    """

    paper = "Zhang et al., 2024, arXiv:2406.16793"
    blocks = (cb.weight_decay, cb.ema, cb.block_ema_sq, cb.debias, cb.precondition, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        blocks: str = "tensor",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
