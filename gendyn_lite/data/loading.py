"""Load a data set by its name: one that comes with the library, a prepared one, or a folder of images."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

from torch import Tensor

from gendyn_lite.config import RunConfig, check_range, check_type
from gendyn_lite.data import image_folder, prepared, sources
from gendyn_lite.data.decoding import FolderImages
from gendyn_lite.data.draws import balanced_order, corrupt_labels, randomize
from gendyn_lite.data.embedded import POINT_SETS, TEST, TRAIN, digits, points
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.decode import image_size
from gendyn_lite.errors import UserError, disk_errors, named_path, unknown_name

PREPARED = ("mnist", "cifar10", "cifar100", "imagenet")
FOLDER = "folder:"
SIDE = re.compile(r"@([1-9]\d*)$")  # at the end of a folder's path: the side that its images are resized to


def load(
    name: str, *, root: str | os.PathLike[str] | None = None, train_size: int | None = None, seed: int = 0
) -> ImageData:
    """Load a data set.

    Args:
        name: ``"digits"``, ``"two_moons"`` or another point set, which come with the library; ``"mnist"``,
            ``"cifar10"``, ``"cifar100"`` or ``"imagenet"``, once prepared by ``gendyn data NAME``; or
            ``"folder:PATH"`` with images PATH/train/CLASS/* and PATH/test/CLASS/*, where PATH is a folder, .zip or
            .tar. ``"folder:PATH@64"`` resizes each image's shorter side to 64 pixels and cuts out the centre square.
        root: Folder of the prepared data; by default the environment variable GENDYN_DATA, else ``./datasets``.
        train_size: Number of training examples; None for all. The subset is class-balanced and chosen by `seed`; with
            the same seed, a smaller subset is the beginning of a larger one. The test set stays whole.
        seed: Seed of the subset.

    Returns:
        The data. `mean`, `std` and `fingerprint` are those of the whole set.

    Raises:
        UserError: The name is unknown, or the data is not prepared (the message says how), was altered or is too small.
        Failed: The disk cannot be read.

    >>> data = load("digits", train_size=100)
    >>> data.train.x.shape, data.train.y.bincount().tolist(), data.num_classes
    (torch.Size([100, 1, 8, 8]), [10, 10, 10, 10, 10, 10, 10, 10, 10, 10], 10)
    """
    name = check_type("name", name, str)
    train_size = check_type("train_size", train_size, int | None)
    if train_size is not None:
        check_range("train_size", train_size, 1, math.inf, True)
    check_range("seed", check_type("seed", seed, int), 0, 2**31 - 1, True)
    data = _load_whole(name, data_root(root))
    if train_size is None:
        return data
    named = ("train_size", f"training images of {name}")
    return replace(data, train=_subset(data.train, train_size, seed=seed, named=named))


def load_for_run(config: RunConfig, *, root: str | os.PathLike[str] | None = None) -> tuple[ImageData, Tensor]:
    """Load the data of a run, with the subset, input randomization and label corruption of its configuration.

    Args:
        config: Its dataset, train_size, test_size, inputs, label_corruption and seed are used.
        root: As for `load`.

    Returns:
        The data, and which training labels were redrawn, bool [n].

    Raises:
        UserError: As for `load`, `randomize` and `corrupt_labels`; or the test set is smaller than test_size.

    >>> data, redrawn = load_for_run(RunConfig(experiment="demo", label_corruption=1.0))
    >>> redrawn.all().item()
    True
    """
    data = load(config.dataset, root=root, train_size=config.train_size, seed=config.seed)
    if config.test_size is not None:
        named = ("test_size", f"test images of {config.dataset}")
        data = replace(data, test=_subset(data.test, config.test_size, seed=config.seed, named=named))
    data = randomize(data, config.inputs, seed=config.seed)
    labels, redrawn = corrupt_labels(
        data.train.y, config.label_corruption, num_classes=data.num_classes, seed=config.seed
    )
    return data.with_train_labels(labels), redrawn


def names() -> tuple[str, ...]:
    """The names that `load` knows; ``folder:PATH`` stands for any folder.

    Returns:
        The sets that come with the library, those that ``gendyn data`` prepares, and ``"folder:PATH"``.

    >>> names()
    ('digits', 'two_moons', 'rings', 'spirals', 'nested_rings', 'linked_rings', 'mnist', ...)
    """
    return (*embedded(), *PREPARED, f"{FOLDER}PATH")


def embedded() -> tuple[str, ...]:
    """The names of the data sets that come with the library."""
    return ("digits", *POINT_SETS)


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the prepared data: the argument, else the environment variable GENDYN_DATA, else ``./datasets``.

    Raises:
        UserError: The argument is empty, or not a path.

    >>> data_root("sets").name
    'sets'
    """
    return named_path(os.environ.get("GENDYN_DATA") or "datasets" if root is None else root, what="root")


def folder_of(name: str) -> Path:
    """The folder that ``folder:PATH`` names.

    A relative path is looked up first in the folder where the command was typed (which a chapter's kernel knows from an
    environment variable), then in the working folder. The name itself, which is part of a run's key, keeps the path as
    it was typed.

    >>> folder_of("folder:own/pets").name
    'pets'
    """
    path = named_path(SIDE.sub("", name.removeprefix(FOLDER)), what=f"{FOLDER}PATH")
    typed = Path(os.environ.get(image_folder.TYPED_IN, ""), path)
    return typed if typed.exists() else path


def side_of(name: str) -> int | None:
    """The side in ``folder:PATH@SIDE``; None without one."""
    found = SIDE.search(name)
    return int(found[1]) if found else None


class FolderSizes(NamedTuple):
    """Sizes of a data set of images.

    Attributes:
        train: Number of training images.
        test: Number of test images.
        classes: Number of classes.
        side: Shorter side of the images in pixels; 0 if they have several sizes.
    """

    train: int
    test: int
    classes: int
    side: int


def folder_sizes(name: str, *, root: str | os.PathLike[str] | None = None) -> FolderSizes:
    """Count the images and classes in a folder or an archive, and find the images' size, without decoding any.

    Args:
        name: ``"folder:PATH"``, or ``"folder:PATH@SIDE"``.
        root: Folder of the prepared data, as for `load`.

    Raises:
        UserError: The folder is not as expected, or an image cannot be read.
    """
    path, side = folder_of(name), side_of(name)
    if side is None and (folder := prepared.find(data_root(root) / image_folder.key(path))):
        record = prepared.read_record(folder, name)
        counts = record["counts"]
        return FolderSizes(sum(counts["train"]), sum(counts["test"]), len(counts["train"]), min(record["shape"][1:]))
    with sources.opened(path) as source:
        tree = image_folder.listing(source.names, where=source.where)
        items = [source.locate(name) for split in prepared.SPLITS for name in tree.files[split]]
        first = image_size(items[0])
        alike = side or all(image_size(item) == first for item in items)
    train, test = (len(tree.labels[split]) for split in prepared.SPLITS)
    return FolderSizes(train, test, len(tree.class_names), side or (min(first) if alike else 0))


def _subset(split: Split, size: int, *, seed: int, named: tuple[str, str]) -> Split:
    """The first `size` examples of a class-balanced order; `named` are words for size and split in a message."""
    if size > len(split.y):
        raise UserError(f"{named[0]} is {size}, expected at most {len(split.y)}, the {named[1]}")
    chosen = balanced_order(split.y, seed=seed)[:size]
    x = cast("Tensor | FolderImages", split.x)
    part = x.select(chosen) if isinstance(x, FolderImages) else x[chosen]
    return Split(cast(Tensor, part), split.y[chosen])


def _load_whole(name: str, root: Path) -> ImageData:
    """Load a whole data set."""
    if name == "digits":
        read = digits()
        train, test = (Split(part.x.clone(), part.y.clone()) for part in (read.train, read.test))
        return replace(read, train=train, test=test)
    if name in POINT_SETS:
        _, description, class_names = POINT_SETS[name]
        train, test = points(name, TRAIN, seed=0), points(name, TEST, seed=1)
        return ImageData.measured(name, description, class_names, train=train, test=test)
    with disk_errors(root):
        if name in PREPARED:
            if folder := prepared.find(root / name):
                return (image_folder.read_index if name == "imagenet" else prepared.read)(folder, name=name)
            raise UserError(
                f"{name} is not prepared in {root}: run `gendyn data {name}`, or with a local copy --from PATH"
            )
        if name.startswith(FOLDER):
            return sources.load_images(folder_of(name), name=name, root=root, size=side_of(name))
    raise unknown_name("dataset", name, names())
