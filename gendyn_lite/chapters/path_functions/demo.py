"""Chapter 2 on scikit-learn's digits, whose pictures travel with the book: overlaps, neighbours, histories, a trap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.path_functions.probes import followed
from gendyn_lite.chapters.path_functions.probes_pairs import ANCHORS, NEAREST
from gendyn_lite.chapters.path_functions.runs import plan
from gendyn_lite.config import RunConfig
from gendyn_lite.data.gallery import data_uri
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import UserError
from gendyn_lite.measures import relu_paths
from gendyn_lite.threads import threads

SHOWN = 28  # digits in the scatter
Ways = Callable[[int], Tensor]  # epoch → the images that are recorded
STEPS = (0, 1, 2, 4, 8)  # epochs of the scatter


class Followed(NamedTuple):
    """A training run on digits whose followed images' paths are kept at every epoch.

    Attributes:
        model: The trained network.
        recording: Paths of every epoch.
        x: The followed images as the network takes them.
        labels: Their labels as trained with.
        digits: Their true labels.
        pictures: The images as data URIs.
    """

    model: nn.Module
    recording: relu_paths.PathRecording
    x: Tensor
    labels: Tensor
    digits: Tensor
    pictures: tuple[str, ...]


@lru_cache(maxsize=4)
def trained(corruption: float = 0.0) -> Followed:
    """The chapter's network on digits, with true or random labels; trained once a session, in a few seconds."""
    planned = plan("networks", "smoke", seeds=1)
    config = next(each for each in planned if each.label_corruption == corruption)
    loaded, _ = data.load_for_run(config.replace(label_corruption=0.0))
    given, _ = data.load_for_run(config)
    x, labels = followed(config, given)
    recording = relu_paths.PathRecording()

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        recording.add(epoch, relu_paths.record_packed(model, x))
        return {}

    model = runner.build(config, given)
    with threads(1):
        train.fit(model, given, config, probes={"paths": probe}, device="cpu")
    pictures = tuple(_picture(image) for image in loaded.train.x[: len(x)])
    return Followed(model, recording, x, labels, loaded.train.y[: len(x)], pictures)


def _picture(image: Tensor) -> str:
    """A digit, dark on light, each pixel drawn as a square of four by four."""
    return data_uri((255 - image).repeat_interleave(4, 1).repeat_interleave(4, 2))


def pictures(found: Followed, count: int) -> pd.DataFrame:
    """The first followed digits: image (its number), digit and picture (a data URI)."""
    digits = found.digits[:count].tolist()
    return pd.DataFrame({"image": range(count), "digit": digits, "picture": found.pictures[:count]})


