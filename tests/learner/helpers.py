"""What several of these tests need."""

from functools import partial

import torch

import weft

# what keeps state in different places: torch's own, a buffer, groups and slow weights
STATEFUL = {
    "AdamW": weft.AdamW,
    "torch AdamW": torch.optim.AdamW,
    "SGD": partial(weft.SGD, momentum=0.9),
    "RAdam with Lookahead": lambda params, lr: weft.create("radam+lookahead(k=4)", params, lr=lr),
}


def halves(model):
    """A splitter: the first layer, and the rest."""
    return [list(model[0].parameters()), list(model[1:].parameters())]


def weights(learn):
    return {name: value.clone() for name, value in learn.model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
