"""What goes around a step."""

from weft.wrappers.lookahead import Lookahead

__all__ = ["Lookahead"]