def scatter(*, count: int = SHOWN, epochs: tuple[int, ...] = STEPS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Path overlap against distance for every pair of some digits, by layer and epoch, and the digits' pictures.

    Returns:
        Pairs (layer, epoch, i, j, distance, overlap as the share of the layer's units that are on for both, and same:
        whether both are one digit), and `pictures`.
    """
    found = trained()
    layers = found.recording.layers
    parts = []
    for number in (2, len(layers)):
        for epoch in epochs:
            packed = found.recording.packed(epoch, layers[number - 1])[layers[number - 1]]
            pairs = relu_paths.overlap_and_distance(packed.rows(0, count), found.x[:count])
            columns = {
                "i": pairs.i.tolist(),
                "j": pairs.j.tolist(),
                "distance": pairs.distance.numpy().round(2),
                "overlap": (pairs.overlap.double() / packed.units).numpy().round(4),
            }
            same = found.digits[pairs.i] == found.digits[pairs.j]
            about = {"layer": f"{number}: {layers[number - 1]}", "epoch": epoch}
            parts.append(pd.DataFrame({**about, **columns, "same": same.int().tolist()}))
    return pd.concat(parts, ignore_index=True), pictures(found, count)


def neighbours(*, anchors: tuple[int, ...] = ANCHORS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ranks over epochs of the digits that are nearest to some digits at the end, by layer, and the digits' pictures.

    Returns:
        Rows (layer, epoch, anchor, neighbour, rank), and `pictures`.
    """
    found = trained()
    parts = []
    for number, layer in enumerate(found.recording.layers, start=1):
        ranks = relu_paths.ranks_over_time(found.recording.path_grams(layer), anchors)
        parts.append(pd.DataFrame(ranks.table(NEAREST)).assign(layer=f"{number}: {layer}"))
    rows = pd.concat(parts, ignore_index=True)
    used = sorted(set(rows["neighbour"]) | set(anchors))
    return rows, pictures(found, max(used) + 1).loc[used].reset_index(drop=True)


def nearest(image: int, layer: str, epoch: int, *, corruption: float = 0.0, top: int = NEAREST) -> pd.DataFrame:
    """The images whose path overlaps most with that of an image, at one epoch.

    Args:
        image: Number of a followed image.
        layer: A gate layer.
        epoch: A recorded epoch.
        corruption: 0 for the network of true labels, 1 for that of random labels.
        top: How many.

    Returns:
        Columns place (0 is the image itself), image, digit, share (of the image's own units that are on for both) and
        picture.

    Raises:
        UserError: There is no such image, layer or epoch.

    >>> nearest(0, "relu4", 0).columns.tolist()
    ['place', 'image', 'digit', 'share', 'picture']
    """
    found = trained(corruption)
    if not 0 <= image < len(found.x):
        raise UserError(f"image is {image}, expected a number from 0 to {len(found.x) - 1}")
    gram = relu_paths.path_gram(found.recording.packed(epoch, layer)[layer])
    ranks = relu_paths.neighbour_ranks(gram, [image])[0]
    order = ranks.argsort()[: top + 1].tolist()
    own = max(int(gram[image, image]), 1)
    rows = [
        {"place": place, "image": each, "digit": int(found.digits[each]),
         "share": round(float(gram[image, each]) / own, 3), "picture": found.pictures[each]}
        for place, each in enumerate(order)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def history(*, epochs: int = 3, momentum: float = 0.0) -> tuple[relu_paths.WeightHistory, nn.Module]:
    """A small network trained by SGD with every image function of every step kept, and the trained network."""
    config = RunConfig(
        experiment="path_history",
        model="mlp",
        model_options={"widths": [24, 16]},
        train_size=100,
        batch_size=20,
        epochs=epochs,
        learning_rate=0.05,
        momentum=momentum,
        eval_every=epochs,
    )
    loaded, _ = data.load_for_run(config)
    model = runner.build(config, loaded)
    numbered = data.batcher(loaded.with_train_labels(torch.arange(len(loaded.train.y))), config)
    kept = relu_paths.WeightHistory(model, batches=numbered, labels=loaded.train.y)
    with threads(1):
        train.fit(model, loaded, config, grad_hook=kept, device="cpu")
    return kept, model


def recording_trap(*, epochs: int = 6) -> pd.DataFrame:
    """Self-similarity as it should be recorded, and with two mistakes, for a network that learns and one that does not.

    The mistakes: the recorded images come from the training loader, which shuffles them anew every epoch, or augments
    them anew. The network that does not learn has a learning rate of practically 0: its true self-similarity is 1.

    Returns:
        A row for each way to record: recorded, learning, frozen (mean self-similarity over layers and epochs).
    """
    config = RunConfig(
        experiment="path_trap",
        model="mlp",
        model_options={"widths": [64, 64]},
        train_size=160,
        batch_size=20,
        epochs=epochs,
        learning_rate=0.05,
        schedule="constant",
    )
    loaded, _ = data.load_for_run(config)
    ways = {
        "one fixed set in one order": lambda epoch: _in_order(loaded, config),
        "shuffled anew every epoch": lambda epoch: _from_loader(loaded, config, epoch),
        "augmented anew every epoch": lambda epoch: _augmented(loaded, config, epoch),
    }
    rates = {"learning": config.learning_rate, "frozen": 1e-30}
    found: dict[str, dict[str, str | float]] = {way: {"recorded": way} for way in ways}
    for name, rate in rates.items():
        values = _self_similarity(loaded, config.replace(learning_rate=rate), ways)
        for way, value in values.items():
            found[way] |= {name: value}
    return pd.DataFrame(list(found.values()))


def _self_similarity(loaded: ImageData, config: RunConfig, ways: dict[str, Ways]) -> dict[str, float]:
    """Mean self-similarity over layers and epochs of one training, for each way to record."""
    before: dict[str, dict[str, Tensor]] = {}
    values: dict[str, list[float]] = {way: [] for way in ways}

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        for way, images in ways.items():
            now = relu_paths.record_paths(model, images(epoch))
            if way in before:
                each = [float(relu_paths.self_similarity(now[k], before[way][k]).mean()) for k in now]
                values[way].append(sum(each) / len(each))
            before[way] = now
        return {}

    with threads(1):
        train.fit(runner.build(config, loaded), loaded, config, probes={"trap": probe}, device="cpu")
    return {way: sum(each) / len(each) for way, each in values.items()}


def _in_order(loaded: ImageData, config: RunConfig) -> Tensor:
    return torch.cat([x for x, _ in data.batcher(loaded, config, split="train_eval").epoch(0)])


def _from_loader(loaded: ImageData, config: RunConfig, epoch: int) -> Tensor:
    return torch.cat([x for x, _ in data.batcher(loaded, config).epoch(epoch)])


def _augmented(loaded: ImageData, config: RunConfig, epoch: int) -> Tensor:
    """The images in their order, each cut from a place drawn anew."""
    images = loaded.train.x
    generator = torch.Generator().manual_seed(epoch)
    shifts = torch.randint(-1, 2, (len(images), 2), generator=generator).tolist()
    moved = torch.stack(
        [torch.roll(image, tuple(shift), dims=(1, 2)) for image, shift in zip(images, shifts, strict=True)]
    )
    return _in_order(replace(loaded, train=loaded.train._replace(x=moved)), config)
