"""What is trained: a function `task(seed) -> (model, batches, loss)`, built in or one's own."""

import importlib
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from weft.errors import did_you_mean
from weft.learner.data import as_loaders, batches_in
from weft.racing.named import digest, from_file, is_in_file

__all__ = ["TASKS", "Built", "Task", "as_task", "lasting", "seed_all"]

TASKS = {
    "digits": "weft.racing.tasks.images",
    "fashion": "weft.racing.tasks.images",
    "text": "weft.racing.tasks.text",
    "tabular": "weft.racing.tasks.tabular",
    "bert": "weft.racing.tasks.bert",
}
STEPS = 300  # of a task that says nothing


def seed_all(seed: int) -> None:
    """Seed torch's generator, Python's, and numpy's where something has imported it."""
    random.seed(seed)
    torch.manual_seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)


def lasting(steps: int) -> Callable[[Any], Any]:
    """Say how many steps a full run of a task has: what `task.steps = ...` does, as a decorator."""

    def say(task: Any) -> Any:
        task.steps = steps
        return task

    return say


@dataclass
class Built:
    """A task for one seed.

    Attributes:
        model: at its initial weights.
        train: the training loader.
        valid: the loader that searches are judged on.
        test: the loader that results are judged on; None where the task holds nothing else out.
        loss: `loss(pred, y)`.
    """

    model: nn.Module
    train: Any
    valid: Any
    test: Any
    loss: Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Task:
    """A task by its words, or by the function itself.

    Attributes:
        name: in tables.
        given: a built-in's name, `"file.py:name"`, or a function.
    """

    name: str
    given: Any

    @property
    def identity(self) -> dict[str, str]:
        """What tells its runs from another's; the code too, so that none outlives a change of it."""
        own = self.given if not isinstance(self.given, str) or is_in_file(self.given) else None
        return {"task": self.name, "task_code": digest(self.function() if own is None else own)}

    def function(self) -> Callable[[int], Any]:
        """The function.

        Raises:
            ValueError: for a name that there is not.
        """
        if not isinstance(self.given, str):
            return self.given
        if is_in_file(self.given):
            return from_file(self.given)
        if self.given not in TASKS:
            hint = did_you_mean(self.given, TASKS)
            raise ValueError(
                f"no task is called {self.given!r}{hint}: {', '.join(TASKS)}, or one of your own,"
                " my.py:task"
            )
        return getattr(importlib.import_module(TASKS[self.given]), self.given)

    @property
    def steps(self) -> int:
        """Of a full run: `task.steps` where the function has that."""
        return int(getattr(self.function(), "steps", STEPS))

    def build(self, seed: int) -> Built:
        """Model, data and loss for a seed; all generators are seeded, whatever the task does.

        Raises:
            TypeError: where the task gives something else; it says what.
            ImportError: where a package of a built-in task is missing; it says how to install it.
        """
        function = self.function()
        seed_all(seed)
        made = function(seed)
        if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[0], nn.Module):
            raise TypeError(
                f"{self.name} is to give (model, batches, loss), the first a torch.nn.Module; it"
                f" gives {_kind(made)}"
            )
        model, batches, loss = made
        test = getattr(batches, "test", None)
        if isinstance(batches, tuple | list) and len(batches) == 3:
            *batches, test = batches
        train, valid = as_loaders(batches)
        if valid is None:
            raise TypeError(
                f"{self.name} gives no validation data: its batches are (train, valid), or (train,"
                " valid, test), each a loader"
            )
        batches_in(train)
        return Built(model, train, valid, test, loss)


def _kind(made: Any) -> str:
    if isinstance(made, tuple):
        return f"({', '.join(type(part).__name__ for part in made)})"
    return type(made).__name__


def as_task(given: Any) -> Task:
    """A task from words or a function.

    >>> as_task("digits").name
    'digits'
    """
    if isinstance(given, Task):
        return given
    if isinstance(given, str):
        return Task(given, given)
    return Task(getattr(given, "__name__", type(given).__name__), given)
