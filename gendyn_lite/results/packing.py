"""Complete runs in one small file: packed where they were made, checked and taken in elsewhere. No pandas is needed."""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gendyn_lite import __version__
from gendyn_lite.config import NAME, check_name
from gendyn_lite.errors import Failed, UserError, shown
from gendyn_lite.results.files import AGAIN, alone, json_text, parsed, read_file, recover, renewed, write_bytes
from gendyn_lite.results.runs import COMPLETE, check_hashes, read_run, rows_of, run_folders, run_of, runs_root

FILES = ("config.json", "env.json", "metrics.jsonl", COMPLETE)  # of a run; the last one last, as its run wrote them
INDEX, FORMAT, VERSION = "gendyn_runs.json", "runs of gendyn_lite", 1  # the first member, and what it says
MOST_BYTES = 1 << 28  # of all files together, and of the pack
MEMBER = re.compile(rf"{NAME.pattern}/[0-9a-f]{{16}}/({'|'.join(map(re.escape, FILES))})")
_SEAL = 64  # characters: the SHA-256 of all before it, which ends the file as the comment of the archive
_AGAIN = "pack the runs again and bring the file over again; nothing was taken in"
_DAMAGED = (zipfile.BadZipFile, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError, OSError)
_Files = dict[str, bytes]  # the four files of a run by name


class Packed(NamedTuple):
    """What `pack` did.

    Attributes:
        file: The pack.
        size: Its bytes.
        runs: The packed runs, each as EXPERIMENT/RUN_ID.
        incomplete: Runs that are not complete and were left out.
        refused: Damaged runs, which were left out too, a line each.
    """

    file: Path
    size: int
    runs: list[str]
    incomplete: list[str]
    refused: list[str]


class Unpacked(NamedTuple):
    """What `unpack` did.

    Attributes:
        taken: The runs that were taken in, each as EXPERIMENT/RUN_ID.
        there: Runs that were complete already, with the same metrics.
        refused: Runs that were not taken in (complete with other metrics, damaged or being written here), a line each.
    """

    taken: list[str]
    there: list[str]
    refused: list[str]


def pack(experiment: str | None = None, *, root: str | Path | None = None, out: str | Path = "runs.zip") -> Packed:
    """Put the complete runs of every profile into one file, without checkpoints.

    It is a zip archive with the four small files of each run, an index with the SHA-256 of each, and a seal over the
    whole. The same runs give the same bytes. It is written aside and renamed.

    Args:
        experiment: Name of the experiment (default: all).
        root: Folder of the runs (default: the variable GENDYN_RUNS, else ``./runs``).
        out: The file to write; one of that name is replaced if it is a pack too.

    Returns:
        The file, its size in bytes, and which runs were packed and left out.

    Raises:
        UserError: No run is complete, `out` is something else than a pack, or the runs take more than 128 MiB.
        Failed: Every complete run is damaged.

    >>> pack("random_labels", root="no_such_folder")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: no complete run of 'random_labels' under no_such_folder: run it first ...
    """
    if experiment is not None:
        check_name("experiment", experiment)
    file, place = Path(out), runs_root(root)
    if file.exists():
        _sealed(file, remedy="it stays, choose another name with --out")
    runs: dict[str, _Files] = {}
    incomplete, refused = [], []
    places = sorted(each for each in place.glob(experiment or "*") if NAME.fullmatch(each.name))
    for path in (path for each in places for path in run_folders(each)):
        name = f"{path.parent.name}/{path.name}"
        try:
            if (path / COMPLETE).exists():
                runs[name] = _whole(path, _read(path))
            else:
                read_run(path)
                incomplete.append(name)
        except UserError as error:
            refused.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    if not runs and refused:
        raise Failed(f"{refused[0]} ({len(refused)} refused, none to pack)")
    if not runs:
        named = f"complete run{f' of {experiment!r}' if experiment else ''} under {place}"
        left = f"; {len(incomplete)} not complete" if incomplete else ""
        raise UserError(f"no {named}: run it first (gendyn run, make run){left}")
    content = _archive(runs)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, content)
    return Packed(file, len(content), list(runs), incomplete, refused)


