"""The numbers of a step: which variant each parameter takes, and its row of host scalars.

A `Lane` is the seats of one group whose families have the same variants, whatever their shapes.
Where all of them count the same step and keep no numbers of their own, one call serves the lane.
"""

from typing import Any, NamedTuple

from weft.engine.runtime.active_set import Roster
from weft.engine.runtime.members import EmptySeat, Seat
from weft.engine.runtime.programs import Family, Variant
from weft.errors import NoNumber

__all__ = ["Lane", "Numbers", "Untold", "make_lanes"]

# what arithmetic on hypers raises: by zero, out of range, on a None or a string, past a tuple's end
OF_ARITHMETIC = (ArithmeticError, ValueError, TypeError, LookupError)


class Untold(Exception):
    """No variant's guards hold: the families have to be traced for these seats."""

    def __init__(self, seats: list[tuple[Seat, int]]):
        super().__init__()
        self.seats = seats


class Numbers(NamedTuple):
    """What the seats of a lane take in this step.

    `which` is the variant of all of them, or a tuple with one for each; `rows` the distinct rows
    and `row_of` the row of each seat, None where all have the only one.
    """

    which: Any
    rows: list[tuple[Any, ...]]
    row_of: list[int] | None


class Lane:
    """Seats that take their numbers together."""

    def __init__(self, seats: list[int], first: Seat, families: dict[Family, Seat]):
        self.seats, self.first, self.families = seats, first, families
        self.variants: list[Variant] = first.family.variants
        self.own_numbers = set().union(*(v.own_numbers for v in self.variants))

    def numbers(self, roster: Roster, steps: int | list[int], loss: Any) -> Numbers:
        """The variant and row of each seat; `steps` is that of all seats of the roster, or of each.

        Raises:
            Untold: where no variant's guards hold.
        """
        live = [i for i, v in enumerate(self.variants) if v.traced.captures_hold()]
        if isinstance(steps, list) and len(same := {steps[i] for i in self.seats}) == 1:
            steps = same.pop()
        if isinstance(steps, int) and self._alike(roster):
            plain = roster.fixed and (loss is None or type(loss) is float)
            which, row = self._one(live, self.first, steps, loss, plain)
            return Numbers(which, [row], None)
        each = [steps] * len(roster.seats) if isinstance(steps, int) else steps
        known: dict[Any, int] = {}
        rows: list[tuple[Any, ...]] = []
        which_of: list[int] = []
        row_of: list[int] = []
        chosen: list[int] = []
        for i in self.seats:
            seat = roster.seats[i]
            key: Any = each[i]
            if self.own_numbers:  # in words: 1 is not 1.0, -0.0 is not 0.0
                read = (v.leaves(seat.bound.group, seat.own, key, loss) for v in self.variants)
                key = repr((key, *read))
            at = known.get(key)
            if at is None:
                at = known[key] = len(rows)
                which, row = self._one(live, seat, each[i], loss)
                rows.append(row)
                chosen.append(which)
            which_of.append(chosen[at])
            row_of.append(at)
        return Numbers(tuple(which_of), rows, row_of)

    def _alike(self, roster: Roster) -> bool:
        """Whether no seat has numbers that another has not; a step leaves the same objects to all."""
        owns = [roster.owns[i] for i in self.seats] if self.own_numbers else []
        return all(len({id(own[name]) for own in owns}) == 1 for name in self.own_numbers)

    def _one(
        self, live: list[int], seat: Seat, step: int, loss: Any, plain: bool = False
    ) -> tuple[int, tuple[Any, ...]]:
        """A variant and its row; `plain` says that all hypers, and the loss, are Python's numbers."""
        group, own = seat.bound.group, seat.own
        for i in live:
            v = self.variants[i]
            try:
                if plain:
                    row = v.plain(group, own, step, loss)
                else:
                    row = v.host(*v.leaves(group, own, step, loss))
            except OF_ARITHMETIC as e:
                raise NoNumber(f"{type(e).__name__}: {e}") from e
            if row is not None:
                return i, row
        raise Untold([(s if s is not self.first else seat, step) for s in self.families.values()])


def make_lanes(seats: list[Seat]) -> list[Lane]:
    """The seats gathered into lanes."""
    gathered: dict[Any, tuple[list[int], Seat, dict[Family, Seat]]] = {}
    keys: dict[Any, Any] = {}
    for i, seat in enumerate(seats):
        if isinstance(seat, EmptySeat):
            continue
        at = (seat.bound.index, id(seat.family))
        key = keys.get(at)
        if key is None:
            variants = tuple(v.identity for v in seat.family.variants)
            key = keys[at] = (seat.bound.index, variants or id(seat.family))
        lane = gathered.setdefault(key, ([], seat, {}))
        lane[0].append(i)
        lane[2].setdefault(seat.family, seat)
    return [Lane(*parts) for parts in gathered.values()]
