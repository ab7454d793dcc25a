"""Weight decay, in its forms.

A parameter whose state says `do_wd = False` is spared: so fastai's Learner keeps norms and biases
from decay.
"""

from weft.callback import mark
from weft.contract.hyperparameters import unused

__all__ = [
    "ascend",
    "decay_update",
    "l2",
    "proximal_decay",
    "weight_decay",
]


@mark(place="decay", role="decay")
def weight_decay(p, lr, weight_decay=0.01, do_wd=None):
    """Decoupled weight decay: shrink the parameter before the step.

        p <- p * (1 - lr * weight_decay)

    Loshchilov and Hutter, 2017, arXiv:1711.05101.
    """
    if spared(do_wd):
        return None
    return {"p": p * (1 - lr * weight_decay)}


@mark(place="decay", sparse="weight_decay", role="decay")
def l2(p, grad, weight_decay=0.0, do_wd=None):
    """The gradient of an L2 penalty, added to the gradient.

    g <- g + weight_decay * p
    """
    if unused(weight_decay) or spared(do_wd):
        return None
    return {"grad": grad + weight_decay * p}


@mark(place="update", role="decay")
def decay_update(p, update, weight_decay=0.0, do_wd=None):
    """Decay as part of the update, so that what scales the update scales it too.

    u <- u + weight_decay * p
    """
    if spared(do_wd):
        return None
    return {"update": update + weight_decay * p}


@mark(place="grad", sparse="entries")
def ascend(grad):
    """Maximise: turn the gradient around.

    g <- -g
    """
    return {"grad": -grad}


@mark(place="after", role="decay")
def proximal_decay(p, lr, weight_decay=0.0, do_wd=None):
    """Decay after the step, by a proximal operator.

        p <- p / (1 + lr * weight_decay)

    Xie et al., 2022, arXiv:2208.06677 (Adan).
    """
    if spared(do_wd):
        return None
    return {"p": p / (1 + lr * weight_decay)}


def spared(do_wd):
    """Whether a parameter's state keeps it from decay."""
    return do_wd is not None and not do_wd


def decay_for(weight_decay, do_wd):
    """The decay of a parameter: none where its state keeps it from decay."""
    return 0.0 if spared(do_wd) else weight_decay
