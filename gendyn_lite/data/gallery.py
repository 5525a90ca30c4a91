"""Pictures and counts of a data set as tidy tables, for charts and for looking at it as files."""

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
MOST_CLASSES = 20  # whose pictures fit on a page


def samples(data: ImageData, *, per_class: int = 6, seed: int = 0, kinds: tuple[str, ...] = INPUTS) -> pd.DataFrame:
    """A few training images of each class, as they are and with randomized inputs.

    Args:
        data: Images with their true inputs; of more than 20 classes the first 20 are taken.
        per_class: Images of each class, or as many as it has.
        seed: Seed of the choice and of the randomization.
        kinds: Kinds of inputs, of `gendyn_lite.data.randomize` and ``"true"``.

    Returns:
        A row per image and kind: kind, class, example (its place in the training set), picture (its place in this
        table), row (class), column, image (PNG as data URI), count (training images of its class).

    Raises:
        UserError: The data holds points, not images.

    >>> from gendyn_lite.data import load
    >>> samples(load("digits"), per_class=2, kinds=("true",))["class"].value_counts().loc["3"].item()
    2
    """
    if data.train.x.dtype != torch.uint8:
        raise UserError(f"{data.name} holds points, not images: there are no pictures of it")
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
    """How many examples each class has: a row per class and split, with columns class, split and images.

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
    """Write a data set as files, train/CLASS/*.png and test/CLASS/*.png: what ``folder:PATH`` loads again.

    Args:
        data: Images.
        folder: Where to; must not exist yet.

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
    recover(folder)  # from a process that was killed
    with disk_errors(folder), renewed(folder) as new:
        for split, part in (("train", data.train), ("test", data.test)):
            for name in data.class_names:
                (new / split / name).mkdir(parents=True)
            for i, (image, label) in enumerate(zip(part.x, part.y.tolist(), strict=True)):
                (new / split / data.class_names[label] / f"{i:07}.png").write_bytes(png(image))
        _check_new(folder)  # still
    return folder


def _check_new(folder: Path) -> None:
    if folder.exists():
        raise UserError(f"{folder} exists: choose a new folder")


def png(image: Tensor) -> bytes:
    """An image, uint8 [1 or 3, H, W], as the bytes of a PNG file."""
    pixels = image.permute(1, 2, 0).squeeze(-1).contiguous().numpy()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return out.getvalue()


def data_uri(image: Tensor) -> str:
    """An image, uint8 [1 or 3, H, W], as a PNG in a data URI.

    >>> data_uri(torch.zeros(1, 2, 2, dtype=torch.uint8))[:22]
    'data:image/png;base64,'
    """
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()
