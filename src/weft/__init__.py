"""Write an optimizer step as small callbacks; weft weaves them into one kernel."""

from weft import callbacks
from weft.callback import copy_of_param, mark, ones, over_params, rename, shared, state, zeros
from weft.chain import Chain, chain
from weft.errors import ChainError, StateError, StepError, WeftWarning
from weft.optimizer import Optimizer
from weft.wrapper import Wrapper

__all__ = [
    "Chain",
    "ChainError",
    "Optimizer",
    "StateError",
    "StepError",
    "WeftWarning",
    "Wrapper",
    "callbacks",
    "chain",
    "copy_of_param",
    "mark",
    "ones",
    "over_params",
    "rename",
    "shared",
    "state",
    "zeros",
]

__version__ = "0.1.0"
