"""Weight decay, in its forms."""

from weft.callback import mark

__all__ = ["ascend", "decay_update", "l2", "proximal_decay", "weight_decay"]


@mark(place="decay")
def weight_decay(p, lr, weight_decay=0.01):
    """Decoupled weight decay: shrink the parameter before the step.

        p <- p * (1 - lr * weight_decay)

    Loshchilov and Hutter, 2017, arXiv:1711.05101.
    """
    return {"p": p * (1 - lr * weight_decay)}


@mark(place="decay")
def l2(p, grad, weight_decay=0.0):
    """The gradient of an L2 penalty, added to the gradient.

    g <- g + weight_decay * p
    """
    if weight_decay != 0:
        return {"grad": grad + weight_decay * p}
    return None


@mark(place="update")
def decay_update(p, update, weight_decay=0.0):
    """Decay as part of the update, so that what scales the update scales it too.

    u <- u + weight_decay * p
    """
    return {"update": update + weight_decay * p}


@mark(place="grad")
def ascend(grad):
    """Maximise: turn the gradient around.

    g <- -g
    """
    return {"grad": -grad}


@mark(place="after")
def proximal_decay(p, lr, weight_decay=0.0):
    """Decay after the step, by a proximal operator.

        p <- p / (1 + lr * weight_decay)

    Xie et al., 2022, arXiv:2208.06677 (Adan).
    """
    return {"p": p / (1 + lr * weight_decay)}
