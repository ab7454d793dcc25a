"""Writes the pages that are made from the registry: `python docs/generate.py`.

A test holds the committed pages to what this gives.
"""

import inspect
from pathlib import Path

from weft import callbacks
from weft.callback import Renamed
from weft.chain import name_of
from weft.optimizers import algorithms
from weft.wrapper import Wrapper

HERE = Path(__file__).parent


def vocabulary() -> str:
    """Each block with its equation, and the optimizers that use it."""
    users = block_users()
    lines = [
        "# The vocabulary",
        "",
        "Made by `python docs/generate.py` from the registry. Each block is a callback of",
        "`weft.callbacks`; `weft list --block NAME` lists the optimizers that use it in their default",
        "chain.",
    ]
    for module, names in by_module().items():
        lines += ["", f"## {module}", ""]
        doc = inspect.getdoc(inspect.getmodule(getattr(callbacks, names[0]))) or ""
        lines += [doc.partition("\n")[0]]
        for name in names:
            lines += ["", f"### {name}", "", "```text", *docstring(getattr(callbacks, name)), "```", ""]
            lines += ["Used by: " + (", ".join(users.get(name, ())) or "no default chain.")]
    return "\n".join(lines) + "\n"


def docstring(block) -> list[str]:
    """The lines of a block's docstring."""
    return (inspect.getdoc(block) or repr(block)).splitlines()


def by_module() -> dict[str, list[str]]:
    """The public blocks by the file that they live in."""
    found: dict[str, list[str]] = {}
    for name in callbacks.__all__:
        block = getattr(callbacks, name)
        if callable(block):
            found.setdefault(block.__module__.rpartition(".")[2], []).append(name)
    return dict(sorted(found.items()))


def block_users() -> dict[str, list[str]]:
    """Block -> the optimizers whose default chain has it, under any names."""
    users: dict[str, list[str]] = {}
    for cls in algorithms().values():
        for element in cls.chain():
            if not isinstance(element, Wrapper):
                inner = element.cb if isinstance(element, Renamed) else element
                users.setdefault(name_of(inner), []).append(cls.__name__)
    return {k: sorted(set(v)) for k, v in users.items()}


PAGES = {"vocabulary.md": vocabulary}


if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make())
        print(f"docs/{page}")
