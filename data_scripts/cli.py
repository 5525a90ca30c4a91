"""``gendyn data``: fetch or import a data set and prepare it, verify a prepared one, or list all."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_scripts import images, originals
from data_scripts.catalogue import ENTRIES, fetch
from gendyn_lite.config import shown
from gendyn_lite.data import data_root, image_folder, loading, prepared
from gendyn_lite.data.loading import FOLDER, folder_of, side_of
from gendyn_lite.data.sources import UNPACKED, Source, open_source
from gendyn_lite.decode import MOST_PIXELS
from gendyn_lite.errors import UserError, disk_errors, named_path, unknown_name
from gendyn_lite.results.files import changing, renewed

EMBEDDED = loading.embedded()
MOST_SIDE = math.isqrt(MOST_PIXELS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``gendyn data`` to a parser."""
    add = parser.add_argument
    add("name", nargs="?", help="mnist, cifar10, cifar100, imagenet or folder:PATH")
    add("--from", dest="source", metavar="PATH", help="import a local copy instead of downloading")
    add("--root", help="folder of the prepared data (default: GENDYN_DATA, else ./datasets)")
    add("--mirror", action="append", default=[], metavar="URL", help="an address to try first for the download")
    add("--description", metavar="TEXT", help="what an imported copy truly is; shown beside its results")
    add("--size", type=int, metavar="N", help="for folder:PATH: resize and crop every image to NxN")
    add("--list", action="store_true", help="list all data sets, and which are prepared and where")
    add("--verify", metavar="NAME", help="verify the checksums of all files of a prepared set")


def run(args: argparse.Namespace) -> int:
    """Execute the command with parsed arguments; returns the exit code.

    Raises:
        UserError: The arguments or the source are invalid.
        Failed: The disk or the network failed.
    """
    with disk_errors(root := data_root(args.root)):
        _run(args, root)
    return 0


def _run(args: argparse.Namespace, root: Path) -> None:
    """Prepare, list or verify, whichever the arguments ask for."""
    options = {"mirrors": args.mirror, "description": args.description, "size": args.size}
    if (args.name is not None) + args.list + (args.verify is not None) != 1:
        raise UserError("gendyn data needs either a NAME, --list or --verify NAME; names: " + ", ".join(ENTRIES))
    if args.name is not None:
        source = None if args.source is None else named_path(args.source, what="--from")
        prepare(args.name, root, source=source, **options)
    elif args.source is not None or any(value not in (None, []) for value in options.values()):
        raise UserError("--list and --verify can be combined only with --root: leave out the other options")
    elif args.list:
        print(listing(root))
    else:
        verify(args.verify, root)


def verify(name: str, root: Path) -> None:
    """Verify all files of a prepared set, and print that they are unchanged.

    Raises:
        UserError: A file was altered, or the set is not prepared.
    """
    if name in EMBEDDED:
        raise UserError(f"{name} comes with the library: there is nothing to verify")
    folder = prepared.find(prepared_path(name, root))
    if folder is None:
        raise UserError(f"{name} is not prepared in {root}: run `gendyn data {name}`")
    record = prepared.read_record(folder, name)
    prepared.check(folder, record)
    if name == "imagenet":
        images.verify_imagenet(record)
    print(f"{name}: every byte is as it was prepared ({record['description']}, {record['fingerprint']})")


def prepare(
    name: str,
    root: Path,
    *,
    source: Path | None = None,
    mirrors: Sequence[str] = (),
    description: str | None = None,
    size: int | None = None,
) -> None:
    """Import or download a data set, and write its prepared form to a folder in `root`.

    Args:
        name: Name of the set, or ``folder:PATH``.
        root: Folder of the prepared data.
        source: A local copy to import; None to download the set.
        mirrors: URLs of folders to try before the known addresses.
        description: What an imported copy truly is; None to determine it from the files.
        size: Side to resize and crop the user's own images to.

    Raises:
        UserError: An argument or the source is invalid, or the folder contains other files.
        Failed: The disk or the network failed.
    """
    to = prepared_path(name, root)
    _check_options(name, source, mirrors, description, size)
    if name in EMBEDDED:
        print(f"{name} comes with the library: nothing to prepare")
        return
    to = Path(os.path.realpath(to)) if to.is_symlink() else to
    if name.startswith(FOLDER):
        source = source or folder_of(name)
    if source or not prepared.find(to):
        check_place(to, source)
    with disk_errors(to), changing(to):
        if source is None and (folder := prepared.find(to)):
            print("already prepared: ", end="")
            report(folder, prepared.read_record(folder, name))
            return
        downloads = root / ".downloads" / name
        path = source or fetch_all(name, downloads, mirrors)
        record = _write(name, path, to, description=description, size=size)
        for download in ENTRIES[name].downloads if source is None else ():
            (downloads / download.file).unlink(missing_ok=True)
        with suppress(OSError):  # the folders do not exist or are not empty
            downloads.rmdir()
            downloads.parent.rmdir()
    report(to, record)


