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
from weft.optimizers.muon import AdaMuon, Muon, MuonClip, MuonPolarExpress, NorMuon
from weft.optimizers.muon_kin import NAMO, AdaGO, MarsMuon, MuonH, MuonLaProp
from weft.optimizers.nadam import Adamax, NAdam, NAdamW
from weft.optimizers.rmsprop import RMSprop
from weft.optimizers.sgd import SGD
from weft.optimizers.spectral import RACS, SPEL, SWAN, PolarGrad, Scion, ScionLight, SpectralDescent

__all__ = [
    "ASGD",
    "CAME",
    "LAMB",
    "LARC",
    "LARS",
    "NAMO",
    "RACS",
    "SGD",
    "SM3",
    "SPEL",
    "SWAN",
    "AdaGO",
    "AdaMuon",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamMini",
    "AdamW",
    "Adamax",
    "Algorithm",
    "Lion",
    "MarsMuon",
    "Muon",
    "MuonClip",
    "MuonH",
    "MuonLaProp",
    "MuonPolarExpress",
    "NAdam",
    "NAdamW",
    "NorMuon",
    "PolarGrad",
    "QHAdam",
    "RAdam",
    "RMSprop",
    "Ranger",
    "Rprop",
    "Scion",
    "ScionLight",
    "SpectralDescent",
    "algorithms",
]
