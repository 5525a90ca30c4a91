"""Data against its peers: images a second, in one run on one machine.

Run:      python tests/benchmarks/data.py [--images 20000] [--side 32] [--folder PATH] [--rounds 3]
Takes:    about two minutes on two cores.
Peers:    preparing: torchvision's ImageFolder with a DataLoader; batches: a DataLoader over arrays in memory with
          torchvision's per-image transforms (the usual crop, flip and normalization), on PIL images and on tensors
          (v2). Each with no worker and with one a core; the best is the peer.
Expected: preparing at least as fast as ImageFolder with the same cores; batches at least 10 times the best peer.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.transforms import v2

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data import image_folder
from gendyn_lite.data.decoding import cores
from tests.benchmarks.shared.each_way import MEAN, STD, PerImage, in_turns, machine, noise, parse, parser, show

BATCH = 128


def main() -> None:
    """Both comparisons, each case in turn, several times over; the best round counts."""
    options = parser(__doc__, rounds=3)
    options.add_argument("--images", type=int, default=20_000)
    options.add_argument("--side", type=int, default=32)
    options.add_argument("--folder", type=Path, help="an image folder to prepare (default: one is made)")
    given = parse(options)
    show(f"{cores()} cores, torch {torch.__version__}, {machine()}; best of {given.rounds} rounds")
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or make_folder(Path(made), given.images, given.side)
        count = sum(1 for _ in image_folder.walk(folder))
        compare("prepare an image folder", count, preparing(folder), given.rounds)
    images = noise(given.images, (3, given.side, given.side))
    compare("an epoch of augmented batches", given.images, batching(images), given.rounds)


def compare(title: str, images: int, cases: dict[str, Callable[[], object]], rounds: int) -> None:
    """Print the images a second of each case, and the ratio of ours to the best peer."""
    rates = {name: images / seconds for name, seconds in in_turns(cases, rounds, clock=time.perf_counter).items()}
    ours, *peers = rates
    best = max(peers, key=lambda name: rates[name])
    show(f"\n{title} ({images:,} images)")
    for name, rate in rates.items():
        show(f"  {name:<52} {rate:>12,.0f} images/s")
    show(f"  ratio to the best peer ({best}): {rates[ours] / rates[best]:.1f}")


def make_folder(folder: Path, images: int, side: int) -> Path:
    """An image folder of smooth random JPEGs of quality 75 in ten classes, a sixth of them for testing."""
    coarse = np.random.default_rng(0).integers(0, 256, (64, 4, 4, 3), dtype=np.uint8)
    smooth = [Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC) for pixels in coarse]
    for i in range(images):
        place = folder / ("test" if i % 6 == 0 else "train") / f"class{i // 6 % 10}"
        place.mkdir(parents=True, exist_ok=True)
        smooth[i % 64].save(place / f"{i:06}.jpg", quality=75)
    return folder


def preparing(folder: Path) -> dict[str, Callable[[], object]]:
    """Every image of the folder into one array a split."""

    def ours() -> object:
        tree = image_folder.listing(image_folder.walk(folder), where=str(folder))
        empty = partial(torch.empty, dtype=torch.uint8)
        return image_folder.decode_splits(tree, image_folder.locator(folder), lambda _, shape: empty(shape))

    def torchvision(workers: int) -> object:
        of = {"batch_size": 256, "num_workers": workers}
        splits = [datasets.ImageFolder(str(folder / split), transforms.PILToTensor()) for split in ("train", "test")]
        return [torch.cat([x for x, _ in DataLoader(images, **of)]) for images in splits]

    name = "torchvision ImageFolder, DataLoader, {} workers"
    return {"gendyn_lite": ours} | {name.format(workers): partial(torchvision, workers) for workers in (0, cores())}


def batching(images: data.ImageData) -> dict[str, Callable[[], object]]:
    """One epoch: shuffle, crop with four pixels of padding, flip, normalize by channel; float32 batches."""
    x, y = images.train.x, images.train.y
    config = RunConfig(experiment="benchmark", random_crop=4, flip=True, standardize="per_channel", batch_size=BATCH)
    side = x.shape[-1]
    crop, flip = transforms.RandomCrop(side, padding=4), transforms.RandomHorizontalFlip()
    finish = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    on_pil = transforms.Compose([Image.fromarray, crop, flip, *finish])
    crop, flip = v2.RandomCrop(side, padding=4), v2.RandomHorizontalFlip()
    on_tensor = v2.Compose([crop, flip, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def epoch(batches: Iterable[object]) -> None:
        deque(batches, maxlen=0)

    pixels = x.permute(0, 2, 3, 1).contiguous().numpy()
    cases: dict[str, Callable[[], object]] = {"gendyn_lite": lambda: epoch(data.batcher(images, config).epoch(0))}
    for kind, source, transform in (("PIL", pixels, on_pil), ("tensor (v2)", x, on_tensor)):
        for workers in (0, cores()):
            options = {"batch_size": BATCH, "shuffle": True, "num_workers": workers}
            loader: DataLoader = DataLoader(PerImage(source, y.tolist(), transform), **options)
            cases[f"torchvision on {kind}, DataLoader, {workers} workers"] = partial(epoch, loader)
    return cases


if __name__ == "__main__":
    main()
