"""Write an optimizer step as small callbacks; weft weaves them into one kernel."""

from typing import TYPE_CHECKING, Any

from weft import callback, callbacks
from weft.callback import copy_of_param, mark, ones, over_params, rename, shared, state, zeros
from weft.chain import Chain, chain
from weft.errors import ChainError, StateError, StepError, WeftWarning
from weft.optimizer import Optimizer
from weft.optimizers import (
    LAMB,
    LARC,
    LARS,
    SGD,
    Adam,
    AdamW,
    Lion,
    QHAdam,
    RAdam,
    Ranger,
    RMSprop,
)
from weft.registry import create, list_optimizers
from weft.wrapper import Wrapper
from weft.wrappers import ASAM, LAWA, SAM, SWA, Lookahead, OuterNesterov, WeightEMA

if TYPE_CHECKING:
    from weft.learner import Learner

__all__ = [
    "ASAM",
    "LAWA",
    "OuterNesterov",
    "SAM",
    "SWA",
    "WeightEMA",
    "Adam",
    "AdamW",
    "Chain",
    "ChainError",
    "LAMB",
    "LARC",
    "LARS",
    "Learner",
    "Lion",
    "Lookahead",
    "Optimizer",
    "QHAdam",
    "RAdam",
    "RMSprop",
    "Ranger",
    "SGD",
    "StateError",
    "StepError",
    "WeftWarning",
    "Wrapper",
    "callback",
    "callbacks",
    "chain",
    "copy_of_param",
    "create",
    "list_optimizers",
    "mark",
    "ones",
    "over_params",
    "rename",
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
