"""Pack complete runs into one small file, and unpack them on another machine after checking it. Needs no pandas."""

from __future__ import annotations

import lzma
import re
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

from gendyn_lite import __version__
from gendyn_lite.config import check_range, check_type
from gendyn_lite.errors import NAME, Failed, UserError, check_name, shown
from gendyn_lite.results.files import AGAIN, Account, alone, json_text, parsed, read_file, recover, renewed, write_bytes
from gendyn_lite.results.runs import COMPLETE, check_hashes, read_run, rows_of, run_folders, run_of, runs_root

FILES = ("config.json", "env.json", "metrics.jsonl", COMPLETE)  # of a run, in the order of writing
RECORDED = {  # entries of env.json that tables show, with their types
    **dict.fromkeys(("profile", "data", "device"), str | None),
    **dict.fromkeys(("n_train", "num_classes"), int | None),
}
FORMAT, VERSION = "runs of gendyn_lite", 1
MOST_BYTES = 1 << 28  # of all files together, unpacked
MAGIC = b"\xfd7zXZ\0"  # the first bytes of every .xz file
RUN = re.compile(rf"{NAME.pattern}/[0-9a-f]{{16}}")  # EXPERIMENT/RUN_ID
_AGAIN = "pack the runs again and copy the file again; nothing was unpacked"
_Files = dict[str, bytes]  # the content of the four files of a run, by name


def pack(experiment: str | None = None, *, root: str | Path | None = None, out: str | Path = "runs.xz") -> Account:
    """Pack the complete runs of all profiles into one file, without checkpoints.

    The file is JSON with the four small files of each run, compressed as .xz with a SHA-256 of the whole. The same runs
    give the same bytes. The file is written atomically.

    Args:
        experiment: Name of the experiment (default: all).
        root: Folder of the runs (default: the variable GENDYN_RUNS, else ``./runs``).
        out: The file to write; an existing file is replaced only if it is a pack.

    Returns:
        How many runs were packed and how many left out; and a line on each damaged run, which is not packed.

    Raises:
        UserError: No run is complete, `out` exists and is not a pack, or the runs take more than 256 MiB.
        Failed: Every complete run is damaged.

    >>> pack("random_labels", root="no_such_folder")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: no complete run of 'random_labels' under no_such_folder: run it first ...
    """
    if experiment is not None:
        check_name("experiment", experiment)
    file, place = Path(out), runs_root(root)
    if file.exists():
        _magic(file, remedy="it was not replaced, choose another name with --out")
    runs: dict[str, _Files] = {}
    incomplete, refused = 0, []
    places = sorted(each for each in place.glob(experiment or "*") if NAME.fullmatch(each.name))
    for path in (path for each in places for path in run_folders(each)):
        name = f"{path.parent.name}/{path.name}"
        try:
            if (path / COMPLETE).exists():
                runs[name] = _whole(path, _read(path))
            else:
                read_run(path)
                incomplete += 1
        except UserError as error:
            refused.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    if not runs and refused:
        raise Failed(f"{refused[0]} ({len(refused)} runs refused, none left to pack)")
    if not runs:
        named = f"complete run{f' of {experiment!r}' if experiment else ''} under {place}"
        left = f"; {incomplete} not complete" if incomplete else ""
        raise UserError(f"no {named}: run it first (gendyn run, make run){left}")
    content = _archive(runs)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, content)
    left = f"{incomplete} not complete, left out; " if incomplete else ""
    return Account([f"packed: {len(runs)} runs; {left}{len(content):,} bytes: {file}"], refused)


def unpack(file: str | Path, *, root: str | Path | None = None) -> Account:
    """Unpack the runs of a pack. The whole pack is checked before anything is written; each run is written atomically.

    A run that is complete in `root` is kept. An interrupted one is replaced, unless a process is writing it.

    Args:
        file: A file that `pack` wrote.
        root: Folder of the runs (default: the variable GENDYN_RUNS, else ``./runs``).

    Returns:
        How many runs were unpacked, and how many were there already with the same metrics; and a line on each run that
        was refused, because the one in `root` has other metrics, is damaged or is being written.

    Raises:
        UserError: The file is not a pack, is of another version, was truncated or edited, holds anything other than
            runs, or would unpack to more than 256 MiB. Nothing was unpacked.

    >>> unpack("no_such_file.xz")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: no_such_file.xz is missing: expected a file written by gendyn results pack; ...
    """
    taken, refused = [], []
    for name, files in _opened(Path(file)).items():
        try:
            taken.append(_taken_in(runs_root(root) / name, files))
        except (UserError, Failed) as error:
            refused.append(str(error).replace(AGAIN, "remove the run's folder and unpack again"))
    return Account([f"unpacked: {sum(taken)} runs; there already: {len(taken) - sum(taken)}"], refused)


def _read(path: Path) -> _Files:
    """The four files in a run's folder."""
    return {name: read_file(path / name) for name in FILES}


