"""Load a data set by its name."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from gendyn_lite.config import RunConfig, check_range, check_type
from gendyn_lite.data import draws, embedded, image_folder, prepared
from gendyn_lite.data.decoding import FolderImages, Options, Pool
from gendyn_lite.data.draws import corrupt_labels, randomize
from gendyn_lite.data.storage import disk_errors, named_path
from gendyn_lite.data.types import ImageData, Split, check_labels
from gendyn_lite.errors import UserError, unknown_name

EMBEDDED: dict[str, Callable[[], ImageData]] = {
    "digits": embedded.digits,
    **{name: partial(embedded.point_set, name) for name in embedded.POINT_SETS},
}
PREPARED = ("mnist", "cifar10", "cifar100", "imagenet")
FOLDER = "folder:"
INDEX_FILES = tuple(f"{split}{kind}" for split in prepared.SPLITS for kind in (".txt", "_labels.npy"))
INDEX_SOURCE = {"folder": str, "resize": int, "crop": int}  # fields of the record of a set that stays in its folder


def load(
    name: str, *, root: str | os.PathLike[str] | None = None, train_size: int | None = None, seed: int = 0
) -> ImageData:
    """Load a data set.

    Args:
        name: ``"digits"``, ``"two_moons"`` or another point set (embedded); ``"mnist"``, ``"cifar10"``,
            ``"cifar100"`` or ``"imagenet"`` (prepared by ``gendyn data NAME``); or
            ``"folder:PATH"`` with PATH/train/CLASS/* and PATH/test/CLASS/*.
        root: Folder of the prepared data; by default the environment variable GENDYN_DATA, else ``./datasets``.
        train_size: Number of training examples; None for all. The subset is class-balanced, chosen by `seed`, and
            nested: with one seed, a smaller subset is the beginning of a larger one. The test set stays whole.
        seed: Seed of the subset.

    Returns:
        The data. `mean`, `std` and `fingerprint` are those of the whole set.

    Raises:
        UserError: The name is unknown, the data is not prepared (the message says how), altered or too small.
        Failed: The disk refuses to be read.

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
    """The data that a run trains on: subset, input randomization and label corruption as its configuration says.

    Args:
        config: Its dataset, train_size, test_size, inputs, label_corruption and seed are used.
        root: As for `load`.

    Returns:
        The data, and which training labels were redrawn, bool [n].

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

    >>> names()
    ('digits', 'two_moons', 'rings', 'spirals', 'nested_rings', 'linked_rings', 'mnist', ...)
    """
    return (*EMBEDDED, *PREPARED, f"{FOLDER}PATH")


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the prepared data: the argument, else the environment variable GENDYN_DATA, else ``./datasets``.

    Raises:
        UserError: The argument is empty, or no path.
    """
    return named_path(os.environ.get("GENDYN_DATA") or "datasets" if root is None else root, what="root")


def folder_of(name: str) -> Path:
    """The folder that ``folder:PATH`` names: where a command was typed, if it is there, else from the working folder.

    The path stays as it was typed in the name, which is part of a run's key.

    >>> folder_of("folder:own/pets").name
    'pets'
    """
    path = named_path(name.removeprefix(FOLDER), what=f"{FOLDER}PATH")
    typed = Path(os.environ.get(image_folder.TYPED_IN, ""), path)
    return typed if typed.is_dir() else path


def balanced_order(y: Tensor, *, seed: int) -> Tensor:
    """An order of the examples whose every beginning is as class-balanced as it can be, int64 [n].

    Each class is shuffled, then the classes take turns; a class that has run out is skipped.

    >>> y = torch.tensor([0, 0, 0, 1, 1, 2])
    >>> y[balanced_order(y, seed=0)][:3].sort().values.tolist()
    [0, 1, 2]
    """
    check_labels(y)
    labels = y.cpu().numpy()
    shuffled = draws.permutation(len(labels), seed, draws.SUBSET)
    turn = np.empty(len(labels), dtype=np.int64)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    turn[by_class] = np.concatenate([np.arange(count) for count in counts])
    # Within a turn the shuffled order decides, so that no class is preferred.
    return torch.from_numpy(shuffled[np.argsort(turn[shuffled], kind="stable")])


def _subset(split: Split, size: int, *, seed: int, named: tuple[str, str]) -> Split:
    """The first examples of a class-balanced order; `named`: what the size and the whole are called."""
    if size > len(split.y):
        raise UserError(f"{named[0]} is {size}, expected at most {len(split.y)}, the {named[1]}")
    chosen = balanced_order(split.y, seed=seed)[:size]
    x = cast("Tensor | FolderImages", split.x)
    part = x.select(chosen) if isinstance(x, FolderImages) else x[chosen]
    return Split(cast(Tensor, part), split.y[chosen])


def _load_whole(name: str, root: Path) -> ImageData:
    if name in EMBEDDED:
        return EMBEDDED[name]()
    with disk_errors(root):
        if name in PREPARED:
            if folder := prepared.find(root / name):
                return (_read_index if name == "imagenet" else prepared.read)(folder, name=name)
            raise UserError(
                f"{name} is not prepared in {root}: run `gendyn data {name}`, or with a local copy --from PATH"
            )
        if name.startswith(FOLDER):
            return image_folder.load(folder_of(name), name=name, root=root)
    raise unknown_name("dataset", name, names())


def _read_index(folder: Path, *, name: str) -> ImageData:
    """The set that is registered in `folder`; its images are read when they are asked for.

    Raises:
        UserError: The registration was altered, or the images' folder is gone.
    """
    record = prepared.read_record(folder, name=name)
    source = record["source"]
    prepared.check_once(folder, record, INDEX_FILES, lambda: check_index(folder, record))
    if not Path(source["folder"]).is_dir():
        raise UserError(
            f"the images of {name} were in {source['folder']}, which is gone: `gendyn data {name} --from PATH`"
        )
    _, height, width = record["shape"]
    options = Options(3, (height, width), source["resize"], source["crop"])
    pool = Pool()
    splits = {}
    for split in prepared.SPLITS:
        names = np.array((folder / f"{split}.txt").read_text(encoding="utf-8").splitlines())
        labels = torch.from_numpy(np.load(folder / f"{split}_labels.npy", allow_pickle=False))
        images = FolderImages(source["folder"], names, options, pool=pool)
        splits[split] = Split(cast(Tensor, images), labels)  # it reads like one
    return ImageData.from_record(name, record, train=splits["train"], test=splits["test"])


def check_index(folder: Path, record: dict[str, Any]) -> None:
    """Compare names and labels of a registered set with its record; the images themselves are read by ``--verify``.

    Raises:
        UserError: One was altered.
    """
    source = record["source"]
    if len(record["shape"]) != 3 or any(type(source.get(key)) is not kind for key, kind in INDEX_SOURCE.items()):
        raise UserError(f"{folder / prepared.RECORD} has no valid 'source': {prepared.again(folder)}")
    prepared.check_bytes(folder, record, INDEX_FILES)
    labels = {split: np.load(folder / f"{split}_labels.npy", allow_pickle=False) for split in prepared.SPLITS}
    if prepared.counts(record["class_names"], **labels) != record["counts"]:
        raise UserError(f"{folder / prepared.RECORD} was altered (other counts): {prepared.again(folder)}")
