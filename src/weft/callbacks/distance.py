"""Rates from distances: how far the parameters are from where they began (DoG)."""

from typing import Any

from weft.callback import mark, over_params, shared, start
from weft.callbacks.units import norm, scalar_zero, sum_sq

__all__ = [
    "distance_over_gradients",
    "distance_over_weighted_gradients",
    "layer_distance_over_gradients",
]


def distance_sq(p, x0):
    """The squared distance of a parameter from where it began."""
    return sum_sq(p - x0)


def start_sq(x0):
    """The squared norm of a parameter where it began."""
    return sum_sq(x0)


def update_sq(update):
    """The squared norm of an update."""
    return sum_sq(update)


distance_sq_norm: Any = over_params("distance_sq_norm", distance_sq)
start_sq_norm: Any = over_params("start_sq_norm", start_sq)
update_sq_norm: Any = over_params("update_sq_norm", update_sq)


@mark(place="update", bounds={"reps_rel": ">= 0"})
def distance_over_gradients(
    update, x0=start, reps_rel=1e-6, eps=1e-8, distance=shared(0.0), sq_sum=shared(0.0),
    distance_sq_norm=distance_sq_norm, start_sq_norm=start_sq_norm, update_sq_norm=update_sq_norm,
):  # fmt: skip
    """The largest distance from the start, over the root of all squared gradients: DoG.

        r <- max(r, |p - p_0|, reps_rel * (1 + |p_0|));   G <- G + |u|^2;   u <- u * r / sqrt(G + eps)

    Ivgi, Hinder and Carmon, 2023, arXiv:2302.12022. One r and one G for all parameters.
    """
    least = reps_rel * (1 + start_sq_norm.sqrt())
    distance = distance_sq_norm.sqrt().maximum(least).clamp(min=distance)
    sq_sum = sq_sum + update_sq_norm
    scaled = update * (distance / (sq_sum + eps).sqrt())
    return {"distance": distance, "sq_sum": sq_sum, "update": scaled}


@mark(place="update", bounds={"reps_rel": ">= 0"})
def layer_distance_over_gradients(
    p, update, x0=start, reps_rel=1e-6, eps=1e-8, distance=scalar_zero, sq_sum=scalar_zero
):
    """DoG with a distance and a sum for each tensor.

        r <- max(r, |p - p_0|, reps_rel * (1 + |p_0|));   G <- G + |u|^2;   u <- u * r / sqrt(G + eps)

    Ivgi, Hinder and Carmon, 2023, arXiv:2302.12022 (L-DoG).
    """
    distance = distance.maximum(norm(p - x0)).maximum(reps_rel * (1 + norm(x0)))
    sq_sum = sq_sum + sum_sq(update)
    scaled = update * (distance / (sq_sum + eps).sqrt())
    return {"distance": distance, "sq_sum": sq_sum, "update": scaled}


@mark(place="update", bounds={"r0": ">= 0"})
def distance_over_weighted_gradients(
    update, x0=start, r0=1e-4, eps=1e-4, distance=shared(0.0), sq_sum=shared(0.0),
    distance_sq_norm=distance_sq_norm, update_sq_norm=update_sq_norm,
):  # fmt: skip
    """DoG with gradients weighted by the distance: DoWG.

        r <- max(r, |p - p_0|, r0);   G <- G + r^2 |u|^2;   u <- u * r^2 / (sqrt(G) + eps)

    Khaled, Mishchenko and Jin, 2023, arXiv:2305.16284.
    """
    distance = distance_sq_norm.sqrt().clamp(min=max(distance, r0))
    sq_sum = sq_sum + distance * distance * update_sq_norm
    scaled = update * (distance * distance / (sq_sum.sqrt() + eps))
    return {"distance": distance, "sq_sum": sq_sum, "update": scaled}
