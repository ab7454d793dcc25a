"""What goes around a step.

A wrapper is listed in its module's `__all__`, and nowhere else.
"""

import types
import typing

from weft.wrappers.at_average import *
from weft.wrappers.averaging import *
from weft.wrappers.gap import *
from weft.wrappers.gpa import *
from weft.wrappers.hutchinson import *
from weft.wrappers.lookahead import *
from weft.wrappers.mechanic import *
from weft.wrappers.outer import *
from weft.wrappers.sharpness import *
from weft.wrappers.spikes import *
from weft.wrappers.trac import *

if not typing.TYPE_CHECKING:  # a type checker exports what a star imports
    __all__ = sorted(
        n for n, v in vars().items() if n[0] != "_" and not isinstance(v, types.ModuleType)
    )
