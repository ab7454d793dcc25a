"""BCOS."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["BCOS"]


class BCOS(Algorithm):
    r"""BCOS: block-coordinate optimal step sizes, without a second state.

        m <- beta * m + (1 - beta) * g, the first g at the start
        v = (3 beta^2 - 2 beta^3) m_prev^2 + (1 - beta)^2 g^2 + 2 beta (1 - beta)^2 m_prev g
        p <- p * (1 - lr * weight_decay);   p <- p - lr * m / (sqrt(v) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        beta: decay of the averages.
        mode: "c": v is what the old m and g imply, as above; "m": v averages m^2; "g": v
            averages g^2, and g is divided.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.BCOS([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8900, 0.8900])

    Jiang et al., 2025, arXiv:2507.08963. Averages are seeded with the first gradient.
    """

    paper = "Jiang et al., 2025, arXiv:2507.08963"
    chain_options = ("mode",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        beta: float = 0.9,
        mode: str = "c",
        eps: float = 1e-6,
        weight_decay: float = 0.1,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, mode="c", **hypers: Any) -> Chain:
        steps = {
            "g": (cb.seeded_root,),
            "m": (cb.seeded_average, cb.seeded_root),
            "c": (cb.conditional_root,),
        }
        if mode not in steps:
            raise ValueError(f"mode must be one of {list(steps)}, not {mode!r}")
        return cls.weave(cb.weight_decay, *steps[mode], cb.descend, **hypers)
