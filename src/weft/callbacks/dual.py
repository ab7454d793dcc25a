"""Dual averaging: parameters as a function of where they began and of a weighted sum of gradients."""

import math

from weft.callback import copy_of_param, mark, zeros

__all__ = ["cube_root_sums", "primal_average"]


@mark(place="statistics")
def cube_root_sums(grad, lr, step, eps=1e-6, grad_sum=zeros, grad_sum_sq=zeros):
    """A weighted sum of gradients, over the cube root of that of their squares.

        w = (lr + eps) * sqrt(t);   s <- s + w * g;   v <- v + w * g^2;   u <- s / (cbrt(v) + eps)

    Defazio and Jelassi, 2021, arXiv:2101.11075. The rates of the past stay in the sums.
    """
    weight = (lr + eps) * math.sqrt(step)
    grad_sum, grad_sum_sq = grad_sum + weight * grad, grad_sum_sq + weight * grad * grad
    update = grad_sum / (grad_sum_sq ** (1 / 3) + eps)
    return {"grad_sum": grad_sum, "grad_sum_sq": grad_sum_sq, "update": update}


@mark(place="descend")
def primal_average(p, update, momentum=0.9, x0=copy_of_param):
    """Average towards the point that the whole sum of updates leads to from the start.

    p <- momentum * p + (1 - momentum) * (p_0 - u)
    """
    return {"p": p + (1 - momentum) * (x0 - p - update)}
