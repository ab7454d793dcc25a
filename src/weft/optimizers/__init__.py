"""The literature: optimizers as chains, one family a file."""

from weft.optimizers.accelerated import SRMM, AccSGD, OptimisticAdam, OptimisticGD
from weft.optimizers.adagrad import Adadelta, Adagrad
from weft.optimizers.adam import Adam, AdamW, QHAdam, RAdam, Ranger
from weft.optimizers.adapted import (
    DAdaptAdaGrad,
    DAdaptAdam,
    DAdaptAdan,
    DAdaptLion,
    DAdaptSGD,
)
from weft.optimizers.asynchronous import ADOPT, ACProp, Adai, AvaGrad, LaProp
from weft.optimizers.base import Algorithm, algorithms
from weft.optimizers.bcos import BCOS
from weft.optimizers.classic import ASGD, Rprop
from weft.optimizers.corrected import AdamC, AdamD, AdamG, AdaNorm
from weft.optimizers.curvature import AdaHessian, Sophia
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
from weft.optimizers.kl import KLSOAP, KLShampoo
from weft.optimizers.layerwise import LAMB, LARC, LARS
from weft.optimizers.lion import Lion
from weft.optimizers.lowrank import APOLLO, APOLLOMini, Conda, Dion, Fira, GaLoreAdamW
from weft.optimizers.masked import MARS, CautiousAdamW, GrokfastAdamW
from weft.optimizers.mixtures import Adan, AdaPNM, AdEMAMix, EXAdam, SimplifiedAdEMAMix
from weft.optimizers.momenta import PID, PNM, QHM, SGDW, AggMo
from weft.optimizers.muon import AdaMuon, Muon, MuonClip, MuonPolarExpress, NorMuon
from weft.optimizers.muon_kin import NAMO, AdaGO, MarsMuon, MuonH, MuonLaProp
from weft.optimizers.nadam import Adamax, NAdam, NAdamW
from weft.optimizers.online import COCOB, FTRL, KATE, MSVAG, VSGD, AdaSmooth
from weft.optimizers.parameter_free import (
    AdaGradNorm,
    AdGD,
    DoG,
    DoWG,
    LDoG,
    NormalizedGD,
    Prodigy,
)
from weft.optimizers.polyak import (
    AliG,
    GrokAdamW,
    MoMo,
    MoMoAdam,
    PolyakSGD,
)
from weft.optimizers.psgd import PSGDKron, SPlus
from weft.optimizers.rates import AdaBound, AdamAtan2, AdaMod, DiffGrad, DualAdam, PAdam, SAdam
from weft.optimizers.rmsprop import RMSprop
from weft.optimizers.rmsprop_tf import RMSpropTF
from weft.optimizers.scaled import LAMBC, AdamH, Gravity, SGDSaI
from weft.optimizers.schedulefree import ScheduleFreeAdamW, ScheduleFreeRAdam, ScheduleFreeSGD
from weft.optimizers.sgd import SGD
from weft.optimizers.shampoo import DistributedShampoo, Shampoo
from weft.optimizers.signs import FOCUS, Ano, CautiousLion, Grams, SignSGD, Signum, Tiger
from weft.optimizers.soap import SOAP, SOLP, HeavySOAP, SOAPAdEMAMix, SOAPNAdam
from weft.optimizers.spectral import (
    RACS,
    SPEL,
    SWAN,
    PolarGrad,
    Scion,
    ScionLight,
    SpectralDescent,
    SpectralSphere,
)
from weft.optimizers.sphere import (
    SGDP,
    AdamP,
    Fromage,
    Nero,
)
from weft.optimizers.stable import AdaGC, AdamS, NovoGrad, StableAdamW, StableSPAM
from weft.optimizers.switching import SWATS
from weft.optimizers.variance import AdaBelief, Aida, FAdam, Yogi

__all__ = [
    "ADOPT",
    "APOLLO",
    "ASGD",
    "BCOS",
    "CAME",
    "COCOB",
    "FOCUS",
    "FTRL",
    "KATE",
    "KLSOAP",
    "LAMB",
    "LAMBC",
    "LARC",
    "LARS",
    "MADGRAD",
    "MARS",
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
    "SOAP",
    "SOLP",
    "SPEL",
    "SRMM",
    "SWAN",
    "SWATS",
    "VSGD",
    "ACProp",
    "APOLLOMini",
    "AccSGD",
    "AdEMAMix",
    "AdGD",
    "AdaBelief",
    "AdaBound",
    "AdaGC",
    "AdaGO",
    "AdaGradNorm",
    "AdaHessian",
    "AdaMod",
    "AdaMuon",
    "AdaNorm",
    "AdaPNM",
    "AdaSmooth",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adai",
    "Adam",
    "AdamAtan2",
    "AdamC",
    "AdamD",
    "AdamG",
    "AdamH",
    "AdamMini",
    "AdamP",
    "AdamS",
    "AdamW",
    "Adamax",
    "Adan",
    "AggMo",
    "Aida",
    "Algorithm",
    "AliG",
    "Ano",
    "AvaGrad",
    "CautiousAdamW",
    "CautiousLion",
    "Conda",
    "DAdaptAdaGrad",
    "DAdaptAdam",
    "DAdaptAdan",
    "DAdaptLion",
    "DAdaptSGD",
    "DiffGrad",
    "Dion",
    "Dion2",
    "DistributedShampoo",
    "DoG",
    "DoWG",
    "DualAdam",
    "EXAdam",
    "FAdam",
    "Fira",
    "Fromage",
    "GaLoreAdamW",
    "Grams",
    "Gravity",
    "GrokAdamW",
    "GrokfastAdamW",
    "HeavySOAP",
    "KLShampoo",
    "LDoG",
    "LaProp",
    "Lion",
    "MarsMuon",
    "MoMo",
    "MoMoAdam",
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
    "NormalizedGD",
    "NovoGrad",
    "OptimisticAdam",
    "OptimisticGD",
    "PAdam",
    "PSGDKron",
    "PolarGrad",
    "PolyakSGD",
    "Prodigy",
    "QHAdam",
    "RAdam",
    "RMSprop",
    "RMSpropTF",
    "Ranger",
    "Rprop",
    "SAdam",
    "SGDSaI",
    "SOAPAdEMAMix",
    "SOAPNAdam",
    "SPlus",
    "ScheduleFreeAdamW",
    "ScheduleFreeRAdam",
    "ScheduleFreeSGD",
    "Scion",
    "ScionLight",
    "Shampoo",
    "SignSGD",
    "Signum",
    "SimplifiedAdEMAMix",
    "Sophia",
    "SpectralDescent",
    "SpectralSphere",
    "StableAdamW",
    "StableSPAM",
    "Tiger",
    "Yogi",
    "algorithms",
]