def _whole(path: Path, files: _Files) -> _Files:
    """Check the files of a complete run and return them.

    Args:
        path: Path of the run, which ends in EXPERIMENT/RUN_ID.
        files: Its files.

    Raises:
        UserError: A file is damaged, was edited or holds impossible values, or the run belongs to another path.
    """
    run = run_of(parsed(files["config.json"], path / "config.json"), path)
    if run.config.experiment != path.parent.name:
        raise UserError(f"run folder {path}: it belongs to the experiment {run.config.experiment!r}: move it there")
    check_hashes(path, files.__getitem__)
    record = parsed(files["env.json"], path / "env.json")
    for name, hint in RECORDED.items():
        check_type(f"{path / 'env.json'}: {name}", record.get(name), hint)
    rows = rows_of(files["metrics.jsonl"], path / "metrics.jsonl")
    for file, values in [("env.json", record), *(("metrics.jsonl", row) for row in rows)]:
        for name, value in values.items():
            _check_value(f"{path / file}: {shown(name)}", value)
    return files


def _check_value(name: str, value: object) -> None:
    """Refuse values that no run writes: numbers too large for any array, and text with control characters."""
    if isinstance(value, int):
        check_range(name, value, -inf, inf, True)
    if isinstance(value, str) and not value.replace("\n", " ").isprintable():
        raise UserError(f"{name} is {shown(value)}, expected text without control characters: {AGAIN}")


def _archive(runs: Mapping[str, _Files]) -> bytes:
    """The bytes of a pack of some runs, given by EXPERIMENT/RUN_ID."""
    texts = {run: {name: content.decode() for name, content in files.items()} for run, files in sorted(runs.items())}
    whole = json_text({"format": FORMAT, "version": VERSION, "gendyn_lite": __version__, "runs": texts}).encode()
    if len(whole) > MOST_BYTES:
        raise UserError(f"the runs take {len(whole):,} bytes, at most {MOST_BYTES:,}: pack one experiment at a time")
    return lzma.compress(whole, check=lzma.CHECK_SHA256, preset=9)


def _magic(path: Path, *, remedy: str) -> bytes:
    """The bytes of a file that starts like a pack; any other is refused."""
    content = read_file(path, remedy=remedy)
    if not content.startswith(MAGIC):
        raise UserError(f"{path} is not a pack of runs: {remedy}")
    return content


def _opened(path: Path) -> dict[str, _Files]:
    """The runs in a pack, by EXPERIMENT/RUN_ID, after all of them are checked."""
    content = _magic(path, remedy="expected a file written by gendyn results pack; copy it again")
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_BYTES)
    try:
        text = stream.decompress(content, MOST_BYTES + 1)
    except lzma.LZMAError:
        raise UserError(f"{path} was cut or changed after it was packed: {_AGAIN}") from None
    if len(text) > MOST_BYTES:
        raise UserError(f"{path} would unpack to more than {MOST_BYTES:,} bytes: refused as a possible zip bomb")
    if not stream.eof or stream.unused_data:
        raise UserError(f"{path} was cut or changed after it was packed: {_AGAIN}")
    index = parsed(text, path, remedy=_AGAIN)
    made = f"packed by gendyn_lite {shown(index.get('gendyn_lite'))}, this is {__version__}"
    if (index.get("format"), index.get("version")) != (FORMAT, VERSION):
        told = f"version {shown(index.get('version'))} of {shown(index.get('format'))}"
        raise UserError(f"{path} is {told}, expected {VERSION} of {FORMAT!r} ({made}): pack and unpack with the same")
    runs: dict[str, Any] = index["runs"] if isinstance(index.get("runs"), dict) else {"": None}
    for name, files in runs.items():
        if not _is_run(name, files):
            told = f"{shown(name)}, expected runs as EXPERIMENT/RUN_ID, each with the texts {', '.join(FILES)}"
            raise UserError(f"{path} holds {told}: it cannot be trusted, nothing was unpacked")
    try:
        return {run: _whole(Path(run), {name: files[name].encode() for name in FILES}) for run, files in runs.items()}
    except (UserError, UnicodeEncodeError) as error:
        raise UserError(f"{path} ({made}): {str(error).replace(AGAIN, _AGAIN)}") from None


def _is_run(name: str, files: Any) -> bool:
    """Whether an entry of a pack is a run: EXPERIMENT/RUN_ID with the texts of its four files."""
    named = isinstance(files, dict) and set(files) == set(FILES)
    return bool(RUN.fullmatch(name)) and named and all(isinstance(text, str) for text in files.values())


def _taken_in(place: Path, files: _Files) -> bool:
    """Write a run into its folder; returns False if the same run is complete there already.

    Raises:
        UserError: The folder holds a complete run with other metrics, or is not a folder.
        Failed: A process is writing the run.
    """
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
        raise UserError(f"{place} {told}: it was kept; to get the packed run, remove the folder and unpack again")
    return False


def _compared(files: _Files, others: _Files) -> tuple[object, ...]:
    """What two complete runs must have in common to count as the same.

    These are the metrics to six digits. If the seconds of all epochs agree too, both are copies of one execution, and
    their env.json must agree as well.
    """

    rows, theirs = (rows_of(each["metrics.jsonl"], Path("metrics.jsonl")) for each in (files, others))
    record = parsed(files["env.json"], Path("env.json"))
    if [row.pop("seconds", None) for row in rows] != [row.get("seconds") for row in theirs]:
        record = {}
    return [{key: format(v, ".6g") if isinstance(v, float) else v for key, v in row.items()} for row in rows], record
