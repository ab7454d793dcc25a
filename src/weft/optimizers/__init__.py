"""The literature: optimizers as chains, one family a file."""

from weft.optimizers.adagrad import Adadelta, Adagrad
from weft.optimizers.adam import Adam, AdamW, QHAdam, RAdam, Ranger
from weft.optimizers.base import Algorithm, algorithms
from weft.optimizers.classic import ASGD, Rprop
from weft.optimizers.factored import (
    CAME,
    SM3,
    Adafactor,
    AdamMini,
)
from weft.optimizers.layerwise import LAMB, LARC, LARS
from weft.optimizers.lion import Lion
from weft.optimizers.nadam import Adamax, NAdam, NAdamW
from weft.optimizers.rmsprop import RMSprop
from weft.optimizers.sgd import SGD

__all__ = [
    "ASGD",
    "CAME",
    "LAMB",
    "LARC",
    "LARS",
    "SGD",
    "SM3",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamMini",
    "AdamW",
    "Adamax",
    "Algorithm",
    "Lion",
    "NAdam",
    "NAdamW",
    "QHAdam",
    "RAdam",
    "RMSprop",
    "Ranger",
    "Rprop",
    "algorithms",
]
