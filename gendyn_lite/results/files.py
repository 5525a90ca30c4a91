"""Files and folders written atomically, locks between processes, and the folders and seals of published tables."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from filelock import FileLock, Timeout

from gendyn_lite.errors import NAME, Failed, UserError, check_name

RUNS, CURVES, RECORD = "runs.csv", "curves.csv", "provenance.json"
AGAIN = "remove the run's folder and run it again"
RESTORE = "restore its files (from version control or a copy), or remove it and publish its runs again"
SILENT_SECONDS = 2.0  # of waiting for a lock, before a message says so
PARTIAL = "gendyn-partial"  # suffix of temporary files
_PACKAGE = Path(__file__).resolve().parents[1]


class Account(NamedTuple):
    """What a command has done, and what it has refused and why, one line each."""

    done: list[str]
    refused: list[str]


def read_file(path: Path, *, remedy: str = AGAIN) -> bytes:
    """The bytes of a regular file.

    Raises:
        UserError: It is missing or not a file; the message ends with the remedy.
    """
    if not path.is_file():
        raise UserError(f"{path} {'is not a file' if path.exists() else 'is missing'}: {remedy}")
    return path.read_bytes()


def read_json(path: Path, *, remedy: str = AGAIN) -> dict[str, Any]:
    """The JSON object in a file; errors as for `read_file` and `parsed`."""
    return parsed(read_file(path, remedy=remedy), path, remedy=remedy)


def parsed(text: bytes, path: Path, *, remedy: str = AGAIN) -> dict[str, Any]:
    """Parse the JSON object in the content of a file; `path` and `remedy` are for error messages.

    >>> parsed(b"[1]", Path("env.json"), remedy="restore it")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: env.json holds a list, expected a JSON object: restore it
    """
    try:
        value = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, expected a JSON object: {remedy}")
    return value


def json_text(value: Any) -> str:
    """A value as JSON in the form in which it is written to files."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    write_text(path, json_text(value))


