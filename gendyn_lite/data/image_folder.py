"""Images in folders train/CLASS/* and test/CLASS/*: how they are found, sorted into classes, and decoded.

The user's own images are decoded at once. ImageNet's stay in their folder, of which an index is kept.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
import warnings
from collections import Counter
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
# Formats of Pillow that are not taken for images: scientific containers, films, and drawings that need other programs.
NO_IMAGES = ("BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF")
FEW = 500  # number of images up to which starting worker processes is not worthwhile
TEST_NAMES = ("test", "val")  # val is used if there is no test
# Other common names of the two folders, for advice in error messages.
ALIKE: dict[str, str] = dict.fromkeys(("test", "testing", "val", "valid", "validation", "eval", "dev"), "test")
ALIKE |= dict.fromkeys(("train", "training"), "train")
TYPED_IN = "GENDYN_TYPED_IN"  # environment variable for kernels of chapters: the folder that a command was typed in
INDEX_FILES = tuple(f"{split}{kind}" for split in prepared.SPLITS for kind in (".txt", "_labels.npy"))
EXPECTED = "expected train/CLASS/* and test/CLASS/* with images"


@dataclass(frozen=True)
class Listing:
    """The images of a folder or archive, sorted by class and name.

    Attributes:
        class_names: Names of the classes, sorted; a label is an index of this tuple.
        files: Relative paths of the images, by split (``"train"``, ``"test"``).
        labels: Labels, int64 [n], by split.
        where: The folder or archive, for messages.
        left: Relative paths of the files that are left out.
    """

    class_names: tuple[str, ...]
    files: dict[str, list[str]]
    labels: dict[str, np.ndarray]
    where: str
    left: list[str]

    def tell(self, told: Counter[str] | None = None) -> None:
        """Warn, in one line, of files that are left out and of what `gendyn_lite.decode.decode` counts in images."""
        words, told = list[str](), told or Counter()
        if self.left:
            some = f"{', '.join(self.left[:3])}{', …' if len(self.left) > 3 else ''}"
            why = "as they are not images or outside of train/ and test/"
            words.append(f"{len(self.left):,} files are left out, {why}: {some}")
        if told["frames"]:
            words.append(f"files with several frames or pages, of which only the first is used: {told['frames']:,}")
        if told["transparent"]:
            words.append(f"images with transparency, laid on white: {told['transparent']:,}")
        if words:
            warnings.warn(f"{self.where}: {'; '.join(words)}", stacklevel=3)


def describe(path: Path, *, size: int | None = None) -> str:
    """The description of the user's own images that is shown beside results."""
    return f"own images ({path.absolute().name})" + (f", {size}x{size}" if size else "")


def key(path: Path) -> str:
    """The name of the prepared form of a folder: its own name and a hash of its absolute path.

    If there is no such folder (images imported from an archive), the hash is of the path as it is given.
    """
    place = path.resolve() if path.is_dir() else path
    return f"folder-{place.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"


def stamp(path: Path) -> str:
    """A hash of the names, sizes and modification times of all images, or of an archive, to notice changes."""
    total = hashlib.sha256()
    for name in [""] if path.is_file() else sorted(filter(is_image, walk(path))):
        status = (path / name).stat()
        total.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return total.hexdigest()[:16]


def walk(path: Path) -> Iterator[str]:
    """Iterate over all regular files below a folder; links are followed, but not in loops.

    Yields:
        Paths relative to the folder, with ``/``.

    Raises:
        UserError: It is not a folder, or something named like an image is not a regular file.
        Failed: It cannot be read.
    """
    if not path.is_dir():
        here = "" if path.is_absolute() else f" in {os.environ.get(TYPED_IN) or Path.cwd()}"
        raise UserError(f"{path} is not a folder{here}: {EXPECTED}")
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
    """A function from the relative path of a file below a folder to its `Item`."""
    return lambda name: Item(f"{path}/{name}", name)


