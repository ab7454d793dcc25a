"""Applying the update."""

from weft.callback import mark

__all__ = ["count", "descend", "subtract"]


@mark(place="descend", sparse="entries", role=("descend", "rate"))
def descend(p, update, lr):
    """Subtract the update, times the learning rate.

        p <- p - lr * update

    Args:
        p: the parameter.
        update: the direction.
        lr: learning rate.
    """
    return {"p": p - lr * update}


@mark(place="descend", sparse="entries", role="descend")
def subtract(p, update):
    """Subtract an update that has its rate in it: p <- p - u."""
    return {"p": p - update}


@mark(place="statistics")
def count(step):
    """Keep the count of steps in the state, where a checkpoint's format has it and no block reads it."""
