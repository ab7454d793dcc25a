"""Docstrings as the site shows them: what mkdocstrings reads is made Markdown first."""

from typing import Any

import griffe

from sitegen.prose import markdown

__all__ = ["Typeset"]


class Typeset(griffe.Extension):
    """Rewrites each docstring of weft when griffe has found it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Typeset the docstring of a function, class or attribute."""
        if obj.docstring is not None and not obj.is_module:
            obj.docstring.value = markdown(obj.docstring.value, names_of(obj))


def names_of(obj: griffe.Object) -> set[str]:
    """Arguments, which equations may name: its own, or its constructor's."""
    found = obj.members.get("__init__", obj) if obj.is_class else obj
    return {p.name for p in getattr(found, "parameters", ())}