def listing(names: Iterable[str], *, where: str) -> Listing:
    """Sort the images of a folder or archive into splits and classes.

    Files that are not images are left out; hidden ones are not even counted. The folders train/ and test/ may be inside
    of other folders.

    Args:
        names: Relative paths of all files, with ``/``.
        where: The folder or archive, for messages.

    Raises:
        UserError: There is no train/ or test/, an image is not in a class folder, or train/ and test/ have different
            classes, or only one.

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
        raise UserError(f"{where} has only one class ({', '.join(class_names)}): expected at least two")
    index = {class_name: label for label, class_name in enumerate(class_names)}
    files, labels = {}, {}
    for split, items in (("train", sorted(found["train"])), ("test", sorted(found[test]))):
        files[split] = [name for _, name in items]
        labels[split] = np.array([index[class_name] for class_name, _ in items])
    return Listing(class_names, files, labels, where, sorted(others) + sorted(unplaced))


def _near(unplaced: Sequence[str], others: Sequence[str]) -> str:
    """Advice, for an error message, about images in other folders and files without a suffix; empty without any."""
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
    """The file name suffixes, in lower case, of the images that the installed Pillow can open.

    >>> {".jpg", ".jfif", ".png", ".webp", ".eps"} - set(extensions())
    {'.eps'}
    """
    known = Image.registered_extensions()
    return tuple(sorted(end for end, kind in known.items() if kind in Image.OPEN and kind not in NO_IMAGES))


def is_image(name: str) -> bool:
    """Whether a file counts as an image: it is not hidden and has one of the `extensions`."""
    return name.lower().endswith(extensions()) and not _hidden(name)


def _hidden(name: str) -> bool:
    """Whether a file is hidden, in a hidden folder, or macOS's metadata in an archive."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _place(name: str, where: str) -> tuple[str, str]:
    """The split and class of an image: the topmost folder named train, test or val, and the one below it.

    Both are empty if there is no such folder.
    """
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
    return parts[depth], unicodedata.normalize("NFC", parts[depth + 1])  # only macOS writes accents decomposed


def decode_splits(
    source: Listing, locate: Locate, out: NewArray, *, size: int | None = None, side: Side | None = None
) -> dict[str, Tensor]:
    """Decode both splits to images of one shape: grey if every image is grey, else colour. Warns as `Listing.tell`.

    Args:
        source: The images.
        locate: Function from the name of an image to its `Item`.
        out: Function of a split and a shape that allocates the split's array, uint8.
        size: If given, each image's shorter side is resized to `size` and the centre square is cut out.
        side: Height and width that the images must have; by default those of the first training image.

    Returns:
        Images, uint8 [n, C, H, W], by split.

    Raises:
        UserError: An image cannot be read or has another size.
    """
    items = {split: [locate(name) for name in names] for split, names in source.files.items()}
    first = decode(items["train"][0], resize=size, crop=size)
    channels, side = len(first.getbands()), side or (first.height, first.width)
    few = sum(map(len, items.values())) <= FEW
    pool = Pool(0 if few else None)
    while True:
        options, images, told = Options(channels, side, size, size), {}, Counter[str]()
        try:
            for split, part in items.items():
                images[split] = out(split, (len(part), channels, *side))
                told += pool.decode(part, options, images[split], label=f"decoding {split}")
            source.tell(told)
            return images
        except ColourMetError:
            channels = 3  # the first image was grey, but a later one is not: start over in colour


def read_index(folder: Path, *, name: str) -> ImageData:
    """Load a registered set of images, which are decoded when they are indexed.

    Args:
        folder: Folder of the index.
        name: Name of the set.

    Raises:
        UserError: The index was altered, or the folder of the images does not exist.
    """
    record = prepared.read_record(folder, name)
    source = record["source"]
    prepared.check_once(folder, record)
    if not Path(source["folder"]).is_dir():
        raise UserError(
            f"the images of {name} were in {source['folder']}, which is missing: run `gendyn data {name} --from PATH`"
        )
    options, pool = Options(3, tuple(record["shape"][1:]), source["resize"], source["crop"]), Pool()
    splits = {}
    for split in prepared.SPLITS:
        names = np.array((folder / f"{split}.txt").read_text(encoding="utf-8").splitlines())
        labels = np.load(folder / f"{split}_labels.npy", allow_pickle=False)
        images = FolderImages(source["folder"], names, options, pool=pool)
        splits[split] = Split(cast(Tensor, images), torch.from_numpy(labels))  # FolderImages can be used like a tensor
    return ImageData.from_record(name, record, **splits)
