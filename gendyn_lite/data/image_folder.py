"""Images in folders, train/CLASS/* and test/CLASS/*: one's own, and ImageNet's, which stay there and are indexed."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gendyn_lite.data import prepared
from gendyn_lite.data.decoding import FolderImages, Pool
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.decode import ColourMetError, Item, Options, Side, decode
from gendyn_lite.errors import UserError, disk_errors

Locate = Callable[[str], Item]
NewArray = Callable[[str, tuple[int, ...]], Tensor]
# What Pillow opens beside images: containers of science and film, and formats that other programs have to draw.
NO_IMAGES = ("BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF")
FEW = 500  # images up to which starting worker processes does not pay
TEST_NAMES = ("test", "val")  # val is taken where there is no test
# Names that others give to the two folders.
ALIKE: dict[str, str] = dict.fromkeys(("test", "testing", "val", "valid", "validation", "eval", "dev"), "test")
ALIKE |= dict.fromkeys(("train", "training"), "train")
TYPED_IN = "GENDYN_TYPED_IN"  # names the folder where a command was typed, for the kernel of a chapter
INDEX_FILES = tuple(f"{split}{kind}" for split in prepared.SPLITS for kind in (".txt", "_labels.npy"))
EXPECTED = "expected train/CLASS/* and test/CLASS/* with images"


@dataclass(frozen=True)
class Listing:
    """The images of a tree, sorted by class and name.

    Attributes:
        class_names: Sorted; the label is the place in this tuple.
        files: Paths of the images, by split (``"train"``, ``"test"``).
        labels: int64 [n], by split.
    """

    class_names: tuple[str, ...]
    files: dict[str, list[str]]
    labels: dict[str, np.ndarray]


def describe(path: Path, *, size: int | None = None) -> str:
    """What a result on these images is called."""
    return f"own images ({path.absolute().name})" + (f", {size}x{size}" if size else "")


def key(path: Path) -> str:
    """Name of the prepared form of a folder: its own name, and a hash of where it is.

    A name that is no folder (images that came from an archive) is the same wherever it is asked for.
    """
    place = path.resolve() if path.is_dir() else path
    return f"folder-{place.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"


def stamp(path: Path) -> str:
    """A hash of the names, sizes and times of all images, or of an archive: another one when they have changed."""
    total = hashlib.sha256()
    for name in [""] if path.is_file() else sorted(filter(is_image, walk(path))):
        status = (path / name).stat()
        total.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return total.hexdigest()[:16]


def walk(path: Path) -> Iterator[str]:
    """Every plain file below a folder, as a path relative to it with ``/``; links are followed, loops are not.

    Raises:
        UserError: It is no folder, or something named like an image is not a regular file.
        Failed: It cannot be read.
    """
    if not path.is_dir():
        here = "" if path.is_absolute() else f" in {os.environ.get(TYPED_IN) or Path.cwd()}"
        raise UserError(f"{path} is no folder{here}: {EXPECTED}")
    waiting: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while waiting:
        inner, above = waiting.pop()
        place = os.path.realpath(path / inner)
        if place in above:
            continue
        with disk_errors(path / inner), os.scandir(place) as entries:
            for entry in entries:
                name = f"{inner}/{entry.name}" if inner else entry.name
                if entry.is_dir():
                    waiting.append((name, (*above, place)))
                elif entry.is_file():
                    yield name
                elif is_image(name):
                    raise UserError(f"{path}/{name} is not a regular file, or is a broken link: remove it")


def locator(path: Path) -> Locate:
    """A function that says where a file below a folder is."""
    return lambda name: Item(f"{path}/{name}", name)


def listing(names: Iterable[str], *, where: str) -> Listing:
    """Sort the images of a tree into splits and classes.

    Other files are left out, which a warning tells but of hidden ones. Folders above one train/ only are stripped.

    Args:
        names: Paths of all files, relative, with ``/``.
        where: The folder or archive, for messages.

    Raises:
        UserError: There is no train/ or test/, an image is in no class, or the classes of both do not agree.

    >>> tree = listing(["train/cat/1.png", "train/dog/1.png", "test/cat/2.png", "test/dog/2.png"], where="pets")
    >>> tree.class_names, tree.files["test"], tree.labels["test"].tolist()
    (('cat', 'dog'), ['test/cat/2.png', 'test/dog/2.png'], [0, 1])
    """
    found: dict[str, list[tuple[str, str]]] = {split: [] for split in ("train", *TEST_NAMES)}
    others, unplaced = [], []
    for name in names:
        if not is_image(name):
            others += [] if _hidden(name) else [name]
            continue
        split, class_name = _place(name, where)
        if split in found:
            found[split].append((class_name, name))
        else:
            unplaced.append(name)
    left = sorted(others) + sorted(unplaced)
    test = next((split for split in TEST_NAMES if found[split]), "test")
    classes = {split: {class_name for class_name, _ in found[split]} for split in ("train", test)}
    for split, there in classes.items():
        if not there:
            raise UserError(f"{where} has no images in {split}/: {EXPECTED}{_near(unplaced, others)}")
    for one, other in (("train", test), (test, "train")):
        if odd := sorted(classes[one] - classes[other]):
            more = f" and {len(odd) - 1:,} more" if len(odd) > 1 else ""
            raise UserError(f"{where}: class {odd[0]!r}{more} is in {one}/ but has no images in {other}/")
    class_names = tuple(sorted(classes["train"]))
    if len(class_names) < 2:
        raise UserError(f"{where} has one class only ({', '.join(class_names)}): expected at least two")
    if left:
        told = f"{where}: {len(left):,} files are left out, not named as images or outside of train/ and test/"
        warnings.warn(f"{told}: {', '.join(left[:3])}{', …' if len(left) > 3 else ''}", stacklevel=2)
    index = {class_name: label for label, class_name in enumerate(class_names)}
    files, labels = {}, {}
    for split, items in (("train", sorted(found["train"])), ("test", sorted(found[test]))):
        files[split] = [name for _, name in items]
        labels[split] = np.array([index[class_name] for class_name, _ in items])
    return Listing(class_names, files, labels)


def _near(unplaced: Sequence[str], others: Sequence[str]) -> str:
    """What to do with images that lie or are named otherwise than expected, in words; nothing where there are none."""
    folders = list(dict.fromkeys(name.split("/")[0] for name in unplaced if "/" in name))
    if alike := [name for name in folders if name.lower() in ALIKE]:
        return f"; rename {alike[0]}/ to {ALIKE[alike[0].lower()]}/"
    if folders:
        return f"; found {', '.join(f'{name}/' for name in folders[:3])}: if these are classes, put them there"
    if bare := [name for name in others if "." not in name.rsplit("/", 1)[-1]]:
        return f"; {len(bare):,} files have no suffix (such as {bare[0]}): name them .jpg, .png or what they are"
    return ""


@cache
def extensions() -> tuple[str, ...]:
    """The suffixes of the images that Pillow opens, here, in small letters.

    >>> {".jpg", ".jfif", ".png", ".webp", ".eps"} - set(extensions())
    {'.eps'}
    """
    known = Image.registered_extensions()
    return tuple(sorted(end for end, kind in known.items() if kind in Image.OPEN and kind not in NO_IMAGES))


def is_image(name: str) -> bool:
    """Whether a file is taken for an image: by its extension, and hidden files are not."""
    return name.lower().endswith(extensions()) and not _hidden(name)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _place(name: str, where: str) -> tuple[str, str]:
    """Split and class of an image: the folder called train, test or val nearest to the top, and the one below it."""
    parts = name.split("/")
    depth = next((i for i, part in enumerate(parts[:-1]) if part in ("train", *TEST_NAMES)), None)
    if depth is None:
        return "", ""
    if depth + 2 >= len(parts):
        raise UserError(f"{where}/{name} is not in a class folder: {EXPECTED}")
    try:
        parts[depth + 1].encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: the folder name {parts[depth + 1]!r} is not valid UTF-8: rename it") from None
    return parts[depth], unicodedata.normalize("NFC", parts[depth + 1])  # macOS decomposes accents, others do not


def decode_splits(
    source: Listing, locate: Locate, out: NewArray, *, size: int | None = None, side: Side | None = None
) -> dict[str, Tensor]:
    """Decode both splits to one shape: grey if every image is grey, else colour.

    Args:
        source: What to decode.
        locate: Says where an image is.
        out: Makes the array of a split, uint8 of the shape that it is given.
        size: Side of the square to which every image is resized and cut.
        side: Height and width that the images must have; by default those of the first training image.

    Returns:
        Images, uint8 [n, C, H, W], by split.
    """
    items = {split: [locate(name) for name in names] for split, names in source.files.items()}
    first = decode(items["train"][0], resize=size, crop=size)
    channels, side = len(first.getbands()), side or (first.height, first.width)
    few = sum(map(len, items.values())) <= FEW
    pool = Pool(0 if few else None)
    while True:
        options, images = Options(channels, side, size, size), {}
        try:
            for split, part in items.items():
                images[split] = out(split, (len(part), channels, *side))
                pool.decode(part, options, images[split], label=f"decoding {split}")
            return images
        except ColourMetError:
            channels = 3  # the first image was grey, a later one is not: once more


def read_index(folder: Path, *, name: str) -> ImageData:
    """The set that is registered in `folder`; its images are read when they are asked for.

    Raises:
        UserError: The registration was altered, or the images' folder is gone.
    """
    record = prepared.read_record(folder, name)
    source = record["source"]
    prepared.check_once(folder, record)
    if not Path(source["folder"]).is_dir():
        raise UserError(
            f"the images of {name} were in {source['folder']}, which is gone: `gendyn data {name} --from PATH`"
        )
    options, pool = Options(3, tuple(record["shape"][1:]), source["resize"], source["crop"]), Pool()
    splits = {}
    for split in prepared.SPLITS:
        names = np.array((folder / f"{split}.txt").read_text(encoding="utf-8").splitlines())
        labels = np.load(folder / f"{split}_labels.npy", allow_pickle=False)
        images = FolderImages(source["folder"], names, options, pool=pool)
        splits[split] = Split(cast(Tensor, images), torch.from_numpy(labels))  # it reads like one
    return ImageData.from_record(name, record, **splits)
