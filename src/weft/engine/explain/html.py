"""Tables for notebooks."""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["paragraph", "table"]


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Rows as an HTML table.

    >>> table(["a"], [["<b>"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    headings = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>{above}<thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table>"


def paragraph(lines: Iterable[str]) -> str:
    """Lines of text, one below the other.

    >>> paragraph(["a", "b < c"])
    '<p>a<br>b &lt; c</p>'
    """
    return f"<p>{'<br>'.join(map(escape, lines))}</p>"
