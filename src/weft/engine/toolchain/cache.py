"""What was built, on disk: shared by processes, trusted only where nobody else can write.

An entry is `<key>.so` (or another suffix) and `<key>.json`, which holds the key, the file's checksum,
and what has been found out about it. An entry that is odd in any way is built again.
"""

import contextlib
import ctypes
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

from weft.engine.fallback import Unavailable
from weft.engine.toolchain.compiler import (
    FLAGS,
    NATIVE,
    NoCompiler,
    compile_c,
    cpu_type,
    find_compiler,
)
from weft.engine.toolchain.trusted_files import aside, cache_dir, private_dir, read

__all__ = ["Builder", "Entry", "built", "library"]

FORMAT = "weft 3"
LARGEST_LIBRARY, LARGEST_NOTES = 2**26, 2**22
_loaded: dict[str, "Entry"] = {}
_failed: dict[str, Unavailable] = {}  # why what has this key cannot be: it is not tried again


class Builder(Protocol):
    """What makes a file from a source, and loads it.

    Attributes:
        suffix: of the file.
        parts: what the file follows from besides the source.
    """

    suffix: str
    parts: tuple[str, ...]

    def build(self, source: str, key: str) -> bytes:
        """The file's content.

        Raises:
            Unavailable: where it cannot be built.
        """
        ...

    def load(self, path: Path, key: str) -> Any:
        """What the file has.

        Raises:
            OSError: where it cannot be loaded, or is of another source.
        """
        ...

    def unloadable(self, why: OSError) -> Unavailable:
        """What to raise where what was built cannot be loaded."""
        ...


class Entry:
    """A library that is loaded, and the notes that are kept beside it.

    Attributes:
        lib: what its builder loads: functions.
        built: whether this process compiled it.
        notes: words that are remembered of it, such as the verdicts of the trust check.
    """

    def __init__(self, head: dict[str, Any], folder: Path, lib: Any, built: bool):
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


class CLibraries:
    """Shared libraries, by the machine's C compiler."""

    suffix = ".so"

    def __init__(self, extra: tuple[str, ...]):
        self.compiler, self.extra = find_compiler(), extra
        self.parts = (*FLAGS, *NATIVE, *extra, self.compiler.identity, cpu_type())

    def build(self, source: str, key: str) -> bytes:
        """The library of a C text, which says which it is."""
        text = f'{source}\nconst char weft_key[] = "{key}";\n'
        return compile_c(self.compiler, text, self.extra)

    def load(self, path: Path, key: str) -> ctypes.CDLL:
        """A library that says that it has this key."""
        lib = ctypes.CDLL(str(path))
        try:
            said = (ctypes.c_char * len(key)).in_dll(lib, "weft_key").value
        except ValueError:
            said = b""
        if said != key.encode():
            raise OSError("it is a library of another source")
        return lib

    def unloadable(self, why: OSError) -> NoCompiler:
        """The compiler made it."""
        return NoCompiler(f"what the C compiler {self.compiler.name} made cannot be loaded: {why}")


def library(source: str, extra: tuple[str, ...] = ()) -> Entry:
    """The library of this C text: from memory, from disk, or built.

    Raises:
        NoCompiler: where it has to be built and cannot be.
    """
    return built(CLibraries(extra), source)


def built(builder: Builder, source: str) -> Entry:
    """What a builder makes of a source: from memory, from disk, or built.

    Raises:
        Unavailable: where it has to be built and cannot be.
    """
    parts = (FORMAT, source, *builder.parts)
    key = hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:40]
    if key in _loaded:
        return _loaded[key]
    if key in _failed:
        raise type(_failed[key])(str(_failed[key]))
    try:
        found = _load(builder, key) or _build(builder, source, key)
    except Unavailable as e:
        _failed[key] = e
        raise
    return _loaded.setdefault(key, found)


# ---------------------------------------------------------------- one entry


def _load(builder: Builder, key: str) -> Entry | None:
    """The entry as it is on disk, or None where there is none that can be trusted."""
    folder = cache_dir()
    if folder is None:
        return None
    path = folder / f"{key}{builder.suffix}"
    try:
        head = json.loads(read(folder / f"{key}.json", LARGEST_NOTES))
        if not _fits(head, key, read(path, LARGEST_LIBRARY)):
            return None
        return Entry(head, folder, builder.load(path, key), built=False)
    except (OSError, ValueError, RecursionError):  # the latter two for what is not our json
        return None


def _build(builder: Builder, source: str, key: str) -> Entry:
    """Build, and load from the cache, or from a folder that dies with this process.

    Raises:
        Unavailable: where neither can be.
    """
    body = builder.build(source, key)
    try:
        folder = cache_dir()
        if folder is not None:
            with contextlib.suppress(OSError):  # read-only, full, a quota, no programs from there
                return _keep(builder, body, key, folder)
        return _keep(builder, body, key, private_dir())
    except OSError as e:
        raise builder.unloadable(e) from e


def _keep(builder: Builder, body: bytes, key: str, folder: Path) -> Entry:
    """Load a file, and put it into place: what does not load is never an entry.

    Raises:
        OSError: where it can be neither written nor loaded.
    """
    with aside(folder, body) as new:
        lib = builder.load(new, key)
        with contextlib.suppress(OSError):
            os.replace(new, folder / f"{key}{builder.suffix}")
    entry = Entry({**_head(key, body), "notes": {}}, folder, lib, built=True)
    entry.save()
    return entry


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
