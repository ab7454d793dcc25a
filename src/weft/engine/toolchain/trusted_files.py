"""Files and folders that nobody else could have written.

What is loaded from disk runs as this process, so it has to come from it or its like: regular files
and real folders that are this user's and closed to the writes of others.
"""

import atexit
import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["aside", "cache_dir", "private_dir", "read"]

# neither follow a link nor wait for the other end of a pipe
WARY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_private: list[Path] = []


def cache_dir() -> Path | None:
    """The folder that libraries are kept in; None where there is none, or others can write there."""
    try:
        given = os.environ.get("WEFT_CACHE_DIR")
        base = Path(given).absolute() if given else Path.home() / ".cache" / "weft"
        base.parent.mkdir(parents=True, exist_ok=True)
        for folder in (base, base / "kernels"):
            folder.mkdir(exist_ok=True, mode=0o700)
            if not _is_ours(folder):
                return None
        return folder
    except (OSError, RuntimeError):  # the latter for a user without a home
        return None


def private_dir() -> Path:
    """A folder for this process alone.

    Raises:
        OSError: where no temporary folder can be made.
    """
    if not _private or not _is_ours(_private[0]):
        made = Path(tempfile.mkdtemp(prefix="weft-"))
        atexit.register(_remove, made, os.getpid())
        _private[:] = [made]
    return _private[0]


def read(path: Path, most: int) -> bytes:
    """What is in a file of ours, of at most so many bytes.

    Raises:
        OSError: where there is none, or others could have written it.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | WARY)) as f:
        seen = os.fstat(f.fileno())
        if not (stat.S_ISREG(seen.st_mode) and _closed(seen) and seen.st_size <= most):
            raise OSError(f"{path} is not a file of ours")
        return f.read(most)


@contextlib.contextmanager
def aside(folder: Path, body: bytes) -> Iterator[Path]:
    """A new file for our eyes only, to be moved into place: so a reader sees a whole file or none.

    Raises:
        OSError: where it cannot be written.
    """
    fd, name = tempfile.mkstemp(prefix=".", dir=folder)
    try:
        with open(fd, "wb") as f:
            os.chmod(name, 0o600)  # whatever the umask
            f.write(body)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _is_ours(folder: Path) -> bool:
    """Whether the folder is there, a real one, and nobody else can write in it."""
    try:
        seen = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(seen.st_mode) and _closed(seen)


def _closed(seen: os.stat_result) -> bool:
    """Whether it is this user's, and no other's to write."""
    owned = not hasattr(os, "geteuid") or seen.st_uid == os.geteuid()
    return owned and not seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child leaves its parent's folder alone
        shutil.rmtree(folder, ignore_errors=True)
