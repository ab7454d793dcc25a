"""The shapes of parameters that are timed."""

__all__ = ["SHAPES", "gpt2", "many", "resnet", "some_shapes", "tiny"]

Shapes = list[tuple[int, ...]]


def tiny() -> Shapes:
    """16 tensors, 159k parameters: a few small layers.

    >>> import math
    >>> len(tiny()), sum(map(math.prod, tiny()))
    (16, 159040)
    """
    return [(50, 784), (50,), (10, 50), (10,)] * 4


def many() -> Shapes:
    """1,000 tensors of 64."""
    return [(64,)] * 1000


def resnet() -> Shapes:
    """149 tensors, 23M parameters: a ResNet-50 without the convolutions of its shortcuts.

    >>> import math
    >>> len(resnet()), round(sum(map(math.prod, resnet())) / 1e6)
    (149, 23)
    """
    shapes: Shapes = [(64, 3, 7, 7), (64,), (64,)]
    wide = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for _ in range(blocks):
            shapes += [(width, wide, 1, 1), (width,), (width,), (width, width, 3, 3), (width,)]
            shapes += [(width,), (4 * width, width, 1, 1), (4 * width,), (4 * width,)]
            wide = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def gpt2() -> Shapes:
    """The 148 tensors of GPT-2 small.

    >>> import math
    >>> len(gpt2()), round(sum(map(math.prod, gpt2())) / 1e6)
    (148, 124)
    """
    d = 768
    shapes: Shapes = [(50257, d), (1024, d)]
    for _ in range(12):
        shapes += [(d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,), (d,), (d,)]
        shapes += [(d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [*shapes, (d,), (d,)]


def some_shapes(parameters: int, distinct: int) -> Shapes:
    """So many small parameters, of so many shapes.

    >>> some_shapes(4, 2)
    [(8, 3), (8, 4), (8, 3), (8, 4)]
    """
    return [(8, 3 + i % distinct) for i in range(parameters)]


SHAPES = {"tiny": tiny, "resnet": resnet, "gpt2": gpt2, "many": many}
