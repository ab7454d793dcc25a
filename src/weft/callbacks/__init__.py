"""The vocabulary: the blocks that optimizers are made of, one family a file."""

from weft.callbacks.descent import descend

__all__ = ["descend"]