def unpack(file: str | Path, *, root: str | Path | None = None) -> Unpacked:
    """Take in the runs of a pack. All of it is checked before anything is written; then each run is moved in whole.

    A run that is complete here stays as it is. What an interrupted one left is replaced, unless a process is at it.

    Args:
        file: A file that `pack` wrote.
        root: Folder of the runs (default: the variable GENDYN_RUNS, else ``./runs``).

    Returns:
        Which runs were taken in, were there already, and were refused.

    Raises:
        UserError: It is no pack, of another version, was cut or edited, holds anything but runs, or would unpack to
            more than 256 MiB. Nothing was taken in.

    >>> unpack("no_such_file.zip")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: no_such_file.zip is missing: expected a file as gendyn results pack wrote it, ...
    """
    done = Unpacked([], [], [])
    for name, files in _opened(Path(file)).items():
        try:
            (done.taken if _taken_in(runs_root(root) / name, files) else done.there).append(name)
        except (UserError, Failed) as error:
            done.refused.append(str(error).replace(AGAIN, "remove the run's folder and unpack again"))
    return done


def _read(path: Path) -> _Files:
    """The four files of a run's folder."""
    return {name: read_file(path / name) for name in FILES}


def _whole(path: Path, files: _Files) -> _Files:
    """The files of a complete run, if they are the ones that it wrote; `path` ends in its experiment and its id."""
    run = run_of(parsed(files["config.json"], path / "config.json"), path)
    if run.config.experiment != path.parent.name:
        raise UserError(f"run folder {path}: it belongs to the experiment {run.config.experiment!r}: move it there")
    check_hashes(path, files.__getitem__)
    parsed(files["env.json"], path / "env.json")
    rows_of(files["metrics.jsonl"], path / "metrics.jsonl")
    return files


def _archive(runs: Mapping[str, _Files]) -> bytes:
    """The pack of some runs."""
    members = {f"{run}/{name}": files[name] for run, files in sorted(runs.items()) for name in FILES}
    if (size := sum(map(len, members.values()))) > MOST_BYTES // 2:  # the index is far less than the rest
        raise UserError(f"the runs take {size:,} bytes, at most {MOST_BYTES // 2:,}: pack one experiment at a time")
    index = {"format": FORMAT, "version": VERSION, "gendyn_lite": __version__}
    index |= {"runs": sorted(runs), "sha256": _hashes(members)}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in {INDEX: json_text(index).encode(), **members}.items():
            member = zipfile.ZipInfo(name)  # of 1980
            member.create_system, member.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # the same on every system
            archive.writestr(member, content, zipfile.ZIP_LZMA)
        archive.comment = bytes(_SEAL)
    body = whole.getvalue()[:-_SEAL]
    return body + hashlib.sha256(body).hexdigest().encode()


def _hashes(members: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each member."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}


def _sealed(path: Path, *, remedy: str) -> bytes:
    """The bytes of a pack, as it was written."""
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} is no pack of runs (it is larger than {MOST_BYTES:,} bytes): {remedy}")
    content = read_file(path, remedy=remedy)
    if not (content.startswith(b"PK\3\4") and content[30:].startswith(INDEX.encode())):  # behind the header
        raise UserError(f"{path} is no pack of runs: {remedy}")
    if hashlib.sha256(content[:-_SEAL]).hexdigest().encode() != content[-_SEAL:]:
        raise UserError(f"{path} was cut or changed after it was packed (its seal differs): {remedy}")
    return content


def _opened(path: Path) -> dict[str, _Files]:
    """The runs in a pack, by EXPERIMENT/RUN_ID, all of them checked."""
    content = _sealed(path, remedy="expected a file as gendyn results pack wrote it, bring it over again")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _checked(path, archive)
    except UserError:
        raise
    except _DAMAGED as error:
        raise UserError(f"{path} cannot be read ({error}): {_AGAIN}") from None


