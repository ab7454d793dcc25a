"""Dividing by uncorrected roots: RMSprop's directions, and quasi-hyperbolic Adam's."""

from weft.callback import mark

__all__ = ["centred_root", "centred_root_within", "quasi_hyperbolic_root", "root", "root_within"]


@mark(place="update")
def root(update, square_avg, eps=1e-8):
    """Divide by the root of the mean square: u <- u / (sqrt(v) + eps)."""
    return {"update": update / (square_avg.sqrt() + eps)}


@mark(place="update")
def centred_root(update, square_avg, grad_avg, eps=1e-8):
    """Divide by the standard deviation: u <- u / (sqrt(v - a^2) + eps).

    Graves, 2013, arXiv:1308.0850. v - a^2 can fall slightly below zero; like torch, this takes the
    root as it comes.
    """
    return {"update": update / ((square_avg - grad_avg * grad_avg).sqrt() + eps)}


@mark(place="update")
def root_within(update, square_avg, eps=1e-10):
    """Divide by the root, eps inside, as TensorFlow has it: u <- u / sqrt(v + eps)."""
    return {"update": update / (square_avg + eps).sqrt()}


@mark(place="update")
def centred_root_within(update, square_avg, grad_avg, eps=1e-10):
    """Divide by the standard deviation, eps inside the root: u <- u / sqrt(v - a^2 + eps)."""
    return {"update": update / (square_avg - grad_avg * grad_avg + eps).sqrt()}


@mark(place="update")
def quasi_hyperbolic_root(
    update, grad, exp_avg_sq, step, betas=(0.995, 0.999), nus=(0.7, 1.0), eps=1e-8
):
    """Mix the squared gradient into its corrected average before the root.

        u <- u / (sqrt((1 - nu2) * g^2 + nu2 * v / (1 - beta2^t)) + eps)

    Ma and Yarats, 2018, arXiv:1810.06801.
    """
    v = exp_avg_sq / (1 - betas[1] ** step)
    return {"update": update / (((1 - nus[1]) * grad * grad + nus[1] * v).sqrt() + eps)}
