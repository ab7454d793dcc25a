"""A page for each family of blocks, and the table of all of them."""

import inspect

from sitegen.docstring import parts
from sitegen.elements import block_users, by_module
from sitegen.prose import titled
from weft import callbacks
from weft.callback import read
from weft.optimizers import algorithms

__all__ = ["family_title", "index", "page", "pages"]


TITLES = {
    "kl": "KL",
    "lowrank": "Low rank",
    "psgd": "PSGD",
    "rms": "RMS",
    "schedulefree": "Schedule-free",
    "splus": "SPlus",
}


def pages() -> dict[str, str]:
    """File -> Markdown, of all families and their table."""
    made = {f"vocabulary/{family}.md": page(family, names) for family, names in by_module().items()}
    return {"vocabulary/index.md": index(), **made}


def family_title(family: str) -> str:
    """The heading of a family: its file's name."""
    return TITLES.get(family) or family.replace("_", " ").capitalize()


def said_of(family: str, names: list[str]) -> str:
    """What the blocks of a file have in common."""
    module = inspect.getmodule(getattr(callbacks, names[0]))
    return (inspect.getdoc(module) or "").partition("\n")[0]


def index() -> str:
    """All blocks: where each belongs and how many optimizers use it."""
    lines = [
        "# The vocabulary",
        "",
        "The blocks that the [optimizers](../optimizers/index.md) are made of: callbacks of",
        "`weft.callbacks`, to be mixed with each other and with yours. *Place* is where `chain + block`",
        "puts it; the last column counts the optimizers whose default chain has it.",
    ]
    users = block_users()
    for family, names in by_module().items():
        lines += ["", f"## [{family_title(family)}]({family}.md)", "", said_of(family, names), ""]
        lines += ["| block | | place | in |", "| --- | --- | --- | --: |"]
        for name in names:
            block = getattr(callbacks, name)
            cells = [
                f"[{name}][{block.__module__}.{block.__qualname__}]",
                titled(parts(block).title)[0].replace("|", "\\|"),
                read(block, value=True).place,
                str(len(users.get(name, ())) or "–"),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def page(family: str, names: list[str]) -> str:
    """A family: each block with equation, signature, source and users."""
    users = block_users()
    by_name = {cls.__name__: name for name, cls in algorithms().items()}
    lines = [f"# {family_title(family)}", "", said_of(family, names)]
    for name in names:
        block = getattr(callbacks, name)
        path = f"{block.__module__}.{block.__qualname__}"
        used = ", ".join(f"[{u}](../optimizers/{by_name[u]}.md)" for u in users.get(name, ()))
        lines += ["", f"::: {path}", "", f"Used by: {used or 'no default chain'}."]
    return "\n".join(lines) + "\n"
