"""What is measured of every network: its paths while it trains, and at the end all lenses and their rivals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite import models
from gendyn_lite.chapters.runner import build, inputs
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.errors import UserError, first_line
from gendyn_lite.measures import complexity, fisher, intervals, relu_paths, stiffness
from gendyn_lite.train.probes import Probe

PROBE_VERSION = 1  # of what the probe measures: raise it with every change of that, and old runs stay what they are
FEW, FEWER, WATCHED, LINES = 64, 16, 32, 24  # training images of the lenses, stepped on, watched; lines of each kind
STEP = 0.01  # size of the step whose influence is measured
MOST_SHARE = 0.9  # of the Fisher information


class Seen(NamedTuple):
    """What a network is looked at with.

    Attributes:
        x: Training images [n, *in_shape], in a class-balanced order.
        y: The labels that they are trained with.
        test: Test images and labels that choose (`validation_accuracy`), and those that judge (`held_accuracy`).
        start: The weights before training, by name.
        recording: The paths of the first `FEW` images at every epoch.
        seed: Of the run.
    """

    x: Tensor
    y: Tensor
    test: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    start: Mapping[str, Tensor]
    recording: relu_paths.PathRecording
    seed: int


def lens_probe(config: RunConfig, loaded: ImageData, scratch: Path, *, test: Split | None = None) -> Probe:
    """A probe that notes the paths of every epoch, and at the last one measures everything.

    The last epoch is the one whose training loss is low enough, or the last that there is: the probe looks itself.

    Args:
        config: The run.
        loaded: Its data.
        scratch: Folder of the paths while the run is not complete.
        test: Test images to judge by, where there are more than the run looks at while it trains.
    """
    x, y = inputs(config, loaded)
    judging = replace(loaded, test=test or loaded.test)
    start = {name: value.detach().clone() for name, value in build(config, loaded).named_parameters()}
    recording = relu_paths.PathRecording(scratch)
    seen = Seen(x, y, _thirds(*inputs(config, judging, "test")), start, recording, config.seed)

    def probe(model: nn.Module, epoch: int) -> dict[str, Any]:
        recording.add(epoch, relu_paths.record_packed(model, x[:FEW]))
        if epoch < config.epochs and not _reached(model, x, y, config.stop_at_loss or 0.0):
            return {}
        return measured(model, seen)

    return probe


def measured(model: nn.Module, seen: Seen) -> dict[str, Any]:
    """Every lens and every rival, and the seconds that each took; what is refused says why, and the others go on."""
    found: dict[str, Any] = {}
    for name, lens in LENSES.items():
        started = time.process_time()
        try:
            values = lens(model, seen)
        except UserError as error:
            values = {"refused": first_line(error)}
        found |= {f"{name}:{key}": value for key, value in values.items()}
        found[f"{name}:seconds"] = round(time.process_time() - started, 4)
    return {key: value for key, value in found.items() if not (isinstance(value, float) and not math.isfinite(value))}


def of_paths(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Similarity of paths between one epoch and the next: at the end, over training, and early over mid training.

    The stages are the first and the second third of the epochs that the network took.
    """
    recording = seen.recording
    by_layer = [recording.cross_path_means(layer) for layer in recording.layers]
    last = recording.epochs[-1]
    means = {epoch: sum(layer[epoch] for layer in by_layer) / len(by_layer) for epoch in range(1, last + 1)}
    first, final = (recording.packed(epoch) for epoch in (0, last))
    kept = [float(relu_paths.self_similarity(final[layer], first[layer]).mean()) for layer in recording.layers]
    found = {"last": means[last], "mean": sum(means.values()) / last, "kept": sum(kept) / len(kept)}
    if last >= 3:
        third = last // 3
        found["early_to_mid"] = relu_paths.early_to_mid_ratio(means, [third, 2 * third])
    return found


