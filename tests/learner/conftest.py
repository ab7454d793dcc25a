import pytest
import torch
from torch import nn
from torch.nn import functional as F

import weft
from weft.learner import Learner, accuracy, in_memory


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def blobs():
    """Three classes of points in the plane, 96 to train and 48 to validate."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(144) % 3
    centres = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    x = centres[y] + 0.7 * torch.randn(144, 2, generator=generator)
    return (x[:96], y[:96]), (x[96:], y[96:])


@pytest.fixture
def make(blobs):
    """Make a learner on the blobs: the same initial weights each time, 6 batches to an epoch."""

    def make(opt_func=None, lr=0.05, model=None, **kwargs):
        torch.manual_seed(0)
        if model is None:
            model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
        kwargs.setdefault("metrics", [accuracy])
        kwargs.setdefault("progress", False)
        dls = in_memory(*blobs, batch_size=16)
        opt_func = weft.AdamW if opt_func is None else opt_func
        return Learner(dls, model, F.cross_entropy, opt_func, lr, **kwargs)

    return make
