"""CIFAR-10 and CIFAR-100 from the binary or Python archives, or from an image tree of the same classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_scripts import images
from data_scripts.cifar_formats import parse_binary, parse_python
from data_scripts.sources import Source
from gendyn_lite.data import prepared
from gendyn_lite.data.image_folder import is_image, listing
from gendyn_lite.errors import UserError

COUNTS = {"train": 50_000, "test": 10_000}

# Copies in circulation that are not the original, by the SHA-256 of their archive.
KNOWN_COPIES = {
    "9dc4430239015db7641233240436b09a0715dc541db3d9dd2eccd53c6b021f73": "CIFAR-10 (JPEG q75)",
    "7e120f33f566d3dd290af0a5c43e7abebd5cdcf6934fcc63b42009993971c135": (
        "CIFAR-100 (JPEG q75, about 20 % train label noise)"
    ),
}


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel "
    "can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur "
    "dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion "
    "lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
    "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea "
    "seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank "
    "telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
CIFAR100_CLASSES = tuple(_CIFAR100_NAMES.split())


@dataclass(frozen=True)
class Layout:
    """One of the original's archives.

    Attributes:
        kind: ``"Python"`` or ``"binary"``.
        files: Its files with their MD5 or SHA-256, by split.
        parse: Reads one: (bytes, where=name) → pixels and labels.
    """

    kind: str
    files: dict[str, dict[str, str]]
    parse: Callable[..., tuple[np.ndarray, np.ndarray]]

    @property
    def names(self) -> list[str]:
        """The names of all files."""
        return [name for files in self.files.values() for name in files]


@dataclass(frozen=True)
class Family:
    """CIFAR-10 or CIFAR-100: its name, classes in the order of the labels, and archives."""

    title: str
    class_names: tuple[str, ...]
    layouts: tuple[Layout, ...]


CIFAR10 = Family(
    "CIFAR-10",
    CIFAR10_CLASSES,
    (
        Layout(
            "Python",
            {
                "train": {
                    "data_batch_1": "c99cafc152244af753f735de768cd75f",
                    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                    "data_batch_4": "634d18415352ddfa80567beed471001a",
                    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                },
                "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
            },
            partial(parse_python, classes=10, key=b"labels"),
        ),
        Layout(
            "binary",
            {
                "train": {
                    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
                    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
                    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
                    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
                    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
                },
                "test": {"test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d"},
            },
            partial(parse_binary, classes=10, label_bytes=1),
        ),
    ),
)
CIFAR100 = Family(
    "CIFAR-100",
    CIFAR100_CLASSES,
    (
        Layout(
            "Python",
            {
                "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
                "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            },
            partial(parse_python, classes=100, key=b"fine_labels"),
        ),
        Layout(
            "binary",
            {
                "train": {"train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"},
                "test": {"test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"},
            },
            partial(parse_binary, classes=100, label_bytes=2),
        ),
    ),
)
FAMILIES = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def prepare(name: str, source: Source, to: Path, *, description: str | None) -> dict[str, Any]:
    """Write the prepared form of CIFAR-10 or CIFAR-100.

    Args:
        name: ``"cifar10"`` or ``"cifar100"``.
        source: The original's files, binary or Python, or an image tree of its classes.
        to: Empty folder to fill.
        description: What the images truly are; None to find out (only the original, byte for byte, is called by the
            plain name).

    Returns:
        The record.

    Raises:
        UserError: Files are missing, altered or not what they should be.
    """
    family = FAMILIES[name]
    for layout in family.layouts:
        if paths := _find(layout, source):
            labels = _write_original(family, layout, paths, source, to, check=description is None)
            return prepared.finish(
                to,
                name=name,
                description=description or family.title,
                class_names=family.class_names,
                labels=labels,
                source={
                    "kind": f"{layout.kind} files",
                    "archive_sha256": source.sha256,
                    "described_by": "the user" if description else "checksums of the original",
                },
            )
    return _prepare_tree(name, source, to, description)


def _find(layout: Layout, source: Source) -> dict[str, str]:
    """File → its path, if the source has any of them; the folder they are in does not matter."""
    paths = {path.rsplit("/", 1)[-1]: path for path in source.names}
    found = {name: paths[name] for name in layout.names if name in paths}
    if found and (missing := [name for name in layout.names if name not in paths]):
        raise UserError(f"{source.where} has {min(found)} but no {missing[0]}: get a fresh copy")
    return found


def _write_original(
    family: Family, layout: Layout, paths: dict[str, str], source: Source, to: Path, *, check: bool
) -> dict[str, np.ndarray]:
    """Fill the image arrays from the original's files; the labels by split."""
    labels = {}
    for split, hashes in layout.files.items():
        parts = []
        for file, expected in hashes.items():
            raw = source.read(paths[file])
            if check and _digest(raw, expected) != expected:
                raise UserError(
                    f"{source.where}: {file} is altered or not {family.title}'s: its checksum is not {expected[:16]}…; "
                    "get a fresh copy, or say with --description what it is"
                )
            parts.append(layout.parse(raw, where=f"{source.where}: {file}"))
        pixels = prepared.allocate(to, split, (sum(len(x) for x, _ in parts), 3, 32, 32))
        np.concatenate([x for x, _ in parts], out=pixels)
        labels[split] = np.concatenate([y for _, y in parts])
    return labels


def _digest(raw: bytes, expected: str) -> str:
    """MD5 or SHA-256, whichever the expected one is."""
    return hashlib.new("md5" if len(expected) == 32 else "sha256", raw, usedforsecurity=False).hexdigest()


def _prepare_tree(name: str, source: Source, to: Path, description: str | None) -> dict[str, Any]:
    family = FAMILIES[name]
    if not any(is_image(file) for file in source.names):
        files = ", or ".join(f"{', '.join(layout.names)} ({layout.kind})" for layout in family.layouts)
        raise UserError(f"{source.where} is no {family.title}: expected {files}, or an image tree of its classes")
    tree = listing(source.names, where=source.where)
    if tree.class_names != family.class_names:
        odd = sorted(set(tree.class_names) ^ set(family.class_names))[0]
        raise UserError(
            f"{source.where} has {len(tree.class_names)} classes that are not {family.title}'s "
            f"{len(family.class_names)} (for instance {odd!r}): import it as folder:{source.where}"
        )
    by = "the user" if description else "its SHA-256"
    description = description or KNOWN_COPIES.get(source.sha256 or "")
    if description is None:
        counts = {split: len(files) for split, files in tree.files.items()}
        odd_counts = "" if counts == COUNTS else f", {counts['train']:,} train and {counts['test']:,} test images"
        by, description = "image headers", f"{family.title} ({images.encoding(source, tree)}{odd_counts})"
    record = {"kind": "image tree", "archive_sha256": source.sha256, "described_by": by}
    return images.prepare(source, to, name=name, description=description, record=record, side=(32, 32), tree=tree)
