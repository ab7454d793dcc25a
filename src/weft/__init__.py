"""Write an optimizer step as small callbacks; weft weaves them into one kernel."""

import importlib
import types
import typing

from weft import callback as callback
from weft import callbacks as callbacks
from weft.callback import copy_of_param as copy_of_param
from weft.callback import mark as mark
from weft.callback import ones as ones
from weft.callback import over_params as over_params
from weft.callback import rename as rename
from weft.callback import shared as shared
from weft.callback import state as state
from weft.callback import zeros as zeros
from weft.chain import Chain as Chain
from weft.chain import chain as chain
from weft.errors import ChainError as ChainError
from weft.errors import NonFiniteError as NonFiniteError
from weft.errors import StateError as StateError
from weft.errors import StepError as StepError
from weft.errors import WeftWarning as WeftWarning
from weft.optimizer.checkpoint import load_checkpoint as load_checkpoint
from weft.optimizer.checkpoint import save_checkpoint as save_checkpoint
from weft.optimizer.optimizer import Optimizer as Optimizer
from weft.optimizers import *
from weft.policies import param_groups as param_groups
from weft.policies import route as route
from weft.registry import create as create
from weft.registry import list_optimizers as list_optimizers
from weft.wrapper import Wrapper as Wrapper
from weft.wrappers import *

if typing.TYPE_CHECKING:
    from weft.learner import Learner as Learner
    from weft.paths import path as path
    from weft.racing import race as race
else:  # a type checker exports what is imported as itself or by a star
    __all__ = sorted(
        n for n, v in vars().items() if n[0] != "_" and not isinstance(v, types.ModuleType)
    )
    __all__ += ["Learner", "callback", "callbacks", "path", "race"]
    __all__.remove("Algorithm")  # what optimizers are made with is weft.optimizers'
    __all__.remove("algorithms")

__version__ = "0.2.0"


def __dir__() -> list[str]:
    """What there is to use: modules that only this one needs are left out."""
    return [*globals()["__all__"], "__version__"]


_LATER = {"Learner": "weft.learner", "path": "weft.paths", "race": "weft.racing"}


def __getattr__(name: str) -> typing.Any:
    """What is imported when it is asked for: an optimizer needs none of it."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'weft' has no attribute {name!r}")
