"""Steps over an estimated diagonal of the Hessian, which `weft.Hutchinson` keeps in `hessian`."""

from weft.callback import mark, zeros

__all__ = ["clip_by_curvature", "ema_curvature", "ema_curvature_sq", "precondition_curvature"]


@mark(place="statistics")
def ema_curvature(hessian=zeros, betas=(0.96, 0.99), hutchinson_fresh=True, exp_hessian=zeros):
    """The average of the Hessian's diagonal, moved by each new estimate.

    h <- beta2 * h + (1 - beta2) * hessian
    """
    if not hutchinson_fresh:
        return None
    return {"exp_hessian": exp_hessian.lerp(hessian, 1 - betas[1])}


@mark(place="statistics")
def ema_curvature_sq(hessian=zeros, betas=(0.9, 0.999), exp_hessian_sq=zeros):
    """The average of the squared diagonal of the Hessian, whose size is that of a whole kernel.

        d = |hessian|, its mean over the kernel where there is one;   v <- beta2 * v + (1 - beta2) * d^2

    Yao et al., 2020, arXiv:2006.00719.
    """
    size = hessian.abs()
    if size.ndim == 4:
        size = size.mean(dim=(2, 3), keepdim=True)
    return {"exp_hessian_sq": betas[1] * exp_hessian_sq + (1 - betas[1]) * size * size}


@mark(place="update", role=("precondition", "correction"), bounds={"hessian_power": ">= 0"})
def precondition_curvature(
    update, exp_hessian_sq, step, betas=(0.9, 0.999), eps=1e-4, hessian_power=1.0
):
    """Divide by a power of the corrected size of the Hessian's diagonal.

        u <- u / ((v / (1 - beta2^t))^(hessian_power / 2) + eps)

    Yao et al., 2020, arXiv:2006.00719.
    """
    v = exp_hessian_sq / (1 - betas[1] ** step)
    return {"update": update / (v ** (hessian_power / 2) + eps)}


@mark(place="update", bounds={"gamma": ">= 0"})
def clip_by_curvature(update, exp_hessian, gamma=0.01, eps=1e-12):
    """A Newton step for each entry, clipped: where the curvature is small or negative, a sign.

        u <- clip(u / max(gamma * h, eps), -1, 1)

    Liu et al., 2023, arXiv:2305.14342.
    """
    return {"update": (update / (gamma * exp_hessian).clamp(min=eps)).clamp(min=-1.0, max=1.0)}
