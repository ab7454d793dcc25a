"""What several of these tests need."""

import torch


def halves(model):
    """A splitter: the first layer, and the rest."""
    return [list(model[0].parameters()), list(model[1:].parameters())]


def weights(learn):
    return {name: value.clone() for name, value in learn.model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
