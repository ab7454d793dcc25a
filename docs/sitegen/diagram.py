"""A chain as a row of blocks, in the order in which they run: HTML that a style sheet draws."""

from html import escape
from typing import Any

import weft
from sitegen.elements import inner, is_public
from weft.chain import Chain
from weft.wrapper import Wrapper

__all__ = ["diagram"]

NOT_TOLD = {"p", "update", "grad", "step", "loss", "lr"}  # what nearly every block reads


def diagram(chain: Chain) -> str:
    """The blocks of a chain, with the state and the hypers that each reads; wrappers are frames.

    >>> import weft
    >>> diagram(weft.SGD.chain()).count("weft-block")
    2
    """
    found = {inner(e).__name__: inner(e) for e in chain if not isinstance(e, Wrapper)}
    boxes = [box(row, found.get(row[0])) for row in chain.explain().callbacks]
    html = f'<div class="weft-chain">{"".join(boxes)}</div>'
    for wrapper in [e for e in chain if isinstance(e, Wrapper)]:
        name = type(wrapper).__name__
        label = link(type(wrapper), name) if hasattr(weft, name) else escape(name)
        html = f'<div class="weft-around"><span>around the step: {label}</span>{html}</div>'
    return html


def box(row: Any, block: Any) -> str:
    """One block: its name, its place, what it reads and changes."""
    name, place, reads, returns, _ = row
    own = [r for r in reads.split(", ") if r and r not in NOT_TOLD]
    changes = "in place" if returns == "(in place)" else returns
    title = link(block, name) if block is not None and is_public(block) else escape(name)
    return (
        f'<div class="weft-block weft-{place}"><b>{title}</b>'
        f"<i>{escape(', '.join(own)) or '&nbsp;'}</i><span>→ {escape(changes)}</span></div>"
    )


def link(target: Any, text: str) -> str:
    """A reference to the page of a public name, which the site resolves."""
    path = f"{target.__module__}.{target.__qualname__}"
    return f'<autoref identifier="{path}" optional>{escape(text)}</autoref>'
