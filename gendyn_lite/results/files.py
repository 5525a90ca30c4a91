"""Files written whole or not at all; folders of published tables: where they lie, their seals, swapped in whole."""

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
SILENT_SECONDS = 2.0
PARTIAL = "gendyn-partial"  # suffix of what is being written
_PACKAGE = Path(__file__).resolve().parents[1]


class Account(NamedTuple):
    """What a command did, and what it refused to take; a line each."""

    done: list[str]
    refused: list[str]


def read_file(path: Path, *, remedy: str = AGAIN) -> bytes:
    """The bytes of a file; a folder, a pipe or nothing in its place is refused."""
    if not path.is_file():
        raise UserError(f"{path} {'is not a file' if path.exists() else 'is missing'}: {remedy}")
    return path.read_bytes()


def read_json(path: Path, *, remedy: str = AGAIN) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: It is missing or damaged, or holds something else (the file, the reason, the remedy).
    """
    return parsed(read_file(path, remedy=remedy), path, remedy=remedy)


def parsed(text: bytes, path: Path, *, remedy: str = AGAIN) -> dict[str, Any]:
    """The JSON object that a text of a file stands for.

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
    """JSON as it is written to files."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, as `write_text` does."""
    write_text(path, json_text(value))


def write_text(path: Path, text: str) -> None:
    """Write text, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write aside, then rename: a reader sees the old file or the new one, never half of one.

    What killed processes left beside the file is removed.
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
    """Hold a lock file exclusively among processes. The system frees the lock of a dead process.

    After two seconds of waiting, one line on stderr says who holds it, and the wait goes on; or it ends there.

    Raises:
        Failed: Another process holds it, and `wait` is False.
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
            raise Failed(f"{who} holds {lock}: repeat this when it is done") from None
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
    """The path of the folder ``book``, of the checkout that this package is installed from, else of the working folder.

    Raises:
        UserError: There is none: the package was installed without its book.

    >>> (book_folder() / "_toc.yml").is_file()
    True
    """
    for place in (_PACKAGE.parent, Path.cwd()):
        if (place / "book" / "_toc.yml").is_file():
            return place / "book"
    raise UserError("no book/_toc.yml here: run this inside a clone of the repository")


def roots() -> dict[str, str]:
    """Where data and runs are kept, for a kernel whose working folder is that of its chapter: paths by variable."""
    top = book_folder().parent
    defaults = {"GENDYN_DATA": top / "datasets", "GENDYN_RUNS": top / "runs"}
    return {name: str(Path(os.environ.get(name) or path).resolve()) for name, path in defaults.items()}


def published_root() -> Path:
    """Folder of the published tables: book/results of the checkout, or the copy inside an installed package."""
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
    aside = {name[1:-4] for name in found if name.startswith(".") and name.endswith(".old")}  # see `standing`
    return sorted(aside | {name for name in found if NAME.fullmatch(name)})


def place_of(experiment: str, root: Path | None) -> Path:
    """The folder of a published experiment."""
    check_name("experiment", experiment)
    if experiment == "performance":
        raise UserError("experiment 'performance': this name is taken by the benchmarks, choose another one")
    return (root or published_root()).resolve() / experiment


def seal(record: Mapping[str, Any], *tables: bytes) -> str:
    """One SHA-256 over some tables and their whole record except the seal itself.

    It finds damage and careless edits. Someone who edits can also seal again: then only the runs themselves tell.

    >>> seal({"a": 1, "seal": "old"}, b"table") == seal({"a": 1}, b"table") != seal({"a": 1}, b"tables")
    True
    """
    rest = {name: value for name, value in record.items() if name != "seal"}
    total = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for table in tables:
        total.update(hashlib.sha256(table).digest())
    return total.hexdigest()


def unsealed(what: Path, record: Path, *tables: Path, holds: str, **name: str) -> tuple[dict[str, Any], list[bytes]]:
    """A published record and its tables, as they were published.

    Args:
        what: What to call them in an error.
        record: The file of the record.
        *tables: The files of the tables, in the order in which they were sealed.
        holds: Key of the record under which there is an object.
        **name: What the record must say of itself, for instance ``experiment="random_labels"``.

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
    """Where to read a folder: in its place, or aside if its writer was killed between the two renames of a swap."""
    folder = folder.resolve()
    return folder if folder.exists() or not _aside(folder, "old").exists() else _aside(folder, "old")


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Exclusive access to a folder among processes; what a killed writer left is first put back or removed."""
    folder = folder.resolve()
    with alone(folder.parent / f".{folder.name}.lock"):
        recover(folder)
        yield


def swap(folder: Path, tables: Mapping[str, str], name: str, record: Mapping[str, Any]) -> None:
    """Write some tables of a folder and their record, sealed: all of them, or none. Other files there stay.

    A copy of the folder with the new files takes its place. To be called under `changing`.

    Args:
        folder: The folder, which need not exist.
        tables: Text of each table by its file's name, in the order in which they are sealed.
        name: File name of the record.
        record: What it says; the seal is added.
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
    """A place for a new folder, which takes the place of an old one at the end; a whole one exists at every instant.

    Yields:
        Where to make it. The old one is then renamed away and the new one takes its place; after an error it is gone.
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
