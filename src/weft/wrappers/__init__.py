"""What goes around a step."""

from weft.wrappers.at_average import AtAverage
from weft.wrappers.averaging import LAWA, SWA, WeightEMA
from weft.wrappers.gap import GCSAM, GSAM, WSAM, FriendlySAM, LookSAM
from weft.wrappers.gpa import GPA
from weft.wrappers.hutchinson import Hutchinson
from weft.wrappers.lookahead import Lookahead
from weft.wrappers.mechanic import Mechanic
from weft.wrappers.outer import OuterNesterov
from weft.wrappers.sharpness import ASAM, SAM
from weft.wrappers.spikes import SkipSpikes
from weft.wrappers.trac import TRAC

__all__ = [
    "ASAM",
    "GCSAM",
    "GPA",
    "GSAM",
    "LAWA",
    "SAM",
    "SWA",
    "TRAC",
    "WSAM",
    "AtAverage",
    "FriendlySAM",
    "Hutchinson",
    "LookSAM",
    "Lookahead",
    "Mechanic",
    "OuterNesterov",
    "SkipSpikes",
    "WeightEMA",
]
