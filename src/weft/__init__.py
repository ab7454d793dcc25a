"""Write an optimizer step as small callbacks; weft weaves them into one kernel."""

from typing import TYPE_CHECKING, Any

from weft import callback, callbacks
from weft.callback import copy_of_param, mark, ones, over_params, rename, shared, state, zeros
from weft.chain import Chain, chain
from weft.checkpoint import load_checkpoint, save_checkpoint
from weft.errors import ChainError, StateError, StepError, WeftWarning
from weft.optimizer import Optimizer
from weft.optimizers import (
    ASGD,
    CAME,
    LAMB,
    LARC,
    LARS,
    NAMO,
    RACS,
    SGD,
    SM3,
    SPEL,
    SWAN,
    Adadelta,
    Adafactor,
    AdaGO,
    Adagrad,
    Adam,
    Adamax,
    AdamMini,
    AdaMuon,
    AdamW,
    Lion,
    MarsMuon,
    Muon,
    MuonClip,
    MuonH,
    MuonLaProp,
    MuonPolarExpress,
    NAdam,
    NAdamW,
    NorMuon,
    PolarGrad,
    QHAdam,
    RAdam,
    Ranger,
    RMSprop,
    Rprop,
    Scion,
    ScionLight,
    SpectralDescent,
)
from weft.policies import param_groups, route
from weft.registry import create, list_optimizers
from weft.wrapper import Wrapper
from weft.wrappers import ASAM, LAWA, SAM, SWA, Lookahead, OuterNesterov, WeightEMA

if TYPE_CHECKING:
    from weft.learner import Learner

__all__ = [
    "ASAM",
    "ASGD",
    "AdaGO",
    "AdaMuon",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamMini",
    "AdamW",
    "Adamax",
    "CAME",
    "Chain",
    "ChainError",
    "LAMB",
    "LARC",
    "LARS",
    "LAWA",
    "Learner",
    "Lion",
    "Lookahead",
    "MarsMuon",
    "Muon",
    "MuonClip",
    "MuonH",
    "MuonLaProp",
    "MuonPolarExpress",
    "NAMO",
    "NAdam",
    "NAdamW",
    "NorMuon",
    "Optimizer",
    "OuterNesterov",
    "PolarGrad",
    "QHAdam",
    "RACS",
    "RAdam",
    "RMSprop",
    "Ranger",
    "Rprop",
    "SAM",
    "SGD",
    "SM3",
    "SPEL",
    "SWA",
    "SWAN",
    "Scion",
    "ScionLight",
    "SpectralDescent",
    "StateError",
    "StepError",
    "WeftWarning",
    "WeightEMA",
    "Wrapper",
    "callback",
    "callbacks",
    "chain",
    "copy_of_param",
    "create",
    "list_optimizers",
    "load_checkpoint",
    "mark",
    "ones",
    "over_params",
    "param_groups",
    "rename",
    "route",
    "save_checkpoint",
    "shared",
    "state",
    "zeros",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The Learner, imported when it is asked for: an optimizer does not need it."""
    if name == "Learner":
        from weft.learner import Learner

        return Learner
    raise AttributeError(f"module 'weft' has no attribute {name!r}")
