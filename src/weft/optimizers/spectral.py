"""Steepest descent in the spectral norm, exactly; and what else needs no Newton-Schulz."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.callbacks.matrix import JORDAN
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = [
    "RACS",
    "SPEL",
    "SWAN",
    "PolarGrad",
    "Scion",
    "ScionLight",
    "SpectralDescent",
    "SpectralSphere",
]

dual_of_momentum = rename(cb.dual_scale, grad="momentum_buffer")
times_alpha = rename(cb.times, scale="alpha")
BALLS = {
    "auto": cb.spectral_or_rms,
    "spectral": cb.spectral_or_rms,
    "bias": cb.unit_rms,
    "sign": cb.sign_over_inputs,
    "col": cb.unit_columns,
    "row": cb.unit_rows,
}


class SpectralDescent(Algorithm):
    r"""Steepest descent in the spectral norm, with its length.

        G = U S V^T;   p <- p * (1 - lr * weight_decay) - lr * tr(S) * U V^T

    Args:
        params: matrices.
        lr: learning rate.
        weight_decay: decoupled.
        dual_norm: with False, leave tr(S) out: Muon without momentum, by an exact decomposition.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.SpectralDescent([p], lr=0.1)
    >>> opt.step(); p.diagonal().tolist() == [1 - 0.2] * 2 or torch.allclose(p, 0.8 * torch.eye(2))
    True

    Carlson, Cevher and Carin, 2015 (AISTATS).
    """

    paper = "Carlson, Cevher and Carin, 2015"
    chain_options = ("dual_norm",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.0,
        dual_norm: bool = True,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, dual_norm=True, **hypers: Any) -> Chain:
        return cls.weave(
            cb.weight_decay, cb.polar, dual_norm and cb.dual_scale, cb.descend, **hypers
        )


class PolarGrad(Algorithm):
    r"""The polar factor of the momentum, times its nuclear norm.

        b <- momentum * b + (1 - momentum) * g = O H;   p <- p * (1 - lr * weight_decay) - lr * tr(H) * O

    Args:
        params: matrices.
        lr: learning rate.
        momentum: of the average.
        weight_decay: decoupled.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.PolarGrad([p], lr=0.1, momentum=0.)
    >>> opt.step(); torch.allclose(p, 0.8 * torch.eye(2))
    True

    Lau, Long and Su, 2025, arXiv:2505.21799. optax' `muon(adaptive=True)` is this by Newton-Schulz,
    with Nesterov and a correction of the average.
    """

    paper = "Lau, Long and Su, 2025, arXiv:2505.21799"
    blocks = (cb.weight_decay, cb.average, cb.polar, dual_of_momentum, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class SPEL(Algorithm):
    r"""Spectral descent along the orthogonal matrices.

        b <- momentum * b + (1 - momentum) * g
        p <- polar(p * (1 - lr * weight_decay) - lr * polar(b)),   polar(U S V^T) = U V^T

    Args: those of `PolarGrad`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.ones(2, 2)
    >>> opt = weft.SPEL([p], lr=0.1)
    >>> opt.step(); torch.allclose(p @ p.T, torch.eye(2), atol=1e-5)
    True

    Manifold constrained steepest descent, 2026, arXiv:2601.21487.
    """

    paper = "Manifold constrained steepest descent, 2026, arXiv:2601.21487"
    blocks = (cb.weight_decay, cb.average, cb.polar, cb.descend, cb.stiefel)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class SpectralSphere(Algorithm):
    r"""Steepest descent on the matrices of spectral norm R = sqrt(rows / cols).

        b <- momentum * b + (1 - momentum) * g;   W <- R p / |p|_2;   Theta = u_1 v_1^T of W
        p <- W - lr * R * polar(b / |b| + c * Theta), with the c that makes the step tangent

    Args: those of `PolarGrad`, without decay.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.tensor([[0., 1.], [2., 0.]])
    >>> opt = weft.SpectralSphere([p], lr=0.)
    >>> opt.step(); torch.allclose(p, torch.eye(2))
    True

    Xie et al., 2026, arXiv:2601.08393. c by bisection on exact decompositions; the paper iterates.
    """

    paper = "Xie et al., 2026, arXiv:2601.08393"
    blocks = (cb.average, cb.spectral_sphere)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        momentum: float = 0.9,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class SWAN(Algorithm):
    r"""SGD without state, on a gradient with standardised rows and whitened.

        G <- each row with mean 0 and root mean square 1;   O = (G G^T)^(-1/2) G
        p <- p - lr * |G| / |O| * O

    Args:
        params: matrices.
        lr: learning rate.
        norm_eps: added to each row's root mean square.
        rescale: give O the norm of G.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = torch.tensor([[1., 0.], [1., 2.]])
    >>> opt = weft.SWAN([p], lr=0.1)
    >>> opt.step(); sorted(opt.state[p])
    []

    Ma et al., 2024, arXiv:2412.13148. The root is exact; the paper iterates.
    """

    paper = "Ma et al., 2024, arXiv:2412.13148"
    chain_options = ("rescale",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        norm_eps: float = 1e-8,
        rescale: bool = True,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, rescale=True, **hypers: Any) -> Chain:
        return cls.weave(
            cb.standardize_rows, cb.polar, rescale and cb.graft_norm, cb.descend, **hypers
        )


class RACS(Algorithm):
    r"""Row and column scaled SGD: one number a row and one a column.

        s = q G^2 / |q|^2,   q = G^2 s / |s|^2,   `iterations` times from q = 1;   both averaged by beta
        p <- p - lr * alpha * limit(G / sqrt(q) / sqrt(s))

    Args:
        params: matrices.
        lr: learning rate.
        beta: of the averages of s and q, which start at zero.
        alpha: a further factor of the rate.
        gamma: by how much the norm of the update may grow in a step.
        eps: added to s and q.
        iterations: of the fixed point.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 3)); p.grad = torch.ones(2, 3)
    >>> opt = weft.RACS([p])
    >>> opt.step(); [tuple(opt.state[p][k].shape) for k in ("row_sq", "column_sq")]
    [(2,), (3,)]

    Gong et al., 2025, arXiv:2502.07752. pytorch_optimizer does one pass, and starts q at one.
    """

    paper = "Gong et al., 2025, arXiv:2502.07752"
    blocks = (cb.row_column_scale, cb.limit_growth, times_alpha, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 0.02,
        beta: float = 0.9,
        alpha: float = 0.05,
        gamma: float = 1.01,
        eps: float = 1e-8,
        iterations: int = 5,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class Scion(Algorithm):
    r"""Steps within a norm ball chosen for each layer: the spectral one for matrices.

        d <- momentum * d + (1 - momentum) * g
        p <- (1 - lr) * p - lr * scale * lmo(d)            without (1 - lr): constrained=False

    lmo by `norm`, a group's own choice: "auto" and "spectral", sqrt(out / in) * NS(d), of a
    convolution over its kernel's size, and for vectors d / rms(d); "sign", sign(d) / in; "col" and
    "row", each column or row to norm one; "bias", d / rms(d).

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: of the average; 1 - alpha in the paper, whose authors call alpha momentum.
        norm: as above.
        scale: of the ball.
        constrained: shrink the parameter towards the ball.
        normalized: divide by the input's size.
        ns_coefficients, eps, ns_steps, ns_dtype: as in `Muon`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(4)); p.grad = torch.ones(4)
    >>> opt = weft.Scion([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([-0.1000, -0.1000, -0.1000, -0.1000])

    Pethick et al., 2025, arXiv:2502.07529. The authors also draw the weights anew, on the ball.
    """

    paper = "Pethick et al., 2025, arXiv:2502.07529"
    chain_options = ("norm", "constrained")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.9,
        norm: str = "auto",
        scale: float = 1.0,
        constrained: bool = True,
        normalized: bool = True,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, norm="auto", constrained=True, **hypers: Any) -> Chain:
        return cls.weave(
            cls.average, BALLS[norm], cb.times, constrained and cb.shrink, cb.descend, **hypers
        )

    average = staticmethod(cb.average)


class ScionLight(Scion):
    r"""Scion with one buffer that sums: d <- momentum * d + g. The oracle forgets its scale.

    Args: those of `Scion`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(4)); p.grad = torch.ones(4)
    >>> opt = weft.ScionLight([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([-0.1000, -0.1000, -0.1000, -0.1000])

    Pethick et al., 2025, arXiv:2502.07529. Public implementations keep d in the gradient's place,
    and so forbid zero_grad; here it is state.
    """

    average = staticmethod(cb.heavy_ball)
