"""A docstring as Markdown: equations typeset, examples fenced, papers linked."""

import re
from html import escape

from sitegen import notation
from sitegen.docstring import is_indented, linked, parts, unindented

__all__ = ["equations", "markdown", "paragraphs", "titled"]


def titled(title: str) -> tuple[str, list[str]]:
    """A title, and the equations that it ends with after a colon, if it does."""
    said, colon, rest = title.partition(": ")
    if colon and "<-" in rest:
        return said + ".", [rest.removesuffix(".")]
    return title, []


def equations(lines: list[str], names: set[str]) -> str:
    """Equations as MathML; as they were written where they cannot be read to the end."""
    typeset = notation.typeset(lines, names)
    if typeset is not None:
        return typeset
    text = "\n".join(lines)
    return f'<pre class="weft-eq-text"><code>{escape(text)}</code></pre>'


def is_equation(paragraph: list[str]) -> bool:
    """Whether a paragraph is equations: it is set off, or has an arrow in each line."""
    return is_indented(paragraph) or all(
        re.match(r"\S+(, \S+)* (<-|=) ", line) and not line.endswith(".") for line in paragraph
    )


def paragraphs(given: list[list[str]], names: set[str]) -> list[str]:
    """Paragraphs as Markdown, each a block."""
    return [
        equations(unindented(p), names) if is_equation(p) else linked("\n".join(unindented(p)))
        for p in given
    ]


def markdown(docstring: str, names: set[str]) -> str:
    """A whole docstring, sections of arguments left as they are for who reads them next."""
    said = parts(docstring)
    title, told = titled(said.title)
    blocks = [linked(title), *([equations(told, names)] if told else [])]
    blocks += paragraphs(said.before, names)
    blocks += ["\n".join(section_of(s)) for s in said.sections]
    if said.example:
        blocks.append("\n".join(["Examples:", *(f"    {line}".rstrip() for line in said.example)]))
    if said.after:
        inside = "\n\n".join(paragraphs(said.after, names))
        blocks.append(inside)
    return "\n\n".join(blocks)


def section_of(lines: list[str]) -> list[str]:
    """A section; one that is a sentence after its title stays one."""
    title, _, rest = lines[0].partition(":")
    if rest.strip():
        said = " ".join(line.strip() for line in [rest, *lines[1:]])
        words = {"Args": "Arguments", "Raises": "Raises"}.get(title, title)
        return [f"**{words}:** {said}"]
    return lines
