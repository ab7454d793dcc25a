"""Writing small data sets in the IDX format."""

import gzip
import struct

import torch


def idx_bytes(tensor):
    header = struct.pack(f">HBB{tensor.ndim}I", 0, 8, tensor.ndim, *tensor.shape)
    return header + bytes(tensor.flatten().tolist())


def write_digits(folder, n_train=96, n_test=32, zipped=False):
    """Four files of ten bright patterns with noise, which a net learns at once."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(0, 200, (10, 28, 28), generator=generator)
    for name, n in (("t10k", n_test), ("train", n_train)):
        labels = (torch.arange(n) % 10).to(torch.uint8)
        noise = torch.randint(0, 50, (n, 28, 28), generator=generator)
        images = (patterns[labels.long()] + noise).to(torch.uint8)
        for stem, tensor in ((f"{name}-images-idx3", images), (f"{name}-labels-idx1", labels)):
            content = idx_bytes(tensor)
            path = folder / f"{stem}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)
    return images, labels
