"""A docstring of the house in its parts: title, equations, arguments, example, and what to know."""

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ARXIV", "Parts", "is_indented", "linked", "parts", "unindented"]

SECTION = re.compile(r"(Args|Raises|Attributes|Returns|Yields):")


@dataclass
class Parts:
    """What a docstring says.

    Attributes:
        title: its first paragraph.
        before: paragraphs up to the arguments; those that are indented are equations.
        sections: `Args:`, `Raises:` and the like, as they stand.
        example: the doctest.
        after: paragraphs behind it: the paper, and what to know.
    """

    title: str = ""
    before: list[list[str]] = field(default_factory=list)
    sections: list[list[str]] = field(default_factory=list)
    example: list[str] = field(default_factory=list)
    after: list[list[str]] = field(default_factory=list)

    @property
    def equations(self) -> list[list[str]]:
        """The indented paragraphs, without their indentation."""
        return [unindented(p) for p in (*self.before, *self.after) if is_indented(p)]


def parts(said: Any) -> Parts:
    """The parts of a docstring, given as text or by the object that has it."""
    text = said if isinstance(said, str) else inspect.getdoc(said) or ""
    first, *paragraphs = split(inspect.cleandoc(text)) or [[]]
    out = Parts(title=" ".join(first))
    for paragraph in paragraphs:
        if paragraph[0].startswith(">>>"):
            out.example += ([""] if out.example else []) + paragraph
        elif SECTION.match(paragraph[0]):
            out.sections.append(paragraph)
        elif out.example or out.sections:
            out.after.append(paragraph)
        else:
            out.before.append(paragraph)
    return out


def split(text: str) -> list[list[str]]:
    """Paragraphs, as lines."""
    return [p.splitlines() for p in re.split(r"\n\s*\n", text.strip("\n")) if p.strip()]


def is_indented(paragraph: list[str]) -> bool:
    """Whether a paragraph is set off: equations, or code."""
    return all(line.startswith("    ") for line in paragraph)


def unindented(paragraph: list[str]) -> list[str]:
    """Its lines without the indentation that they share."""
    return inspect.cleandoc("\n" + "\n".join(paragraph)).splitlines()


ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})")
PLACE = re.compile(r"(?<![/\w.])((?:[\w-]+\.)+(?:io|com|org)/[\w./-]+\w)")


def linked(text: str) -> str:
    """Prose with its papers and pages as links."""
    text = ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return PLACE.sub(r"[\1](https://\1)", text)
