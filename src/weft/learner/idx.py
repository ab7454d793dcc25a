"""The IDX format of MNIST and its relatives, plain or gzipped."""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["DataError", "read_idx"]

UNSIGNED_BYTES = 0x08
TYPES = {
    0x08: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "shorts",
    0x0C: "ints",
    0x0D: "floats",
    0x0E: "doubles",
}


class DataError(ValueError):
    """A data file or folder that cannot be used; the message says which and why."""


def read_idx(path: str | os.PathLike, ndim: int | None = None) -> Tensor:
    """Read a file of unsigned bytes.

    Args:
        path: an IDX file; gzip is recognised by its content, not by its name.
        ndim: how many dimensions it must have: 3 for images, 1 for labels.

    Returns:
        A uint8 tensor.

    Raises:
        DataError: names the file and what is wrong with it: missing, not IDX, another type or
            number of dimensions, damaged gzip, too short or too long.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "labels")
    >>> _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> read_idx(file)
    tensor([7, 2, 1], dtype=torch.uint8)
    """
    path = Path(path)
    content = read_bytes(path)
    if len(content) < 4:
        raise DataError(f"{path}: {len(content)} bytes are too few for an IDX file")
    zeros, kind, found_ndim = struct.unpack(">HBB", content[:4])
    if zeros != 0 or kind not in TYPES:
        raise DataError(f"{path}: bad magic number {content[:4].hex()}, this is not an IDX file")
    if kind != UNSIGNED_BYTES:
        raise DataError(f"{path}: holds {TYPES[kind]}, expected unsigned bytes")
    if found_ndim == 0 or (ndim is not None and found_ndim != ndim):
        raise DataError(f"{path}: has {found_ndim} dimensions, expected {ndim or 'at least 1'}")
    start = 4 + 4 * found_ndim
    if len(content) < start:
        raise DataError(f"{path}: truncated within its header ({len(content)} of {start} bytes)")
    shape = struct.unpack(f">{found_ndim}I", content[4:start])
    expected, found = math.prod(shape), len(content) - start
    if found != expected:
        what = "truncated" if found < expected else "longer than it says"
        size = " x ".join(map(str, shape))
        raise DataError(f"{path}: {what}: {size} needs {expected} bytes, and there are {found}")
    if expected == 0:
        raise DataError(f"{path}: holds nothing (its shape is {shape})")
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)


def read_bytes(path: Path) -> bytes:
    """The file's content, unzipped."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if content[:2] != b"\x1f\x8b":
        if path.suffix == ".gz":
            raise DataError(f"{path}: is called .gz, but is not gzipped")
        return content
    try:
        return gzip.decompress(content)
    except EOFError as error:
        raise DataError(f"{path}: truncated: the gzip stream ends too early") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path}: corrupt gzip: {error}") from error
