"""Built libraries on disk, shared by processes, trusted only where nobody else can write.

An entry is `<key>.so` and `<key>.json`, which holds the library's checksum and what has been found
out about it. Both are written aside and moved into place, so a reader sees a whole file or none; an
entry whose parts do not belong together is built again.
"""

import atexit
import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

from weft.engine.backends.c.compile import FLAGS, NATIVE, compile_c, cpu_type, find_compiler

__all__ = ["Entry", "cache_dir", "library"]

FORMAT = "weft 2"
_lock = threading.Lock()
_loaded: dict[str, "Entry"] = {}
_private: list[Path] = []


class Entry:
    """A library that is loaded, and the notes that are kept beside it.

    Attributes:
        lib: the functions.
        built: whether this process compiled it.
        notes: what is remembered of it, such as the verdict of the trust check.
    """

    def __init__(
        self, key: str, folder: Path, lib: ctypes.CDLL, notes: dict[str, Any], built: bool
    ):
        self.key, self.folder, self.lib, self.notes, self.built = key, folder, lib, notes, built

    def note(self, name: str, value: Any) -> None:
        """Remember something for the processes to come; silently not, where the disk does not let."""
        self.notes[name] = value
        with contextlib.suppress(OSError):
            _write(self.folder / f"{self.key}.json", json.dumps(self.notes).encode())


def library(source: str, extra: tuple[str, ...] = ()) -> Entry:
    """The library of this C text: from memory, from disk, or built.

    Raises:
        NoCompiler: where it has to be built and cannot be.
    """
    compiler = find_compiler()
    parts = (FORMAT, source, *FLAGS, *NATIVE, *extra, compiler.identity, cpu_type())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]
    with _lock:
        if key in _loaded:
            return _loaded[key]
    folder = cache_dir()
    found = _load(key, folder)
    if found is None:
        try:
            found = _build(compiler, source, extra, key, folder)
        except OSError:  # read-only, full, a quota: what this process builds then dies with it
            found = _build(compiler, source, extra, key, _private_dir())
    with _lock:
        return _loaded.setdefault(key, found)


def _build(compiler, source: str, extra: tuple[str, ...], key: str, folder: Path) -> Entry:
    aside = folder / f".{key}.{os.getpid()}.{threading.get_ident()}"
    try:
        compile_c(compiler, source, aside, extra)
        body = aside.read_bytes()
        notes = {"format": FORMAT, "sha256": hashlib.sha256(body).hexdigest()}
        os.replace(aside, folder / f"{key}.so")
        _write(folder / f"{key}.json", json.dumps(notes).encode())
        lib = ctypes.CDLL(str(folder / f"{key}.so"))
    finally:
        aside.unlink(missing_ok=True)
    return Entry(key, folder, lib, notes, built=True)


def _load(key: str, folder: Path) -> Entry | None:
    """The entry as it is on disk, or None where there is none that can be trusted."""
    path = folder / f"{key}.so"
    try:
        notes = json.loads((folder / f"{key}.json").read_bytes())
        body = path.read_bytes()
        if notes["format"] != FORMAT or notes["sha256"] != hashlib.sha256(body).hexdigest():
            return None
        return Entry(key, folder, ctypes.CDLL(str(path)), notes, built=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, body: bytes) -> None:
    """Put a file in place whole, or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        aside.write_bytes(body)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


# ---------------------------------------------------------------- the folder


def cache_dir() -> Path:
    """The folder that libraries are kept in: ours, and written by nobody else."""
    given = os.environ.get("WEFT_CACHE_DIR")
    base = Path(given) if given else Path.home() / ".cache" / "weft"
    folder = base / "kernels"
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        if _is_ours(folder):
            return folder
    except OSError:
        pass
    return _private_dir()


def _is_ours(folder: Path) -> bool:
    """Whether the folder is a real one, owned by this user and closed to all others' writes."""
    seen = os.lstat(folder)
    closed = not seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    owned = not hasattr(os, "getuid") or seen.st_uid == os.getuid()
    return stat.S_ISDIR(seen.st_mode) and owned and closed


def _private_dir() -> Path:
    """A folder for this process alone."""
    with _lock:
        if not _private or not _private[0].exists():
            _private[:] = [Path(tempfile.mkdtemp(prefix="weft-"))]
            atexit.register(_remove, _private[0], os.getpid())
        return _private[0]


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child leaves its parent's folder alone
        shutil.rmtree(folder, ignore_errors=True)
