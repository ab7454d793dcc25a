"""Dividing by what has been summed up, or by the largest: Adagrad's kin and Adamax."""

from weft.callback import mark, zeros

__all__ = ["accumulate", "adadelta", "infinity_norm", "inverse_time"]


@mark(place="statistics", sparse="entries")
def accumulate(grad, step, initial_accumulator_value=0.0, sum=zeros):
    """The sum of the squared gradients.

        G <- G + g^2

    Duchi et al., 2011. TensorFlow, Keras and optax start it at 0.1, torch at 0.
    """
    return {"sum": (initial_accumulator_value if step == 1 else sum) + grad * grad}


@mark(place="update", sparse="entries")
def inverse_time(update, step, lr_decay=0.0):
    """Let the rate fall with the inverse of time: u <- u / (1 + (t - 1) * lr_decay)."""
    return {"update": update / (1 + (step - 1) * lr_decay)}


@mark(place="update", role="precondition")
def adadelta(update, square_avg, rho=0.9, eps=1e-6, acc_delta=zeros):
    """Give the update the units of the parameter: the root mean square of past updates.

        u <- u * sqrt(d + eps) / sqrt(v + eps);   d <- rho * d + (1 - rho) * u^2

    Zeiler, 2012, arXiv:1212.5701.
    """
    update = update * (acc_delta + eps).sqrt() / (square_avg + eps).sqrt()
    return {"update": update, "acc_delta": rho * acc_delta + (1 - rho) * update * update}


@mark(place="update", role=("precondition", "correction"))
def infinity_norm(update, grad, betas=(0.9, 0.999), eps=1e-8, exp_inf=zeros):
    """Divide by a decaying maximum of the gradient's size.

        n <- max(beta2 * n, |g| + eps);   u <- u / n

    Kingma and Ba, 2014, arXiv:1412.6980, section 7.1. Keras adds eps to the denominator instead.
    """
    exp_inf = (betas[1] * exp_inf).maximum(grad.abs() + eps)
    return {"update": update / exp_inf, "exp_inf": exp_inf}
