"""Optional packages, imported when they are first needed."""

import importlib
from types import ModuleType
from typing import Any

__all__ = ["need", "table"]


def need(module: str, extra: str = "learner") -> ModuleType:
    """Import `module`, or say how to get it.

    Args:
        module: the dotted name to import.
        extra: the extra of weft that brings it.

    Raises:
        ImportError: where it is not installed; the message has the command that installs it.

    >>> need("json").dumps([1])
    '[1]'
    >>> need("no_such_package")
    Traceback (most recent call last):
    ...
    ImportError: this needs no_such_package, which is not installed: pip install weft-optim[learner]
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != package:
            raise  # it is there, and broken: its own error says more
        raise ImportError(
            f"this needs {package}, which is not installed: pip install weft-optim[{extra}]"
        ) from None


def table(title: str, *columns: str, right: tuple[str, ...] = (), extra: str = "learner") -> Any:
    """An empty table of rich's, in the one style of all commands.

    Args:
        title: above it; "" for none.
        columns: the headings.
        right: the headings of figures, which are aligned to the right.
        extra: the extra of weft that brings rich, where it is missing.

    Raises:
        ImportError: where rich is not installed.
    """
    rich, box = need("rich.table", extra), need("rich.box", extra)
    out = rich.Table(title=title or None, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for heading in columns:
        out.add_column(heading, justify="right" if heading in right else "left")
    return out
