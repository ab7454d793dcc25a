"""The literature: optimizers as chains, one family a file."""

from weft.optimizers.adam import Adam, AdamW, QHAdam, RAdam, Ranger
from weft.optimizers.base import Algorithm, algorithms
from weft.optimizers.layerwise import LAMB, LARC, LARS
from weft.optimizers.lion import Lion
from weft.optimizers.rmsprop import RMSprop
from weft.optimizers.sgd import SGD

__all__ = [
    "LAMB",
    "LARC",
    "LARS",
    "SGD",
    "Adam",
    "AdamW",
    "Algorithm",
    "Lion",
    "QHAdam",
    "RAdam",
    "RMSprop",
    "Ranger",
    "algorithms",
]
