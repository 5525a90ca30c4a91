"""``gendyn data``: fetch or import a data set, verify it, prepare it, list what there is."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_scripts import cifar, imagenet, images, mnist
from data_scripts.catalogue import ENTRIES
from data_scripts.fetch import fetch
from data_scripts.sources import Source, open_source
from gendyn_lite.data import data_root, image_folder, loading, prepared
from gendyn_lite.data.loading import FOLDER
from gendyn_lite.data.storage import lock_of, locked, replacing
from gendyn_lite.errors import UserError, unknown_name

EMBEDDED = tuple(loading.EMBEDDED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``gendyn data`` to a parser."""
    parser.add_argument("name", nargs="?", help="mnist, cifar10, cifar100, imagenet or folder:PATH")
    parser.add_argument("--from", dest="source", type=Path, metavar="PATH", help="import a local copy: no network")
    parser.add_argument("--root", type=Path, help="folder of the prepared data (default: GENDYN_DATA, else ./datasets)")
    parser.add_argument("--mirror", action="append", default=[], metavar="URL", help="a place to fetch from first")
    parser.add_argument(
        "--description", metavar="TEXT", help="what an imported copy truly is, shown beside its results"
    )
    parser.add_argument("--size", type=int, metavar="N", help="folder:PATH only: resize and cut every image to NxN")
    parser.add_argument("--list", action="store_true", help="show every data set and what is prepared, and where")
    parser.add_argument("--verify", metavar="NAME", help="read every byte of a prepared set and compare its checksums")


def run(args: argparse.Namespace) -> int:
    """Do what the arguments say.

    Raises:
        UserError: A mistake in them, in the source, or trouble with the disk or the network.
    """
    root = data_root(args.root)
    if args.list:
        print(listing(root))
    elif args.verify:
        folder = prepared_folder(args.verify, root)
        record = imagenet.verify(folder) if args.verify == "imagenet" else prepared.verify(folder)
        print(f"{args.verify}: every byte is as it was prepared ({record['description']}, {record['fingerprint']})")
    elif not args.name:
        raise UserError("gendyn data needs a NAME, --list or --verify NAME; names: " + ", ".join(ENTRIES))
    else:
        options = {"mirrors": args.mirror, "description": args.description, "size": args.size}
        prepare(args.name, root, source=args.source, **options)
    return 0


def prepare(
    name: str,
    root: Path,
    *,
    source: Path | None = None,
    mirrors: Sequence[str] = (),
    description: str | None = None,
    size: int | None = None,
) -> None:
    """Import or fetch a data set and put its prepared form under `root`.

    Args:
        name: Name of the set, or ``folder:PATH``.
        root: Folder of the prepared data.
        source: A local copy; None to fetch it.
        mirrors: Folders (URLs) to try before the known ones.
        description: What an imported copy truly is; None to find out.
        size: Side to resize and cut one's own images to.

    Raises:
        UserError: A mistake in these, in the source, or trouble with the disk or the network.
    """
    if name in EMBEDDED:
        print(f"{name} comes with the library: nothing to prepare")
        return
    _check(name, description, size)
    to = prepared_path(name, root)
    if name.startswith(FOLDER):
        source = source or Path(name.removeprefix(FOLDER))
    with locked(lock_of(to)):
        if source is None and prepared.exists(to):
            print("already prepared: ", end="")
            report(to, prepared.read_record(to))
            return
        downloads = root / ".downloads" / name
        path = source or fetch_all(name, downloads, mirrors)
        record = _write(name, path, to, description=description, size=size)
        shutil.rmtree(downloads, ignore_errors=True)
    report(to, record)


def _check(name: str, description: str | None, size: int | None) -> None:
    """Refuse a name or an option that fits nothing, before anything is done."""
    own = name.startswith(FOLDER)
    if not own and name not in ENTRIES:
        raise unknown_name("dataset", name, [*ENTRIES, "folder:PATH"])
    if size is not None and not (own and size > 0):
        raise UserError(f"--size is {size}, expected a positive number of pixels, and folder:PATH")
    if description is not None and name == "mnist":
        raise UserError("--description is for copies that differ; MNIST is accepted byte for byte only")


def _write(name: str, path: Path, to: Path, *, description: str | None, size: int | None) -> dict[str, Any]:
    """Write the prepared form aside and rename it to `to`; its record."""
    with replacing(to) as new, tempfile.TemporaryDirectory(prefix=f".{to.name}.aside-", dir=new.parent) as scratch:
        if name == "mnist":
            return mnist.prepare(path, new)
        if name == "imagenet":
            return imagenet.prepare(path, new, description=description)
        source = open_source(path, Path(scratch))
        if name.startswith(FOLDER):
            return _prepare_own(name, source, new, description=description, size=size)
        return cifar.prepare(name, source, new, description=description)


def fetch_all(name: str, folder: Path, mirrors: Sequence[str]) -> Path:
    """Fetch the files of a set; the archive, or the folder of several files.

    Raises:
        UserError: It cannot be fetched.
    """
    entry = ENTRIES[name]
    if not entry.downloads:
        raise UserError(f"{entry.title} cannot be fetched: get it from {entry.source} PATH")
    paths = [fetch(download, folder, mirrors=mirrors) for download in entry.downloads]
    return paths[0] if len(paths) == 1 else folder


def _prepare_own(name: str, source: Source, to: Path, *, description: str | None, size: int | None) -> dict[str, Any]:
    """The prepared form of one's own images, stamped so that a later change of the folder is noticed."""
    named = Path(name.removeprefix(FOLDER))
    record = {
        "kind": "image tree",
        "archive_sha256": source.sha256,
        "size": size,
        "stamp": image_folder.stamp(named) if source.where == str(named) else None,
    }
    text = description or image_folder.describe(named) + (f", {size}x{size}" if size else "")
    return images.prepare(source, to, name=name, description=text, record=record, size=size)


def prepared_path(name: str, root: Path) -> Path:
    """Where a set is, or would be, prepared."""
    return root / (image_folder.key(Path(name.removeprefix(FOLDER))) if name.startswith(FOLDER) else name)


def prepared_folder(name: str, root: Path) -> Path:
    """Where a set is prepared.

    Raises:
        UserError: It is not.
    """
    folder = prepared_path(name, root)
    if not prepared.exists(folder):
        raise UserError(f"{name} is not prepared in {root}: run `gendyn data {name}`")
    return folder


def report(folder: Path, record: dict) -> None:
    """Say what was prepared."""
    counts = {split: sum(record["counts"][split]) for split in ("train", "test")}
    print(
        f"{record['description']}: {counts['train']:,} training and {counts['test']:,} test images, "
        f"{len(record['class_names'])} classes, fingerprint {record['fingerprint']}, in {folder}"
    )


def listing(root: Path) -> str:
    """The table of ``--list``: name, size, licence, source, what is prepared, and where."""
    rows = [("name", "size", "licence", "source", "prepared")]
    for name, entry in ENTRIES.items():
        state = "embedded" if name in EMBEDDED else _state(root / name)
        rows.append((name, entry.size, entry.licence, entry.source, state))
    for folder in sorted(root.glob("folder-*")):
        if prepared.exists(folder):
            rows.append(("folder:PATH", "", "yours", "your own images", _state(folder)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*map(str.ljust, row[:4], widths), row[4]]).rstrip() for row in rows)


def _state(folder: Path) -> str:
    return f"{prepared.read_record(folder)['description']}, in {folder}" if prepared.exists(folder) else "no"
