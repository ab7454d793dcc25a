"""The pages of the site, written and made, without a build of it."""

from functools import cache
from pathlib import Path

from sitegen import everything, optimizers
from sitegen.facts import Facts

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@cache
def made():
    """File -> Markdown of the generated pages; what planning steps would tell is left open."""
    facts = optimizers.facts
    optimizers.facts = lambda name: Facts(8.0, 28.0, ("pass over p",), (), True, True, False)
    try:
        return everything.pages()
    finally:
        optimizers.facts = facts


@cache
def written():
    """File -> Markdown of the pages in docs."""
    return {str(p.relative_to(DOCS)): p.read_text() for p in DOCS.rglob("*.md")}
