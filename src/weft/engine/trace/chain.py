"""Running a chain on proxies, by the rules of the eager loop."""

from weft.binding import Binding
from weft.engine.trace.api import Example, Traced

__all__ = ["trace"]


def trace(binding: Binding, example: Example) -> Traced:
    """The graph of a bound chain for one parameter.

    Args:
        binding: the chain.
        example: the parameter, its state, and the values that branches are decided on.

    Raises:
        Untraceable: with the callback, its file and line, and the reason.
    """
    raise NotImplementedError