def _check_options(
    name: str, source: Path | None, mirrors: Sequence[str], description: str | None, size: int | None
) -> None:
    """Refuse options that do not apply to this data set."""
    own = name.startswith(FOLDER)
    if own and (side := side_of(name)):
        told = f"{name} resizes images each time they are loaded, and what is prepared has one size"
        raise UserError(f"{told}: give --size {side} with the name {name.rpartition('@')[0]}")
    if size is not None and not (own and 0 < size <= MOST_SIDE):
        raise UserError(f"--size is {size}, expected 1 to {MOST_SIDE:,} pixels, and folder:PATH")
    if description is not None and name == "mnist":
        raise UserError("--description is for copies that differ, but MNIST is accepted byte for byte only")
    if description is not None and not (description.strip() and description.isprintable()):
        raise UserError(f"--description is {description!r}, expected one line of text")
    if mirrors and (source is not None or own or not ENTRIES[name].downloads):
        raise UserError("--mirror is for downloads, but here nothing is downloaded: leave it out")
    if strange := [mirror for mirror in mirrors if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", mirror)]:
        raise UserError(f"--mirror is {shown(strange[0])}, expected an address such as https://example.org/data")


def check_place(to: Path, source: Path | None) -> None:
    """Check that `to` can be written to without replacing the source or anything that is not a prepared set.

    Raises:
        UserError: `to` contains the source, or exists and is neither empty nor a prepared set.
    """
    advice = "move it away, or choose another place with --root"
    if source is not None and Path(os.path.realpath(source)).is_relative_to(os.path.realpath(to)):
        raise UserError(f"{source} is where the prepared form would be written ({to}): {advice}")
    if not to.is_dir():
        if os.path.lexists(to):
            raise UserError(f"{to} exists, and was not made by `gendyn data`: {advice}")
        return
    here = sorted(path.name for path in to.iterdir())
    ours = (prepared.RECORD, *prepared.read_record(to)["files"]) if prepared.RECORD in here else ()
    if foreign := [name for name in here if name not in ours]:
        more = f" and {len(foreign) - 1:,} more" if foreign[1:] else ""
        raise UserError(f"{to} contains {foreign[0]!r}{more}, not made by `gendyn data`: {advice}")


def _write(name: str, path: Path, to: Path, *, description: str | None, size: int | None) -> dict[str, Any]:
    """Write the prepared form to the folder `to`, atomically; returns its record."""
    with renewed(to) as new:
        new.mkdir()
        if name == "imagenet":
            record = images.register_imagenet(path, new, description=description)
        else:
            source = open_source(path, new)
            if name == "mnist":
                record = originals.prepare_mnist(source, new)
            elif name.startswith(FOLDER):
                record = _prepare_own(name, source, new, description=description, size=size)
            else:
                record = originals.prepare_cifar(name, source, new, description=description)
            (new / UNPACKED).unlink(missing_ok=True)
        check_place(to, path)  # refuse to replace anything that has appeared there meanwhile
    return record


def fetch_all(name: str, folder: Path, mirrors: Sequence[str]) -> Path:
    """Download the files of a set.

    Returns:
        The file if there is only one, else the folder.

    Raises:
        UserError: The set cannot be downloaded.
    """
    entry = ENTRIES[name]
    if not entry.downloads:
        raise UserError(f"{entry.title} cannot be downloaded: get it from {entry.source} PATH")
    paths = [fetch(download, folder, mirrors=mirrors) for download in entry.downloads]
    return paths[0] if len(paths) == 1 else folder


def _prepare_own(name: str, source: Source, to: Path, *, description: str | None, size: int | None) -> dict[str, Any]:
    """Write the prepared form of the user's own images, with a stamp by which later changes are noticed."""
    named = folder_of(name)
    stamp = image_folder.stamp(named) if source.where == str(named) else None
    record = {"kind": "image tree", "archive_sha256": source.sha256, "size": size, "stamp": stamp}
    text = description or image_folder.describe(named, size=size)
    tree = image_folder.listing(source.names, where=source.where)
    return images.prepare_tree(source, tree, to, size=size, name=name, description=text, source=record)


def prepared_path(name: str, root: Path) -> Path:
    """The folder of a set's prepared form, whether or not it exists.

    Raises:
        UserError: There is no such set.
    """
    if name not in ENTRIES and not name.startswith(FOLDER):
        raise unknown_name("dataset", name, [*ENTRIES, "folder:PATH"])
    return root / (image_folder.key(folder_of(name)) if name.startswith(FOLDER) else name)


def report(folder: Path, record: dict) -> None:
    """Print what was prepared."""
    counts = {split: sum(record["counts"][split]) for split in ("train", "test")}
    images = f"{counts['train']:,} training and {counts['test']:,} test images, {len(record['class_names'])} classes"
    print(f"{record['description']}: {images}, fingerprint {record['fingerprint']}, in {folder}")


def listing(root: Path) -> str:
    """The table for ``--list``: name, size, licence and source of each set, and whether and where it is prepared."""
    rows = [("name", "size", "licence", "source", "prepared")]
    for name, entry in ENTRIES.items():
        state = "embedded" if name in EMBEDDED else _state(root / name)
        rows.append((name, entry.size, entry.licence, entry.source, state))
    for folder in sorted(root.glob("folder-*")):
        if (folder / prepared.RECORD).is_file():
            rows.append(("folder:PATH", "", "yours", "your own images", _state(folder)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*map(str.ljust, row[:4], widths), row[4]]).rstrip() for row in rows)


def _state(folder: Path) -> str:
    """Whether and where a set is prepared, in words."""
    try:
        found = prepared.find(folder)
        return f"{prepared.read_record(found)['description']}, in {found}" if found else "no"
    except UserError as error:  # show a damaged set in the list, instead of failing
        return str(error)
