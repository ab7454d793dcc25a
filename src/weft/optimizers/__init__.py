"""The literature: optimizers as chains, one family a file."""

from weft.optimizers.adagrad import Adadelta, Adagrad
from weft.optimizers.adam import Adam, AdamW, QHAdam, RAdam, Ranger
from weft.optimizers.base import Algorithm, algorithms
from weft.optimizers.classic import ASGD, Rprop
from weft.optimizers.dion2 import Dion2, NorDion2
from weft.optimizers.dual import (
    MADGRAD,
)
from weft.optimizers.factored import (
    CAME,
    SM3,
    Adafactor,
    AdamMini,
)
from weft.optimizers.layerwise import LAMB, LARC, LARS
from weft.optimizers.lion import Lion
from weft.optimizers.lowrank import APOLLO, APOLLOMini, Conda, Dion, Fira, GaLoreAdamW
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
from weft.optimizers.sphere import (
    SGDP,
    AdamP,
    Fromage,
    Nero,
)
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
    "APOLLO",
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
    "MADGRAD",
    "MSVAG",
    "NAMO",
    "PID",
    "PNM",
    "QHM",
    "RACS",
    "SGD",
    "SGDP",
    "SGDW",
    "SM3",
    "SPEL",
    "SRMM",
    "SWAN",
    "VSGD",
    "APOLLOMini",
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
    "AdamP",
    "AdamS",
    "AdamW",
    "Adamax",
    "AggMo",
    "Algorithm",
    "Ano",
    "CautiousLion",
    "Conda",
    "Dion",
    "Dion2",
    "Fira",
    "Fromage",
    "GaLoreAdamW",
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
    "Nero",
    "NorDion2",
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
