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
from weft.optimizers.momenta import (
    PID,
    PNM,
    QHM,
    SGDW,
    SRMM,
    AccSGD,
    AggMo,
    OptimisticAdam,
    OptimisticGD,
)
from weft.optimizers.muon import AdaMuon, Muon, MuonClip, MuonPolarExpress, NorMuon
from weft.optimizers.muon_kin import NAMO, AdaGO, MarsMuon, MuonH, MuonLaProp
from weft.optimizers.nadam import Adamax, NAdam, NAdamW
from weft.optimizers.online import COCOB, FTRL, KATE, MSVAG, VSGD, AdaSmooth
from weft.optimizers.rmsprop import RMSprop
from weft.optimizers.sgd import SGD
from weft.optimizers.signs import FOCUS, Ano, CautiousLion, Grams, SignSGD, Signum, Tiger
from weft.optimizers.spectral import RACS, SPEL, SWAN, PolarGrad, Scion, ScionLight, SpectralDescent
from weft.optimizers.stable import (
    LAMBC,
    AdaGC,
    AdamH,
    AdamS,
    Gravity,
    NovoGrad,
    SGDSaI,
    StableAdamW,
    StableSPAM,
)

__all__ = [
    "ASGD",
    "CAME",
    "COCOB",
    "FOCUS",
    "FTRL",
    "KATE",
    "LAMB",
    "LAMBC",
    "LARC",
    "LARS",
    "MSVAG",
    "NAMO",
    "PID",
    "PNM",
    "QHM",
    "RACS",
    "SGD",
    "SGDW",
    "SM3",
    "SPEL",
    "SRMM",
    "SWAN",
    "VSGD",
    "AccSGD",
    "AdaGC",
    "AdaGO",
    "AdaMuon",
    "AdaSmooth",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamH",
    "AdamMini",
    "AdamS",
    "AdamW",
    "Adamax",
    "AggMo",
    "Algorithm",
    "Ano",
    "CautiousLion",
    "Grams",
    "Gravity",
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
    "NovoGrad",
    "OptimisticAdam",
    "OptimisticGD",
    "PolarGrad",
    "QHAdam",
    "RAdam",
    "RMSprop",
    "Ranger",
    "Rprop",
    "SGDSaI",
    "Scion",
    "ScionLight",
    "SignSGD",
    "Signum",
    "SpectralDescent",
    "StableAdamW",
    "StableSPAM",
    "Tiger",
    "algorithms",
]
