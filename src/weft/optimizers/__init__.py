"""The literature: optimizers as chains, one family a file.

An optimizer is listed in its module's `__all__`, and nowhere else.
"""

import types
import typing

from weft.optimizers.accelerated import *
from weft.optimizers.adagrad import *
from weft.optimizers.adam import *
from weft.optimizers.adapted import *
from weft.optimizers.asynchronous import *
from weft.optimizers.base import *
from weft.optimizers.bcos import *
from weft.optimizers.classic import *
from weft.optimizers.corrected import *
from weft.optimizers.curvature import *
from weft.optimizers.dion2 import *
from weft.optimizers.dual import *
from weft.optimizers.factored import *
from weft.optimizers.kl import *
from weft.optimizers.layerwise import *
from weft.optimizers.lion import *
from weft.optimizers.lowrank import *
from weft.optimizers.masked import *
from weft.optimizers.mixtures import *
from weft.optimizers.momenta import *
from weft.optimizers.muon import *
from weft.optimizers.muon_kin import *
from weft.optimizers.nadam import *
from weft.optimizers.online import *
from weft.optimizers.parameter_free import *
from weft.optimizers.polyak import *
from weft.optimizers.psgd import *
from weft.optimizers.rates import *
from weft.optimizers.rmsprop import *
from weft.optimizers.rmsprop_tf import *
from weft.optimizers.scaled import *
from weft.optimizers.schedulefree import *
from weft.optimizers.sgd import *
from weft.optimizers.shampoo import *
from weft.optimizers.signs import *
from weft.optimizers.soap import *
from weft.optimizers.spectral import *
from weft.optimizers.sphere import *
from weft.optimizers.stable import *
from weft.optimizers.switching import *
from weft.optimizers.variance import *

if not typing.TYPE_CHECKING:  # a type checker exports what a star imports
    __all__ = sorted(
        n for n, v in vars().items() if n[0] != "_" and not isinstance(v, types.ModuleType)
    )
