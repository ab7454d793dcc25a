"""Training: the Learner, its callbacks, schedules and data."""

from weft.learner.callbacks import GradientAccumulation, GradientClip, StopFit
from weft.learner.data import (
    DataLoaders,
    Digits,
    InMemoryLoader,
    embedded_digits,
    in_memory,
    load_digits,
    read_idx_folder,
    split,
)
from weft.learner.finder import LrFind
from weft.learner.idx import DataError, read_idx
from weft.learner.learner import Learner, NonFiniteLoss
from weft.learner.loggers import CallLogger, CSVLogger, TensorBoardLogger, flat_stats
from weft.learner.metrics import accuracy
from weft.learner.recorder import BatchRecord, Recorder

__all__ = [
    "BatchRecord",
    "CSVLogger",
    "CallLogger",
    "DataError",
    "DataLoaders",
    "Digits",
    "GradientAccumulation",
    "GradientClip",
    "InMemoryLoader",
    "Learner",
    "LrFind",
    "NonFiniteLoss",
    "Recorder",
    "StopFit",
    "TensorBoardLogger",
    "accuracy",
    "embedded_digits",
    "flat_stats",
    "in_memory",
    "load_digits",
    "read_idx",
    "read_idx_folder",
    "split",
]
