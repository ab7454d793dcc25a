"""Muon, and what else orthogonalises the momentum of a matrix by Newton-Schulz."""

from typing import Any, Unpack

import torch

from weft import callbacks as cb
from weft.callback import mark, rename
from weft.callbacks.matrix import JORDAN
from weft.chain import Chain
from weft.contract.hyperparameters import check_one
from weft.errors import ChainError
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["AdaMuon", "Muon", "MuonClip", "MuonPolarExpress", "NorMuon"]

ADJUSTMENTS = ("original", "match_rms_adamw")
# torch refuses a tensor of 3 dimensions, which may be a stack of matrices
orthogonalized: Any = mark(rename(cb.newton_schulz), ndim=(2, 4, 5))
square_of_update = rename(cb.mean_square, grad="update", alpha="beta2")
even_out = rename(cb.root, eps="norm_eps")


class Muon(Algorithm):
    r"""Muon: momentum, orthogonalised by Newton-Schulz; for the hidden matrices of a network.

        b <- momentum * b + (1 - momentum) * g;   u = (1 - momentum) * g + momentum * b   (nesterov)
        p <- p * (1 - lr * weight_decay) - lr * s * NS(u)
        s = sqrt(max(1, rows / cols)), or 0.2 * sqrt(max(rows, cols)) with "match_rms_adamw"

    Args:
        params: matrices; `weft.route` sends a model's other parameters to another chain.
        lr: learning rate.
        weight_decay: decoupled, times the rate before its adjustment.
        momentum: of the average.
        nesterov: look ahead along the momentum.
        ns_coefficients: a, b, c of the iteration X <- a X + (b A + c A^2) X, A = X X^T.
        eps: the least norm that the momentum is divided by.
        ns_steps: of the iteration, below 100.
        ns_dtype: what it runs in: "bfloat16", "float32", ...; "auto" is bfloat16 on a GPU, and the
            precision of the parameter (float32 for 16-bit ones) elsewhere.
        adjust_lr_fn: "original" (None is the same) or "match_rms_adamw".
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    Raises:
        ValueError: for hypers out of range, in torch's words.
        ChainError: for a parameter that is neither a matrix nor the kernel of a convolution.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.Muon([p], lr=0.1)
    >>> opt.step(); bool((p.diagonal() < 0.95).all())
    True

    Jordan et al., 2024, kellerjordan.github.io/posts/muon; Liu et al., 2025, arXiv:2502.16982. The
    names, state and arithmetic are torch.optim.Muon's, but for one thing: torch iterates in
    bfloat16 everywhere, this on GPUs (see `ns_dtype`). Keras and the blog
    sum the momentum instead of averaging, which differs through eps alone. Besides matrices it takes
    kernels of 4 or 5 dimensions, as matrices of their output channels; as torch it refuses 3, which
    may be a stack of matrices.
    """

    paper = (
        "Jordan et al., 2024, kellerjordan.github.io/posts/muon; Liu et al., 2025, arXiv:2502.16982"
    )
    chain_options = ("nesterov",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        _check(lr, momentum, weight_decay, adjust_lr_fn, ns_coefficients, ns_steps)
        super().__init__(params, locals())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices, or kernels of convolutions.

        Raises:
            ChainError: for a parameter that is neither.
        """
        params = param_group.get("params", ())
        if not isinstance(params, set) and "cbs" not in param_group:
            params = [params] if isinstance(params, torch.Tensor) else list(params)
            param_group = {**param_group, "params": params}
            for p in (p[1] if isinstance(p, tuple) else p for p in params):
                _check_matrix(p)
        super().add_param_group(param_group)

    @classmethod
    def chain(cls, *, nesterov=True, **hypers: Any) -> Chain:
        return cls.weave(
            cb.weight_decay,
            cb.average,
            nesterov and cb.nesterov_average,
            orthogonalized,
            cb.adjust_lr,
            cb.descend,
            **hypers,
        )


def _check_matrix(p: torch.Tensor) -> None:
    if p.is_complex():
        raise ValueError(
            "Muon does not support complex parameters; see docs/limits.md#complex-parameters"
        )
    if p.ndim not in orthogonalized.ndim:
        raise ChainError(
            f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}; "
            "of others the kernels of convolutions, with 4 or 5 dimensions: give it a group with "
            "another chain, or route it with weft.route; see docs/limits.md#methods-for-matrices"
        )


def _check(lr: Any, momentum: float, weight_decay: float, adjust: Any, abc: Any, steps: int):
    """Refuse what torch.optim.Muon refuses, in its words, and before the first step."""
    check_one("lr", lr)
    check_one("momentum", momentum)
    check_one("weight_decay", weight_decay)
    if not lr >= 0.0:
        raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
    if not momentum >= 0.0:
        raise ValueError(f"momentum should be >= 0 but is: {momentum}")
    if not weight_decay >= 0.0:
        raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
    if adjust is not None and adjust not in ADJUSTMENTS:
        raise ValueError(f"Adjust learning rate function {adjust} is not supported")
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(abc) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")


class MuonPolarExpress(Algorithm):
    r"""Muon, orthogonalised by Polar Express: the best quintic for each step, not one for all.

        u as in Muon;   p <- p * (1 - lr * weight_decay) - lr * s * PolarExpress(u)

    Args: those of `Muon`, without the iteration's coefficients and eps.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.MuonPolarExpress([p], lr=0.1, weight_decay=0.)
    >>> opt.step(); bool((p.diagonal() < 0.95).all())
    True

    Amsel et al., 2025, arXiv:2505.16932. The coefficients are those of the paper's algorithm 1, with
    its safety factor of 1.01; modded-nanogpt and microsoft/dion compute theirs for 1.02.
    """

    paper = "Amsel et al., 2025, arXiv:2505.16932"
    chain_options = ("nesterov",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, nesterov=True, **hypers: Any) -> Chain:
        return cls.weave(
            *Muon.chain(nesterov=nesterov).replace("newton_schulz", cb.polar_express), **hypers
        )


class MuonClip(Algorithm):
    r"""Muon as Kimi K2 was trained with it, without the clipping of attention logits.

        b <- momentum * b + g;   p <- p - lr * (0.2 * sqrt(max(rows, cols)) * NS(b) + weight_decay * p)

    Args: those of `Muon`, without nesterov.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.MuonClip([p], lr=0.1)
    >>> opt.step(); bool((p.diagonal() < 0.99).all())
    True

    Kimi Team, 2025, arXiv:2507.20534, algorithm 1, lines 2 to 5. QK-clip rescales the query and key
    weights by the largest attention logit, which an optimizer does not see.
    """

    paper = "Kimi Team, 2025, arXiv:2507.20534"
    blocks = (cb.weight_decay, cb.heavy_ball, cb.newton_schulz, cb.adjust_lr, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = "match_rms_adamw",
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class NorMuon(Algorithm):
    r"""Muon whose rows are made equally long on average: one second moment a neuron.

        b <- momentum * b + (1 - momentum) * g;   o = NS(b)
        v <- beta2 * v + (1 - beta2) * mean_row(o^2);   o <- o / (sqrt(v) + norm_eps)
        p <- p * (1 - lr * weight_decay) - 0.2 * lr * sqrt(rows * cols) / |o| * o

    Args:
        beta2: of the second moment of each row.
        norm_eps: added to its root.
        nesterov: look ahead along the momentum; the paper does not.
        preserve_norm: keep the norm that o had and scale by `adjust_lr_fn`, as the speedrun and
            microsoft/dion do, rather than bring the update to a root mean square of 0.2.
        polar_express: orthogonalise by `MuonPolarExpress`'s iteration.
        others: those of `Muon`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.NorMuon([p], lr=0.1)
    >>> opt.step(); bool((p.diagonal() < 0.99).all())
    True

    Li et al., 2025, arXiv:2510.05491. v is not debiased.
    """

    paper = "Li et al., 2025, arXiv:2510.05491"
    chain_options = ("nesterov", "preserve_norm", "polar_express")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        beta2: float = 0.95,
        nesterov: bool = False,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        norm_eps: float = 1e-8,
        adjust_lr_fn: str | None = None,
        preserve_norm: bool = False,
        polar_express: bool = False,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(
        cls, *, nesterov=False, preserve_norm=False, polar_express=False, **hypers: Any
    ) -> Chain:
        return cls.weave(
            cb.weight_decay,
            cb.average,
            nesterov and cb.nesterov_average,
            cb.polar_express if polar_express else cb.newton_schulz,
            cb.normalize_neurons,
            cb.adjust_lr if preserve_norm else cb.scale_to_rms,
            cb.descend,
            **hypers,
        )


class AdaMuon(Algorithm):
    r"""Adam's second moment of what Muon orthogonalised.

        b <- momentum * b + g;   o = NS(sign(b))
        v <- beta2 * v + (1 - beta2) * o^2;   o <- o / (sqrt(v) + norm_eps)
        p <- p - lr * (0.2 * sqrt(rows * cols) / |o| * o + weight_decay * p)

    Args:
        beta2: of the second moment; the paper takes the momentum's.
        norm_eps: added to its root.
        sign: orthogonalise the momentum's sign (the paper's second version), or the momentum.
        others: those of `Muon`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.AdaMuon([p], lr=0.1)
    >>> opt.step(); bool((p.diagonal() < 0.99).all())
    True

    Si, Zhang and Shen, 2025, arXiv:2507.11005v2. v is not debiased: the last scaling makes up for it.
    """

    paper = "Si, Zhang and Shen, 2025, arXiv:2507.11005v2"
    chain_options = ("sign",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        beta2: float = 0.95,
        sign: bool = True,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        norm_eps: float = 1e-8,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, sign=True, **hypers: Any) -> Chain:
        return cls.weave(
            cb.weight_decay,
            cb.heavy_ball,
            sign and cb.sign,
            cb.newton_schulz,
            square_of_update,
            even_out,
            cb.scale_to_rms,
            cb.descend,
            **hypers,
        )
