"""Writes the pages that are made from the registry: `python docs/generate.py`.

A test holds the committed pages to what this gives.
"""

import csv
import inspect
from collections import Counter
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
            lines += [
                "",
                f"### {name}",
                "",
                "```text",
                *docstring(getattr(callbacks, name)),
                "```",
                "",
            ]
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


def coverage() -> str:
    """What of the literature ships, what is a chain away, and what the contract lacks."""
    rows = catalogue()
    peers = [r for r in rows if r["in_peer_union"] == "yes"]
    lines = [
        "# The literature",
        "",
        "Made by `python docs/generate.py` from `docs/coverage.csv` and the registry: a row for each",
        f"algorithm of a catalogue of {len(rows)}. {len(peers)} of them are in at least one other",
        f"library; of those, {sum(r['status'] == 'shipped' for r in peers)} ship.",
        "",
        "- *shipped*: a name in `weft`, or a block of `weft.callbacks`, and the references in float64 that",
        "  a test holds it to, with the libraries that agree with the reference.",
        "- *expressible*: the chain. Names that stand alone are callbacks of its own, at most two;",
        "  capitalised, a wrapper.",
        "- *lacking*: what the contract has no place for.",
        "",
        *table(["class", "in a library", *STATUS, "beyond them, shipped"], counts(rows)),
    ]
    for kind, members in by_class(rows).items():
        cells = [(r["name"], r["status"], in_weft(r), r["compared"]) for r in members]
        head = ["algorithm", "status", "in weft", "compared with"]
        lines += ["", f"## {kind[0].upper()}{kind[1:]}", "", *table(head, cells)]
    named = {name for r in rows if r["status"] == "shipped" for name in names_of(r)}
    besides = [cls.__name__ for cls in algorithms().values() if cls.__name__ not in named]
    lines += [
        "",
        "## Besides",
        "",
        "Shipped, and not in the catalogue: " + ", ".join(besides) + ".",
    ]
    return "\n".join(lines) + "\n"


STATUS = ("shipped", "expressible", "lacking")


def catalogue() -> list[dict[str, str]]:
    """The rows of coverage.csv."""
    with (HERE / "coverage.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def by_class(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """The rows of each class, in their order."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row["class"], []).append(row)
    return found


def counts(rows: list[dict[str, str]]) -> list[tuple]:
    """How many of each class are in a library, and with which status; then of all."""
    out = []
    for kind, members in [*by_class(rows).items(), ("all", rows)]:
        found = Counter((r["in_peer_union"], r["status"]) for r in members)
        in_peers = [found["yes", status] for status in STATUS]
        out.append((kind, sum(in_peers), *in_peers, found["no", "shipped"]))
    return out


def names_of(row: dict[str, str]) -> list[str]:
    """The names in `weft`, or of blocks, that a shipped row gives: without their arguments."""
    return [name.partition("(")[0].strip() for name in row["weft"].split(",")]


def in_weft(row: dict[str, str]) -> str:
    """The cell of a row: code, or what is lacking in words."""
    return row["weft"] if row["status"] == "lacking" else f"`{row['weft']}`"


def table(head, rows) -> list[str]:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


PAGES = {"vocabulary.md": vocabulary, "coverage.md": coverage}


if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make())
        print(f"docs/{page}")
