"""Dion2: Muon on the largest rows of a momentum, the rest kept for later."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callbacks.matrix import JORDAN
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["Dion2", "NorDion2"]


class Dion2(Algorithm):
    r"""Muon on the largest slices of a momentum along its shorter side; only those are decayed.

        M <- M + g;   K = the ceil(fraction) slices of largest sum |M|
        p <- p * (1 - lr * weight_decay);   p_K <- p_K - lr * sqrt(rows / cols) * NS(M_K)
        M_K <- momentum * M_K

    Args:
        params: matrices.
        lr: learning rate.
        momentum: of what was selected.
        weight_decay: decoupled.
        fraction: of the slices that are selected.
        adjust_lr_fn: "spectral_norm", "original" or "match_rms_adamw".
        ns_coefficients, eps, ns_steps, ns_dtype: as in `Muon`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(4, 4)); p.grad = torch.eye(4, 4)
    >>> opt = weft.Dion2([p], fraction=0.5)
    >>> opt.step(); int((p != 0).sum())
    2

    Ahn et al., 2025, arXiv:2512.16928. Rows that are not selected stay in the matrix as zeros, which
    Newton-Schulz leaves zero: the result is the paper's, its saving of work is not.
    """

    paper = "Ahn et al., 2025, arXiv:2512.16928"
    blocks = (cb.weight_decay, cb.select_slices, cb.newton_schulz, cb.adjust_lr, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        fraction: float = 0.25,
        adjust_lr_fn: str = "spectral_norm",
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class NorDion2(Algorithm):
    r"""Dion2 on rows, which are made equally long on average as in NorMuon.

        O = NS(M_K) as in Dion2;   v_K <- beta2 * v_K + (1 - beta2) * mean_row(O^2)
        U = O / (sqrt(v_K) + norm_eps);   p_K <- p_K - lr * sqrt(rows / cols) * U * |O| / |U|

    Args:
        beta2: of the second moment of each row, which moves where the row is selected.
        norm_eps: added to its root.
        others: those of `Dion2`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(4, 4)); p.grad = torch.eye(4, 4)
    >>> opt = weft.NorDion2([p], fraction=0.5)
    >>> opt.step(); int((p != 0).sum())
    2

    microsoft/dion; there is no paper. arXiv:2512.16928, arXiv:2510.05491.
    """

    paper = "microsoft/dion; Ahn et al., 2025, arXiv:2512.16928; Li et al., 2025, arXiv:2510.05491"
    blocks = (
        cb.weight_decay,
        cb.select_slices,
        cb.newton_schulz,
        cb.normalize_selected,
        cb.adjust_lr,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        beta2: float = 0.95,
        fraction: float = 0.25,
        by_rows: bool = True,
        adjust_lr_fn: str = "spectral_norm",
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        norm_eps: float = 1e-8,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
