"""The axes of a value that has fewer elements than the loop that reads or makes it.

Dims that lie side by side are one: what is reduced, or broadcast, over a *run* of them sees memory
as (outer, reduced, inner), and the element `i` of the loop belongs to the element
`i // period * inner + i % inner` of the smaller value, where `period = reduced * inner`.
"""

from collections.abc import Sequence

__all__ = ["Run", "lies_along", "reduced_run", "run_of"]

Run = tuple[int, int]  # dims `begin` to `end`


def run_of(small: Sequence[int], big: Sequence[int]) -> Run | None:
    """The dims of `big` that a value of shape `small` is broadcast over; None if they are no run."""
    if len(small) > len(big):
        return None
    small = (1,) * (len(big) - len(small)) + tuple(small)
    if any(s not in (b, 1) for s, b in zip(small, big, strict=True)):
        return None
    over = [d for d, (s, b) in enumerate(zip(small, big, strict=True)) if s != b]
    return _as_run(over, big)


def reduced_run(dims: Sequence[int], shape: Sequence[int]) -> Run | None:
    """The run that a reduction is over, or None."""
    return _as_run(dims, shape)


def _as_run(dims: Sequence[int], shape: Sequence[int]) -> Run | None:
    if not dims:
        return 0, 0
    begin, end = min(dims), max(dims) + 1
    beside = all(d in dims or shape[d] == 1 for d in range(begin, end))
    return (begin, end) if beside else None


def lies_along(small: tuple[int, ...], big: tuple[int, ...]) -> bool:
    """Whether a value looks like what a reduction over a run of dims leaves, kept or not."""
    if run_of(small, big) is not None:
        return True
    gone = len(big) - len(small)
    return any(small == big[:d] + big[d + gone :] for d in range(len(small) + 1)) and gone > 0
