"""A table: the breast cancer set that comes with scikit-learn, 569 rows of 30 columns."""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.learner.data import InMemoryLoader, in_memory, split
from weft.learner.extras import need
from weft.racing.tasks import lasting

__all__ = ["tabular"]

BATCH = 32


@lasting(200)
def tabular(seed: int) -> Any:
    """Benign or malignant, by a net of one hidden layer: 341 rows to train, 114 to choose by, 114.

    Raises:
        ImportError: where scikit-learn is missing; it says how to install it.
    """
    train, valid, test = _parts()
    model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2))
    dls = in_memory(train, valid, BATCH, seed)
    return model, (*dls, InMemoryLoader(test, 4 * BATCH)), F.cross_entropy


@functools.cache
def _parts() -> tuple[tuple[Tensor, ...], ...]:
    found = need("sklearn.datasets", "race").load_breast_cancer()
    x = torch.as_tensor(found.data, dtype=torch.float32)
    rest, test = split((x, torch.as_tensor(found.target).long()), 114)
    train, valid = split(rest, 114)
    mean, std = train[0].mean(0), train[0].std(0)  # what is held out has no say in it
    return tuple(((rows - mean) / std, y) for rows, y in (train, valid, test))
