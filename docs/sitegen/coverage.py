"""The page of the literature: what ships, what is a chain away, what the contract lacks."""

import csv
from collections import Counter
from pathlib import Path

from weft.optimizers import algorithms

__all__ = ["STATUS", "catalogue", "coverage", "names_of"]

HERE = Path(__file__).parents[1]


def coverage() -> str:
    """What of the literature ships, what is a chain away, and what the contract lacks."""
    rows = catalogue()
    peers = [r for r in rows if r["in_peer_union"] == "yes"]
    lines = [
        "# The literature",
        "",
        "A row for each",
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
    """The cell of a row: code, with its page where there is one, or what is lacking in words."""
    if row["status"] == "lacking":
        return row["weft"]
    first = names_of(row)[0].lower()
    code = f"`{row['weft']}`"
    return f"[{code}](optimizers/{first}.md)" if first in algorithms() else code


def table(head, rows) -> list[str]:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]
