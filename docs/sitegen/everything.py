"""All generated pages, and their places in the navigation."""

import re
from typing import Any

import weft
from sitegen import optimizers, reference, vocabulary
from sitegen.coverage import coverage
from sitegen.diagram import diagram
from sitegen.elements import by_module
from sitegen.mixing import mixing, states
from weft import callbacks
from weft.optimizers import algorithms

__all__ = ["fill", "navigation", "pages"]


def pages() -> dict[str, str]:
    """File -> Markdown."""
    return {
        **optimizers.pages(),
        **vocabulary.pages(),
        **reference.pages(),
        "coverage.md": coverage(),
    }


TABLES = {
    "front": lambda: diagram(weft.AdamW.chain() + callbacks.cautious),
    "mixing": mixing,
    "states": states,
}


def fill(markdown: str) -> str:
    """A written page with what it asks for by `<!-- made: NAME -->`."""
    return re.sub(r"<!-- made: (\w+) -->", lambda found: TABLES[found[1]](), markdown)


def navigation(nav: list[Any]) -> list[Any]:
    """The sections of mkdocs.yml, those that are named here with their pages."""
    made = {
        "Optimizers": [
            "optimizers/index.md",
            *(
                {title: [{algorithms()[n].__name__: f"optimizers/{n}.md"} for n in names]}
                for title, names in optimizers.families().items()
            ),
        ],
        "Vocabulary": [
            "vocabulary/index.md",
            *({vocabulary.family_title(f): f"vocabulary/{f}.md"} for f in by_module()),
        ],
        "Reference": [
            "reference/index.md",
            *({t: f"reference/{page}.md"} for page, (t, *_) in reference.REFERENCE.items()),
            {"Around a step": "reference/wrappers.md"},
            {"The Learner": "reference/learner.md"},
            {"fastai's callbacks": "reference/fastai.md"},
        ],
    }
    return [
        {title: [*made.get(title, []), *(inside if isinstance(inside, list) else [])]}
        if title in made
        else {title: inside}
        for section in nav
        for title, inside in section.items()
    ]
