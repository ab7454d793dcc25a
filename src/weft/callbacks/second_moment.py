"""Averages of the squared gradient, and dividing by their root."""

from weft.callback import mark, zeros

__all__ = ["ema_sq", "max_sq", "mean_grad", "mean_square", "precondition", "rectify"]


@mark(place="statistics")
def ema_sq(grad, betas=(0.9, 0.999), exp_avg_sq=zeros):
    """The exponential moving average of the squared gradient.

    v <- beta2 * v + (1 - beta2) * g^2
    """
    return {"exp_avg_sq": betas[1] * exp_avg_sq + (1 - betas[1]) * grad * grad}


@mark(place="statistics")
def max_sq(exp_avg_sq, max_exp_avg_sq=zeros):
    """The largest second moment so far, before its correction.

        vmax <- max(vmax, v)

    Reddi et al., 2018 (AMSGrad). optax takes the maximum of the corrected moment instead.
    """
    return {"max_exp_avg_sq": max_exp_avg_sq.maximum(exp_avg_sq)}


@mark(place="update", role=("precondition", "correction"))
def precondition(update, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-8):
    """Divide by the root of the corrected second moment.

        u <- u / (sqrt(v / (1 - beta2^t)) + eps)

    eps is added outside the root, as in the paper's algorithm and torch; Keras folds the
    correction into the rate, so that its eps weighs more in early steps.
    """
    return {"update": update / (exp_avg_sq.sqrt() / (1 - betas[1] ** step) ** 0.5 + eps)}


@mark(place="update", role=("precondition", "correction"))
def rectify(update, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-8):
    """Divide by the root of the second moment once its variance is tractable, rectified.

        rho = rho_inf - 2 t beta2^t / (1 - beta2^t),   rho_inf = 2 / (1 - beta2) - 1
        u <- u * r * sqrt(1 - beta2^t) / (sqrt(v) + eps)   where rho > 5, else u

    Liu et al., 2019, arXiv:1908.03265. Thresholds of 4 and 5 are both in use; torch's is 5.
    """
    beta2 = betas[1]
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / (1 - beta2**step)
    if rho <= 5:
        return {"update": update}
    r = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
    return {"update": update * (r * (1 - beta2**step) ** 0.5) / (exp_avg_sq.sqrt() + eps)}


@mark(place="statistics")
def mean_square(grad, alpha=0.99, square_avg=zeros):
    """RMSprop's average of the squared gradient.

    v <- alpha * v + (1 - alpha) * g^2
    """
    return {"square_avg": alpha * square_avg + (1 - alpha) * grad * grad}


@mark(place="statistics")
def mean_grad(grad, alpha=0.99, grad_avg=zeros):
    """The average of the gradient, for a centred second moment.

    a <- alpha * a + (1 - alpha) * g
    """
    return {"grad_avg": grad_avg.lerp(grad, 1 - alpha)}
