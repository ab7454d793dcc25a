"""The vocabulary: the blocks that optimizers are made of, one family a file.

A block is listed in its module's `__all__`, and nowhere else.
"""

import types
import typing

from weft.callbacks import fastai
from weft.callbacks.accumulators import *
from weft.callbacks.adapted import *
from weft.callbacks.adapted_sums import *
from weft.callbacks.averaging import *
from weft.callbacks.balls import *
from weft.callbacks.clip import *
from weft.callbacks.curvature import *
from weft.callbacks.decay import *
from weft.callbacks.descent import *
from weft.callbacks.distance import *
from weft.callbacks.dual import *
from weft.callbacks.eigenbasis import *
from weft.callbacks.factored import *
from weft.callbacks.kl import *
from weft.callbacks.kronecker import *
from weft.callbacks.loss import *
from weft.callbacks.lowrank import *
from weft.callbacks.mask import *
from weft.callbacks.matrix import *
from weft.callbacks.matrix_step import *
from weft.callbacks.mixtures import *
from weft.callbacks.momentum import *
from weft.callbacks.online import *
from weft.callbacks.psgd import *
from weft.callbacks.rates import *
from weft.callbacks.reductions import *
from weft.callbacks.resilient import *
from weft.callbacks.rms import *
from weft.callbacks.scalars import *
from weft.callbacks.schedulefree import *
from weft.callbacks.second_moment import *
from weft.callbacks.splus import *
from weft.callbacks.switch import *
from weft.callbacks.trust import *
from weft.callbacks.units import *
from weft.callbacks.variance import *

if not typing.TYPE_CHECKING:  # a type checker exports what a star imports
    __all__ = sorted(
        n for n, v in vars().items() if n[0] != "_" and not isinstance(v, types.ModuleType)
    )
    __all__ += ["fastai"]
