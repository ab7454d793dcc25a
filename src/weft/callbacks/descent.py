"""Applying the update."""

from weft.callback import mark

__all__ = ["descend"]


@mark(place="descend")
def descend(p, update, lr):
    """Subtract the update, times the learning rate.

        p <- p - lr * update

    Args:
        p: the parameter.
        update: the direction.
        lr: learning rate.
    """
    return {"p": p - lr * update}
