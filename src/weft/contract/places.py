"""Where in a chain a callback belongs, from what it reads, returns and changes in place."""

from collections.abc import Collection

__all__ = ["PLACES", "place_of"]

PLACES = ("grad", "decay", "statistics", "update", "descend", "after")


def place_of(reads: Collection[str], changes: Collection[str]) -> str:
    """The place of a callback that said none.

    Args:
        reads: the names that it looks at; the grad too where it looks at `p.grad`.
        changes: the names that it returns or changes in place.

    >>> place_of(["update", "average"], ["update", "average"])  # acts on the direction
    'update'
    >>> place_of(["grad", "average"], ["update", "average"])    # makes the direction
    'statistics'
    """
    state = set(changes) - {"p", "grad", "update"}
    if "p" in changes:
        return "descend" if "update" in reads or "grad" in reads else "grad"
    if "grad" in changes and "update" not in reads:
        return "grad"
    if "update" in changes:
        return "statistics" if "update" not in reads and state & set(reads) else "update"
    if state:
        return "statistics"
    return "update" if "update" in reads else "grad"
