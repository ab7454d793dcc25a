"""What goes around a step."""

from weft.wrappers.at_average import AtAverage
from weft.wrappers.averaging import LAWA, SWA, WeightEMA
from weft.wrappers.lookahead import Lookahead
from weft.wrappers.mechanic import Mechanic
from weft.wrappers.outer import OuterNesterov
from weft.wrappers.sharpness import ASAM, SAM
from weft.wrappers.spikes import SkipSpikes

__all__ = [
    "ASAM",
    "LAWA",
    "SAM",
    "SWA",
    "AtAverage",
    "Lookahead",
    "Mechanic",
    "OuterNesterov",
    "SkipSpikes",
    "WeightEMA",
]
