"""The numbers of a step: which variant each parameter takes, and its row of host scalars.

A `ScalarGroup` is the members of one group that have the same variants, whatever their shapes.
Where all of them count the same step and keep no numbers of their own, one call serves the scalar group.
"""

from typing import Any, NamedTuple

from weft.engine.runtime.active_set import ActiveSet
from weft.engine.runtime.members import EmptyMember, Member
from weft.engine.runtime.programs import Variant, VariantSet
from weft.errors import NoNumber

__all__ = ["NoVariant", "ScalarGroup", "Scalars", "scalar_groups_of"]

# what arithmetic on hypers raises: by zero, out of range, on a None or a string, past a tuple's end
OF_ARITHMETIC = (ArithmeticError, ValueError, TypeError, LookupError)


class NoVariant(Exception):
    """No variant's guards hold: they have to be traced for these members."""

    def __init__(self, members: list[tuple[Member, int]]):
        super().__init__()
        self.members = members


class Scalars(NamedTuple):
    """What the members of a scalar group take in this step.

    `which` is the variant of all of them, or a tuple with one for each; `rows` the distinct rows
    and `row_of` the row of each member, None where all have the only one.
    """

    which: Any
    rows: list[tuple[Any, ...]]
    row_of: list[int] | None


class ScalarGroup:
    """Seats that take their numbers together."""

    def __init__(self, indices: list[int], first: Member, variant_sets: dict[VariantSet, Member]):
        self.indices, self.first, self.variant_sets = indices, first, variant_sets
        self.variants: list[Variant] = first.variant_set.variants
        self.own_numbers = set().union(*(v.own_numbers for v in self.variants))

    def numbers(self, active: ActiveSet, steps: int | list[int], loss: Any) -> Scalars:
        """The variant and row of each member; `steps` is that of all members of the active set, or of each.

        Raises:
            NoVariant: where no variant's guards hold.
        """
        live = [i for i, v in enumerate(self.variants) if v.traced.captures_hold()]
        if isinstance(steps, list) and len(same := {steps[i] for i in self.indices}) == 1:
            steps = same.pop()
        if isinstance(steps, int) and self._alike(active):
            plain = active.fixed and (loss is None or type(loss) is float)
            which, row = self._one(live, self.first, steps, loss, plain)
            return Scalars(which, [row], None)
        each = [steps] * len(active.members) if isinstance(steps, int) else steps
        known: dict[Any, int] = {}
        rows: list[tuple[Any, ...]] = []
        which_of: list[int] = []
        row_of: list[int] = []
        chosen: list[int] = []
        for i in self.indices:
            member = active.members[i]
            key: Any = each[i]
            if self.own_numbers:  # in words: 1 is not 1.0, -0.0 is not 0.0
                read = (v.leaves(member.bound.group, member.own, key, loss) for v in self.variants)
                key = repr((key, *read))
            place = known.get(key)
            if place is None:
                place = known[key] = len(rows)
                which, row = self._one(live, member, each[i], loss)
                rows.append(row)
                chosen.append(which)
            which_of.append(chosen[place])
            row_of.append(place)
        return Scalars(tuple(which_of), rows, row_of)

    def _alike(self, active: ActiveSet) -> bool:
        """Whether no member has numbers that another has not; a step leaves the same objects to all."""
        owns = [active.owns[i] for i in self.indices] if self.own_numbers else []
        return all(len({id(own[name]) for own in owns}) == 1 for name in self.own_numbers)

    def _one(
        self, live: list[int], member: Member, step: int, loss: Any, plain: bool = False
    ) -> tuple[int, tuple[Any, ...]]:
        """A variant and its row; `plain` says that all hypers, and the loss, are Python's numbers."""
        group, own = member.bound.group, member.own
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
        raise NoVariant(
            [(s if s is not self.first else member, step) for s in self.variant_sets.values()]
        )


def scalar_groups_of(members: list[Member]) -> list[ScalarGroup]:
    """The members gathered into scalar groups."""
    gathered: dict[Any, tuple[list[int], Member, dict[VariantSet, Member]]] = {}
    keys: dict[Any, Any] = {}
    for i, member in enumerate(members):
        if isinstance(member, EmptyMember):
            continue
        of = (member.bound.index, id(member.variant_set))
        key = keys.get(of)
        if key is None:
            variants = tuple(v.identity for v in member.variant_set.variants)
            key = keys[of] = (member.bound.index, variants or id(member.variant_set))
        scalar_group = gathered.setdefault(key, ([], member, {}))
        scalar_group[0].append(i)
        scalar_group[2].setdefault(member.variant_set, member)
    return [ScalarGroup(*parts) for parts in gathered.values()]