def _checked(path: Path, archive: zipfile.ZipFile) -> dict[str, _Files]:
    """The runs in an archive that is sealed: names and sizes first, then the index, then every file, then every run."""
    members = archive.infolist()
    if (size := sum(member.file_size for member in members)) > MOST_BYTES:
        raise UserError(f"{path} would unpack to {size:,} bytes, at most {MOST_BYTES:,}: refused as a possible bomb")
    if not members:
        raise zipfile.BadZipFile("it has no members")
    index = parsed(_content(archive, members[0]), path / INDEX, remedy=_AGAIN)
    made = f"packed by gendyn_lite {shown(index.get('gendyn_lite'))}, this is {__version__}"
    if (index.get("format"), index.get("version")) != (FORMAT, VERSION):
        told = (
            f"version {shown(index.get('version'))} of {shown(index.get('format'))}, expected {VERSION} of {FORMAT!r}"
        )
        raise UserError(f"{path} is {told} ({made}): pack and unpack with the same version")
    names = [member.orig_filename for member in members[1:]]  # as written: Python cuts its own copy at a NUL
    for member, name in zip(members[1:], names, strict=True):
        if not MEMBER.fullmatch(name) or stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            told = f"{shown(name)}, expected plain files EXPERIMENT/RUN_ID/NAME with the names {', '.join(FILES)}"
            raise UserError(f"{path} holds {told}: it is not to be trusted, nothing was taken in")
    runs = sorted({name.rpartition("/")[0] for name in names})
    once = runs and sorted(names) == sorted(f"{run}/{name}" for run in runs for name in FILES)
    content = {name: _content(archive, member) for name, member in zip(names, members[1:], strict=True)} if once else {}
    if not once or (index.get("runs"), index.get("sha256")) != (runs, _hashes(content)):
        raise UserError(f"{path}: its members are not the files that its index lists, each once: {_AGAIN}")
    try:
        return {run: _whole(Path(run), {name: content[f"{run}/{name}"] for name in FILES}) for run in runs}
    except UserError as error:
        raise UserError(f"{path} ({made}): {str(error).replace(AGAIN, _AGAIN)}") from None


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member; a little at a time, as zipfile inflates all that it is asked for, whatever its size."""
    if member.compress_type != zipfile.ZIP_LZMA:
        raise zipfile.BadZipFile(f"{shown(member.orig_filename)} is compressed otherwise")
    with archive.open(member) as file:
        return b"".join(iter(lambda: file.read(1 << 12), b""))


def _taken_in(place: Path, files: _Files) -> bool:
    """Move a run in; False if it is complete there with the same metrics."""
    if place.exists() and not place.is_dir():
        raise UserError(f"{place} is not a folder: remove it and unpack again")
    with alone(place.with_suffix(".lock"), wait=False):
        recover(place.resolve())
        if not (place / COMPLETE).exists():
            with renewed(place) as new:
                new.mkdir()
                for name in FILES:
                    write_bytes(new / name, files[name])
            return True
    own = _whole(place, _read(place))
    if own != files and _compared(own, files) != _compared(files, own):
        told = "is complete with other metrics, or with another record of the same execution"
        raise UserError(f"{place} {told}: it stays; to have the packed run, remove the folder and unpack again")
    return False


def _compared(files: _Files, others: _Files) -> tuple[object, ...]:
    """What two complete runs must agree in: metrics to six digits; if seconds agree, one execution, its record too."""
    rows, theirs = (rows_of(each["metrics.jsonl"], Path("metrics.jsonl")) for each in (files, others))
    record = parsed(files["env.json"], Path("env.json"))
    if [row.pop("seconds", None) for row in rows] != [row.get("seconds") for row in theirs]:
        record = {}
    return [{key: format(v, ".6g") if isinstance(v, float) else v for key, v in row.items()} for row in rows], record
