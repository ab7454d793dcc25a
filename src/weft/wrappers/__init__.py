"""What goes around a step."""

from weft.wrappers.at_average import AtAverage
from weft.wrappers.averaging import LAWA, SWA, WeightEMA
from weft.wrappers.lookahead import Lookahead
from weft.wrappers.outer import OuterNesterov
from weft.wrappers.sharpness import ASAM, SAM

__all__ = ["ASAM", "LAWA", "SAM", "SWA", "Lookahead", "OuterNesterov", "WeightEMA"]
