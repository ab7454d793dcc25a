"""Built libraries on disk, shared by processes, trusted only where nobody else can write.

An entry is `<key>.so` and `<key>.json`, which holds the key, the library's checksum, and what has
been found out about it. An entry that is odd in any way is built again.
"""

import contextlib
import ctypes
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from weft.engine.toolchain.compiler import (
    FLAGS,
    NATIVE,
    Compiler,
    NoCompiler,
    compile_c,
    cpu_type,
    find_compiler,
)
from weft.engine.toolchain.trusted_files import aside, cache_dir, private_dir, read

__all__ = ["Entry", "library"]

FORMAT = "weft 3"
LARGEST_LIBRARY, LARGEST_NOTES = 2**26, 2**22
_loaded: dict[str, "Entry"] = {}
_failed: dict[str, str] = {}  # why what has this key cannot be built: it is not tried again


class Entry:
    """A library that is loaded, and the notes that are kept beside it.

    Attributes:
        lib: the functions.
        built: whether this process compiled it.
        notes: words that are remembered of it, such as the verdicts of the trust check.
    """

    def __init__(self, head: dict[str, Any], folder: Path, lib: ctypes.CDLL, built: bool):
        self.head, self.folder, self.lib, self.built = head, folder, lib, built
        self.key: str = head["key"]
        self.notes: dict[str, list[str]] = head["notes"]

    def note(self, name: str, words: list[str]) -> None:
        """Remember something for the processes to come; silently not, where the disk does not let."""
        self.notes[name] = words
        self.save()

    def save(self) -> None:
        """Write the notes, if that can be."""
        body = json.dumps(self.head).encode()
        with contextlib.suppress(OSError), aside(self.folder, body) as new:
            os.replace(new, self.folder / f"{self.key}.json")


def library(source: str, extra: tuple[str, ...] = ()) -> Entry:
    """The library of this C text: from memory, from disk, or built.

    Raises:
        NoCompiler: where it has to be built and cannot be.
    """
    compiler = find_compiler()
    parts = (FORMAT, source, *FLAGS, *NATIVE, *extra, compiler.identity, cpu_type())
    key = hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:40]
    if key in _loaded:
        return _loaded[key]
    if key in _failed:
        raise NoCompiler(_failed[key])
    try:
        found = _load(key) or _build(compiler, source, extra, key)
    except NoCompiler as e:
        _failed[key] = str(e)
        raise
    return _loaded.setdefault(key, found)


# ---------------------------------------------------------------- one entry


def _load(key: str) -> Entry | None:
    """The entry as it is on disk, or None where there is none that can be trusted."""
    folder = cache_dir()
    if folder is None:
        return None
    path = folder / f"{key}.so"
    try:
        head = json.loads(read(folder / f"{key}.json", LARGEST_NOTES))
        if not _fits(head, key, read(path, LARGEST_LIBRARY)):
            return None
        return Entry(head, folder, _open(path, key), built=False)
    except (OSError, ValueError, RecursionError):  # the latter two for what is not our json
        return None


def _build(compiler: Compiler, source: str, extra: tuple[str, ...], key: str) -> Entry:
    """Compile, and load from the cache, or from a folder that dies with this process.

    Raises:
        NoCompiler: where neither can be.
    """
    body = compile_c(compiler, f'{source}\nconst char weft_key[] = "{key}";\n', extra)
    try:
        folder = cache_dir()
        if folder is not None:
            with contextlib.suppress(OSError):  # read-only, full, a quota, no programs from there
                return _keep(body, key, folder)
        return _keep(body, key, private_dir())
    except OSError as e:
        raise NoCompiler(f"what the C compiler {compiler.name} made cannot be loaded: {e}") from e


def _keep(body: bytes, key: str, folder: Path) -> Entry:
    """Load a library, and put it into place: what does not load is never an entry.

    Raises:
        OSError: where it can be neither written nor loaded.
    """
    with aside(folder, body) as new:
        lib = _open(new, key)
        with contextlib.suppress(OSError):
            os.replace(new, folder / f"{key}.so")
    entry = Entry({**_head(key, body), "notes": {}}, folder, lib, built=True)
    entry.save()
    return entry


def _open(path: Path, key: str) -> ctypes.CDLL:
    """Load a library that says that it has this key.

    Raises:
        OSError: where it is none, or is of another source.
    """
    lib = ctypes.CDLL(str(path))
    try:
        said = (ctypes.c_char * len(key)).in_dll(lib, "weft_key").value
    except ValueError:
        said = b""
    if said != key.encode():
        raise OSError("it is a library of another source")
    return lib


def _head(key: str, body: bytes) -> dict[str, Any]:
    """What ties notes to the key and to the library."""
    return {"format": FORMAT, "key": key, "sha256": hashlib.sha256(body).hexdigest()}


def _fits(head: Any, key: str, body: bytes) -> bool:
    """Whether this is the head of this entry, with notes as they are written."""
    return (
        isinstance(head, dict)
        and head.items() >= _head(key, body).items()
        and isinstance(notes := head.get("notes"), dict)
        and all(isinstance(words, list) for words in notes.values())
        and all(isinstance(w, str) for words in notes.values() for w in words)
    )
