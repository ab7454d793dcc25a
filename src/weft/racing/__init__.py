"""Races: several optimizers on one task, each at its best setting of the same search."""

from weft.racing.field import race
from weft.racing.result import Outcome, Race
from weft.racing.rules import Rules
from weft.racing.tasks import TASKS, lasting

__all__ = ["TASKS", "Outcome", "Race", "Rules", "lasting", "race"]
