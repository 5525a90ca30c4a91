"""Look at a data set: sample images and class counts as tidy tables for charts, and images saved as files."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from gendyn_lite.config import INPUTS
from gendyn_lite.data.draws import balanced_order, randomize
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.errors import UserError, disk_errors, named_path
from gendyn_lite.results.files import recover, renewed

COLUMNS = ("kind", "class", "example", "picture", "row", "column", "image", "count")
MOST_CLASSES = 20  # number of classes whose pictures fit on a page


def samples(data: ImageData, *, per_class: int = 6, seed: int = 0, kinds: tuple[str, ...] = INPUTS) -> pd.DataFrame:
    """Choose a few training images of each class, and show them with true and with randomized inputs.

    Args:
        data: Images that have not been randomized; of more than 20 classes, the first 20 are used.
        per_class: Largest number of images per class.
        seed: Seed of the choice and of the randomization.
        kinds: Kinds of inputs: ``"true"`` and those of `gendyn_lite.data.randomize`.

    Returns:
        One row per image and kind: ``kind``, ``class``, ``example`` (index in the training set), ``picture`` (number
        among the chosen images), ``row`` (label), ``column``, ``image`` (a PNG as data URI) and ``count`` (number of
        training images of the class).

    Raises:
        UserError: The data holds points, not images.

    >>> from gendyn_lite.data import load
    >>> samples(load("digits"), per_class=2, kinds=("true",))["class"].value_counts().loc["3"].item()
    2
    """
    if data.train.x.dtype != torch.uint8:
        raise UserError(f"{data.name} holds points, not images: choose a data set of images")
    data.check_labels()
    labels, order = data.train.y.numpy(), balanced_order(data.train.y, seed=seed).numpy()
    table = pd.DataFrame({"example": order, "row": labels[order]})
    table["column"] = table.groupby("row").cumcount()
    table = table[(table["row"] < MOST_CLASSES) & (table["column"] < per_class)].sort_values(["row", "column"])
    table["class"] = [data.class_names[label] for label in table["row"]]
    table["count"] = data.train.y.bincount()[table["row"].tolist()].numpy()
    table["picture"] = range(len(table))
    index = torch.tensor(table["example"].tolist())
    few = replace(data, train=Split(data.train.x[index], data.train.y[index]))
    parts = []
    for kind in kinds:
        images = [data_uri(image) for image in randomize(few, kind, seed=seed).train.x]
        parts.append(table.assign(kind=kind, image=images))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def class_counts(data: ImageData) -> pd.DataFrame:
    """Count the examples of each class: one row per class and split, with columns class, split and images.

    >>> from gendyn_lite.data import load
    >>> class_counts(load("two_moons")).values.tolist()
    [['upper', 'train', 150], ['lower', 'train', 150], ['upper', 'test', 50], ['lower', 'test', 50]]
    """
    data.check_labels()
    parts = {"train": data.train, "test": data.test}
    counts = {split: part.y.bincount(minlength=data.num_classes).tolist() for split, part in parts.items()}
    table = pd.DataFrame(counts, index=pd.Index(data.class_names, name="class"))
    return table.melt(var_name="split", value_name="images", ignore_index=False).reset_index()


def save_images(data: ImageData, folder: str | os.PathLike[str]) -> Path:
    """Save a data set as train/CLASS/*.png and test/CLASS/*.png, which ``folder:PATH`` loads again.

    Args:
        data: Images.
        folder: Folder to create; it must not exist yet.

    Returns:
        The folder.

    Raises:
        UserError: The data holds points, a class name cannot name a folder, or the folder exists.

    >>> import tempfile
    >>> from gendyn_lite.data import load
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = save_images(load("digits", train_size=10), f"{place}/digits")
    ...     len(list(folder.glob("train/*/*.png")))
    10
    """
    folder = named_path(folder, what="folder")
    if data.train.x.dtype != torch.uint8:
        raise UserError(f"{data.name} holds points, not images: it cannot be saved as pictures")
    _check_new(folder)
    if odd := [name for name in data.class_names if name in ("", ".", "..") or set(name) & set("/\\\0")]:
        raise UserError(f"class {odd[0]!r} cannot name a folder")
    data.check_labels()
    recover(folder)  # clean up after a process that was killed here
    with disk_errors(folder), renewed(folder) as new:
        for split, part in (("train", data.train), ("test", data.test)):
            for name in data.class_names:
                (new / split / name).mkdir(parents=True)
            for i, (image, label) in enumerate(zip(part.x, part.y.tolist(), strict=True)):
                (new / split / data.class_names[label] / f"{i:07}.png").write_bytes(png(image))
        _check_new(folder)  # nobody has created it meanwhile
    return folder


def _check_new(folder: Path) -> None:
    if folder.exists():
        raise UserError(f"{folder} exists: choose a new folder")


def png(image: Tensor) -> bytes:
    """The bytes of a PNG file of an image, uint8 [1 or 3, H, W]."""
    pixels = image.permute(1, 2, 0).squeeze(-1).contiguous().numpy()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return out.getvalue()


def data_uri(image: Tensor) -> str:
    """A data URI of an image, uint8 [1 or 3, H, W], as PNG.

    >>> data_uri(torch.zeros(1, 2, 2, dtype=torch.uint8))[:22]
    'data:image/png;base64,'
    """
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()