def write_text(path: Path, text: str) -> None:
    """Write text, atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see either the old content or the new one, never a part.

    Temporary files beside it that were left by killed processes are removed.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.{PARTIAL}"):
        process = left.name.split(".")[-2]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            left.unlink(missing_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{PARTIAL}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def alone(lock: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file within the block, so that no other process does. The system releases locks of dead processes.

    After two seconds of waiting, a line on stderr says who holds the lock, and the wait continues.

    Raises:
        Failed: Another process still holds the lock after these two seconds, and `wait` is False.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held, holder = FileLock(lock), lock.with_name(f"{lock.name}.holder")
    try:
        held.acquire(timeout=SILENT_SECONDS)
    except Timeout:
        who = "another process"
        with suppress(OSError, ValueError):
            who = holder.read_text(encoding="utf-8")
        if not wait:
            raise Failed(f"{who} holds {lock}: try again when it has finished") from None
        sys.stderr.write(f"{who} holds {lock}: waiting for it\n")
        sys.stderr.flush()
        held.acquire()
    try:
        holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        held.release()


def book_folder() -> Path:
    """The folder ``book`` of the checkout that this package is installed from, else that in the working folder.

    Raises:
        UserError: There is neither, because the package was installed without the book.

    >>> (book_folder() / "_toc.yml").is_file()
    True
    """
    for place in (_PACKAGE.parent, Path.cwd()):
        if (place / "book" / "_toc.yml").is_file():
            return place / "book"
    raise UserError("no book/_toc.yml here: run this inside a clone of the repository")


def roots() -> dict[str, str]:
    """Absolute paths of the folders of data and runs, by variable, for kernels, which work in another folder."""
    top = book_folder().parent
    defaults = {"GENDYN_DATA": top / "datasets", "GENDYN_RUNS": top / "runs"}
    return {name: str(Path(os.environ.get(name) or path).resolve()) for name, path in defaults.items()}


def published_root() -> Path:
    """The folder of the published tables: book/results of the checkout, or the copy in an installed package."""
    shipped = _PACKAGE / "published"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "book" / "results"


def published_experiments(*, folder: Path | None = None) -> list[str]:
    """Names of the experiments with published tables, sorted.

    Args:
        folder: Folder of the published tables (default: those of the book).

    Returns:
        The names, for `published`.

    >>> "random_labels" in published_experiments()
    True
    """
    root = folder or published_root()
    found = {path.parent.name for name in (RUNS, CURVES, RECORD) for path in root.glob(f"*/{name}")}
    # Those that a killed writer left aside: see `standing`.
    aside = {name[1:-4] for name in found if name.startswith(".") and name.endswith(".old")}
    return sorted(aside | {name for name in found if NAME.fullmatch(name)})


def place_of(experiment: str, root: Path | None) -> Path:
    """The folder of a published experiment."""
    check_name("experiment", experiment)
    if experiment == "performance":
        raise UserError("experiment 'performance': this name is reserved for the benchmarks, choose another one")
    return (root or published_root()).resolve() / experiment


def seal(record: Mapping[str, Any], *tables: bytes) -> str:
    """The SHA-256 of some tables together with their record, without the record's own entry ``"seal"``.

    It detects damage and careless edits. Whoever forges the seal too is found only by a comparison with the runs.

    >>> seal({"a": 1, "seal": "old"}, b"table") == seal({"a": 1}, b"table") != seal({"a": 1}, b"tables")
    True
    """
    rest = {name: value for name, value in record.items() if name != "seal"}
    total = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for table in tables:
        total.update(hashlib.sha256(table).digest())
    return total.hexdigest()


def unsealed(what: Path, record: Path, *tables: Path, holds: str, **name: str) -> tuple[dict[str, Any], list[bytes]]:
    """Read a published record and its tables, and verify their seal.

    Args:
        what: Path to name in an error.
        record: File of the record.
        *tables: Files of the tables, in the order in which they were sealed.
        holds: A key of the record whose value must be an object.
        **name: An entry that the record must have, for instance ``experiment="random_labels"``.

    Returns:
        The record, and the bytes of each table.

    Raises:
        UserError: A file is missing or damaged, or the seal differs.
    """
    found, texts = read_json(record, remedy=RESTORE), [read_file(table, remedy=RESTORE) for table in tables]
    whole = name.items() <= found.items() and isinstance(found.get(holds), dict)
    if not whole or found.get("seal") != seal(found, *texts):
        raise UserError(f"{what} is not the table that was published (its seal differs): {RESTORE}")
    return found, texts


def standing(folder: Path) -> Path:
    """The path to read a folder from: its own, or the old version's if a writer was killed within `renewed`."""
    folder = folder.resolve()
    return folder if folder.exists() or not _aside(folder, "old").exists() else _aside(folder, "old")


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Lock a folder within the block, so that no other process changes it, after `recover`."""
    folder = folder.resolve()
    with alone(folder.parent / f".{folder.name}.lock"):
        recover(folder)
        yield


def swap(folder: Path, tables: Mapping[str, str], name: str, record: Mapping[str, Any]) -> None:
    """Write tables and their sealed record into a folder: either all of them or none. Other files in it stay.

    The folder is replaced by a copy with the new files. Call this inside `changing`.

    Args:
        folder: The folder; it need not exist.
        tables: Text of each table by file name, in the order in which they are sealed.
        name: File name of the record.
        record: The record; its seal is added.
    """
    sealed = {**record, "seal": seal(record, *(text.encode() for text in tables.values()))}
    with renewed(folder) as new:
        if folder.exists():
            shutil.copytree(folder, new, symlinks=True)
        else:
            new.mkdir()
        for file, text in {**tables, name: json_text(sealed)}.items():
            write_text(new / file, text)


@contextmanager
def renewed(folder: Path) -> Iterator[Path]:
    """Replace a folder by the one that the block creates at the path it is given; after an error the old one stays.

    At every instant there is a complete folder, at its path or aside (see `standing`).
    """
    folder = folder.resolve()
    new = _aside(folder, "new")
    try:
        yield new
        if folder.exists():
            folder.rename(_aside(folder, "old"))
        new.rename(folder)
    finally:
        recover(folder)


def recover(folder: Path) -> None:
    """Clean up after a process killed within `renewed`: remove its new folder, put the old one back if needed."""
    new, old = _aside(folder, "new"), _aside(folder, "old")
    if new.exists():
        shutil.rmtree(new)
    if old.exists() and not folder.exists():
        old.rename(folder)
    elif old.exists():
        old.rename(new)
        shutil.rmtree(new)


def _aside(folder: Path, what: str) -> Path:
    """The temporary path of the ``"new"`` or ``"old"`` version of a folder."""
    return folder.parent / f".{folder.name}.{what}"
