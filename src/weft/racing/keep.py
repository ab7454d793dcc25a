"""Runs on disk: a line of JSON each, written when it is over, so that none is ever run twice."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from weft.racing.run import Record

__all__ = ["Keep"]


class Keep:
    """The runs in a file, by their keys, which are JSON.

    A line that was cut off, by a process that was killed while it wrote, is left out.

    Args:
        path: the file; it and its folder are made with the first run.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "runs.jsonl")
    >>> Keep(path).add('{"seed": 1}', Record(1.0))
    >>> Keep(path)['{"seed": 1}'].start, '{"seed": 2}' in Keep(path)
    (1.0, False)
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._records = dict(self._read()) if self.path.is_file() else {}

    def _read(self) -> Iterator[tuple[str, Record]]:
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found = json.loads(line)
                record = Record(**found["record"])
                record.curve = [(a, b, c) for a, b, c in record.curve]
                yield json.dumps(found["run"], sort_keys=True), record
            except (ValueError, KeyError, TypeError):
                continue  # cut off, or another version's: it is run again

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __getitem__(self, key: str) -> Record:
        return self._records[key]

    def __len__(self) -> int:
        return len(self._records)

    def add(self, key: str, record: Record) -> None:
        """Keep a run, here and on disk."""
        self._records[key] = record
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.path.is_file() or self.path.read_bytes()[-1:] in (b"\n", b"")
        line = json.dumps({"run": json.loads(key), "record": asdict(record)})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("" if whole else "\n") + line + "\n")
            file.flush()
            os.fsync(file.fileno())