def of_fisher(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Trace of the empirical Fisher information, the share of weights that holds most of it, and a step's influence."""
    x, y = seen.x[:FEW], seen.y[:FEW]
    flat = torch.cat([value.flatten() for value in fisher.diagonal(model, x, y).values()]).double()
    held = flat.sort(descending=True).values.cumsum(0)
    share = (int((held < MOST_SHARE * held[-1]).sum()) + 1) / len(flat)
    watched = slice(FEWER, FEWER + WATCHED)
    influence = fisher.influence_probe(x[:FEWER], y[:FEWER], x[watched], y[watched], eps=STEP)(model, 0)
    return {"trace": float(held[-1]), "share": share, "influence": influence["quadratic_true"]}


def of_stiffness(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Stiffness within a class, between classes and the critical length, of training images; with test ones beside."""
    (x, y), (test_x, test_y) = (seen.x[:FEW], seen.y[:FEW]), (part[:FEW] for part in seen.test[0])
    found = stiffness.stiffness_probe(x, y, test=(test_x, test_y), lengths=True)(model, 0)
    names = {"within": "within_cosine", "between": "between_cosine", "critical_length": "critical_length"}
    return {name: found[key] for name, key in {**names, "test_within": "test_within_cosine"}.items()}


def of_intervals(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Mean lengths of generalization intervals: towards an image of the class, at random, and along the gradient.

    Lines that keep the class as far as they are followed count with that length. Convolutional networks are sampled.
    """
    x, y = seen.x[: 2 * FEW], seen.y[: 2 * FEW]
    pairs = intervals.same_class_tuples(y, LINES, seed=seen.seed)
    origin, towards = intervals.pair_lines(x, pairs)
    length = float(towards.flatten(1).norm(dim=1).mean())
    directions = {
        "pair": towards,
        "random": intervals.random_directions(origin, length=length, seed=seen.seed),
        "adversarial": intervals.adversarial_directions(model, origin, length=length),
    }
    dense = not any(isinstance(module, nn.Conv2d) for module in model.modules())
    options: dict[str, Any] = {"method": "exact"} if dense else {"method": "grid", "samples": 40, "tolerance": 1e-3}
    return {
        name: float(intervals.generalization_interval(model, origin, direction, **options).length.mean())
        for name, direction in directions.items()
    }


def of_norms(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Number of weights, and norms of them: each lower is said to be better."""
    shape = tuple(seen.x.shape[1:])
    return {
        "parameters": float(models.parameter_count(model)),
        "frobenius": complexity.frobenius(model),
        "distance": complexity.distance(model, seen.start),
        "path_norm": math.log(complexity.path_norm(model, shape)),
        "spectral": complexity.spectral(model, shape),
    }


def of_margins(model: nn.Module, seen: Seen) -> dict[str, float]:
    """The margin on the training images, and norms over it."""
    shape, margin = tuple(seen.x.shape[1:]), complexity.margin(model, seen.x, seen.y)
    found = {"margin": margin}
    if margin > 0:
        found["spectral_over_margin"] = complexity.spectral(model, shape) - math.log(margin)
        found["path_over_margin"] = math.log(complexity.path_norm(model, shape)) - math.log(margin)
    return found


def of_flatness(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Sharpness of the training loss, and how the gradients of examples spread."""
    gram = stiffness.gradient_gram(model, seen.x[:FEW], seen.y[:FEW])
    assert isinstance(gram, Tensor)
    noise = complexity.gradient_noise(gram)
    return {"sharpness": complexity.sharpness(model, seen.x, seen.y), "gradient_noise": noise}


def of_test(model: nn.Module, seen: Seen) -> dict[str, float]:
    """What cheats: accuracy on test images that choose. And what is to be predicted: accuracy on those that judge."""
    names = ("validation_accuracy", "held_accuracy")
    found = {name: _accuracy(model, *part) for name, part in zip(names, seen.test, strict=True)}
    return found | {"n_held": float(len(seen.test[1][1]))}


LENSES: Mapping[str, Callable[[nn.Module, Seen], dict[str, float]]] = {
    "paths": of_paths,
    "fisher": of_fisher,
    "stiffness": of_stiffness,
    "intervals": of_intervals,
    "norms": of_norms,
    "margins": of_margins,
    "flatness": of_flatness,
    "test": of_test,
}


def _thirds(x: Tensor, y: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """One third of the images of each class, and the other two."""
    by_class = y.argsort(stable=True)
    chooses = torch.arange(len(y)) % 3 == 0
    return (x[by_class[chooses]], y[by_class[chooses]]), (x[by_class[~chooses]], y[by_class[~chooses]])


@torch.no_grad()
def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    parts = zip(x.split(500), y.split(500), strict=True)
    return sum(int((model(part).argmax(1) == labels).sum()) for part, labels in parts) / len(y)


@torch.no_grad()
def _reached(model: nn.Module, x: Tensor, y: Tensor, loss: float) -> bool:
    """Whether the mean training loss is at most this; most often a few images say that it is not."""
    left = loss * len(y)
    for part, labels in zip(x.split(100), y.split(100), strict=True):
        left -= float(F.cross_entropy(model(part), labels, reduction="sum"))
        if left < 0:
            return False
    return True
