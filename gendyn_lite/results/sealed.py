"""Folders of published tables: swapped in whole, one writer at a time, and sealed together with their record."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gendyn_lite.results.runs import alone, write_text

RESTORE = "restore its files (from version control or a copy), or remove it and publish its runs again"


def seal(record: Mapping[str, Any], *tables: bytes) -> str:
    """One SHA-256 over some tables and the whole of their record but the seal itself.

    It finds damage and careless edits. Who edits can also seal again: only the runs themselves tell then.
    """
    rest = {name: value for name, value in record.items() if name != "seal"}
    total = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for table in tables:
        total.update(hashlib.sha256(table).digest())
    return total.hexdigest()


def standing(folder: Path) -> Path:
    """Where to read a folder: at its place, or aside if its writer was killed between the two renames of a swap."""
    folder = folder.resolve()
    return folder if folder.exists() or not _aside(folder, "old").exists() else _aside(folder, "old")


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Alone on a folder among processes, which is whole: what a killed writer left is put back or removed."""
    folder = folder.resolve()
    with alone(folder.parent / f".{folder.name}.lock"):
        _recover(folder)
        yield


def swap_in(folder: Path, files: Mapping[str, str]) -> None:
    """Write some files of a folder: all of them, or none. Under `changing`; what else lies there stays.

    A copy of the folder with the new files is made beside it. Then the folder is renamed away and the copy takes its
    place, so that a whole one exists at every instant.
    """
    folder = folder.resolve()
    new = _aside(folder, "new")
    try:
        if folder.exists():
            shutil.copytree(folder, new, symlinks=True)
        else:
            new.mkdir()
        for name, text in files.items():
            write_text(new / name, text)
        if folder.exists():
            folder.rename(_aside(folder, "old"))
        new.rename(folder)
    finally:
        _recover(folder)


def _recover(folder: Path) -> None:
    """Bring a folder to rest: an old one is whole until it is renamed to a new one, which is not."""
    new, old = _aside(folder, "new"), _aside(folder, "old")
    if new.exists():
        shutil.rmtree(new)
    if old.exists() and not folder.exists():
        old.rename(folder)
    elif old.exists():
        old.rename(new)
        shutil.rmtree(new)


def _aside(folder: Path, what: str) -> Path:
    return folder.parent / f".{folder.name}.{what}"
