"""What a command line names: an object in a file, and what tells one version of it from another."""

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.errors import did_you_mean

__all__ = ["digest", "from_file", "is_in_file"]

PLAIN = bool | int | float | str | bytes | tuple  # whose words say all


def is_in_file(words: str) -> bool:
    """Whether these words name an object in a file.

    >>> is_in_file("my/task.py:task"), is_in_file("adamw")
    (True, False)
    """
    return ".py:" in words


def from_file(words: str) -> Any:
    """The object that `path.py:name` names; the file runs once in a process.

    Raises:
        ValueError: where there is no such file, or the file has no such name.
    """
    path, _, name = words.rpartition(":")
    module = _module(str(Path(path).resolve()))
    if not hasattr(module, name):
        known = [n for n in vars(module) if n[0] != "_"]
        raise ValueError(f"{path} has no {name!r}{did_you_mean(name, known)}")
    return getattr(module, name)


@functools.cache
def _module(path: str) -> Any:
    if not Path(path).is_file():
        raise ValueError(f"no such file: {path}")
    name = f"weft_race_{Path(path).stem}_{_short(path.encode())}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def digest(given: Any) -> str:
    """What changes when the code of `given` does: of a file its bytes, of a function its source.

    Args:
        given: words, a function, a chain, a class, a partial, or a mapping of those.

    >>> digest("adamw"), digest(digest) == digest(digest)
    ('', True)
    """
    if isinstance(given, str):
        return _of_file(str(Path(given.rpartition(":")[0]).resolve())) if is_in_file(given) else ""
    return _short("\n".join(_sources(given)).encode())


@functools.cache  # as the file ran once, so it has been read once
def _of_file(path: str) -> str:
    return _short(Path(path).read_bytes())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _sources(given: Any) -> list[str]:
    """The words and the code of an object, part by part."""
    if isinstance(given, functools.partial):
        return [repr((given.args, given.keywords)), *_sources(given.func)]
    if isinstance(given, Mapping):
        return [line for k, v in given.items() for line in (repr(k), *_sources(v))]
    if hasattr(given, "elements"):  # a chain
        return [repr(given), *(line for e in given.elements for line in _sources(e))]
    words = [re.sub(r" at 0x[0-9a-fA-F]+", "", repr(given))]  # an address is another each time
    for name in ("cb", "fn"):  # what is renamed, or summed over all parameters
        words += _sources(getattr(given, name)) if hasattr(given, name) else []
    cells = getattr(given, "__closure__", None) or ()
    words += [repr(v) for v in map(_content, cells) if isinstance(v, PLAIN)]
    if not (getattr(given, "__module__", "") or "").startswith(("weft.", "torch.")):
        with contextlib.suppress(OSError, TypeError):  # typed at a prompt, or no code
            words.append(inspect.getsource(given))
    return words


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
