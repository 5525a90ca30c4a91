"""A set too large for memory (ImageNet): its images stay in their folder; worker processes decode them when read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from gendyn_lite.data import prepared
from gendyn_lite.data.decoding import Item, Options, Pool, empty
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.errors import UserError

SPLITS = ("train", "test")
SOURCE = {"folder": str, "resize": int, "crop": int}
FILES = tuple(f"{split}{kind}" for split in SPLITS for kind in (".txt", "_labels.npy"))


class FolderImages:
    """Images in files, which reads like a tensor uint8 [n, C, H, W]: it has a shape, a length, and indexing reads.

    Args:
        folder: Where the files are.
        names: Their paths below it.
        options: What to make of each.
        pool: Worker processes; one's own by default.

    Attributes:
        shape: (n, C, H, W).
        dtype: torch.uint8.
    """

    dtype = torch.uint8
    device = torch.device("cpu")
    ndim = 4

    def __init__(self, folder: str, names: np.ndarray, options: Options, *, pool: Pool | None = None) -> None:
        """Keep the names; nothing is read."""
        self._folder, self._names, self._options = folder, names, options
        self._pool = pool or Pool()
        self.shape = torch.Size((len(names), options.channels, *options.side))

    def __len__(self) -> int:
        """Number of images."""
        return len(self._names)

    def __getitem__(self, pick: int | slice | Sequence[int] | Tensor) -> Tensor:
        """Decode some images, uint8 [b, C, H, W] (or [C, H, W] for one index).

        Raises:
            UserError: An image is missing or cannot be read; it is named.
        """
        if isinstance(pick, int):
            return self[[pick]][0]
        index = pick if isinstance(pick, slice) else np.asarray(pick)
        items = [Item(f"{self._folder}/{name}", 0, -1, f"{self._folder}/{name}") for name in self._names[index]]
        out = empty((len(items), *self.shape[1:]))
        step = max(1, -(-len(items) // (2 * max(1, self._pool.workers))))

        def chunk(start: int) -> None:
            self._pool.decode(items[start : start + step], self._options, out[start : start + step])

        with ThreadPoolExecutor(max(1, self._pool.workers)) as threads:
            list(threads.map(chunk, range(0, len(items), step)))
        return out

    def select(self, chosen: Tensor) -> FolderImages:
        """A part of the set, still in its folder; the workers are shared."""
        return FolderImages(self._folder, self._names[chosen.numpy()], self._options, pool=self._pool)


def read(folder: Path, *, name: str) -> ImageData:
    """The set that is registered in `folder`; its images are read when they are asked for.

    Raises:
        UserError: The registration was altered, or the images' folder is gone.
    """
    record = prepared.read_record(folder, name=name)
    source = record["source"]
    prepared.check_once(folder, record, FILES, lambda: check(folder, record))
    if not Path(source["folder"]).is_dir():
        raise UserError(
            f"the images of {name} were in {source['folder']}, which is gone: `gendyn data {name} --from PATH`"
        )
    _, height, width = record["shape"]
    options = Options(3, (height, width), source["resize"], source["crop"])
    pool = Pool()
    splits = {}
    for split in SPLITS:
        names = np.array((folder / f"{split}.txt").read_text(encoding="utf-8").splitlines())
        labels = torch.from_numpy(np.load(folder / f"{split}_labels.npy", allow_pickle=False))
        images = FolderImages(source["folder"], names, options, pool=pool)
        splits[split] = Split(cast(Tensor, images), labels)  # it reads like one
    return ImageData.from_record(name, record, train=splits["train"], test=splits["test"])


def check(folder: Path, record: dict[str, Any]) -> None:
    """Compare names and labels of a registered set with its record; the images themselves are read by ``--verify``.

    Raises:
        UserError: One was altered.
    """
    source = record["source"]
    if len(record["shape"]) != 3 or any(type(source.get(key)) is not kind for key, kind in SOURCE.items()):
        raise UserError(f"{folder / prepared.RECORD} has no valid 'source': {prepared.again(folder)}")
    prepared.check_bytes(folder, record, FILES)
    labels = {split: np.load(folder / f"{split}_labels.npy", allow_pickle=False) for split in SPLITS}
    if prepared.counts(record["class_names"], **labels) != record["counts"]:
        raise UserError(f"{folder / prepared.RECORD} was altered (other counts): {prepared.again(folder)}")
