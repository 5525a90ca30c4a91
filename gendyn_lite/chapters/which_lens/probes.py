"""The probe of 'Which lens?': paths while a network trains, and at the end all lenses and rival measures."""

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

PROBE_VERSION = 1  # raise it when the probe changes what it measures, so that old runs are not taken for new ones
# Training images of the lenses, those stepped on, those watched; lines of each kind.
FEW, FEWER, WATCHED, LINES = 64, 16, 32, 24
STEP = 0.01  # size of the step whose influence is measured
MOST_SHARE = 0.9  # share of the Fisher information that counts as most of it


class Seen(NamedTuple):
    """The inputs of all measures of one network.

    Attributes:
        x: Training images [n, *in_shape], in a class-balanced order.
        y: The labels that they are trained with [n].
        test: Test images and labels for validation (`validation_accuracy`), and those for testing (`held_accuracy`).
        start: The weights before training, by name.
        recording: The paths of the first `FEW` images at every epoch.
        seed: Seed of the run.
    """

    x: Tensor
    y: Tensor
    test: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    start: Mapping[str, Tensor]
    recording: relu_paths.PathRecording
    seed: int


def lens_probe(config: RunConfig, loaded: ImageData, scratch: Path, *, test: Split | None = None) -> Probe:
    """Make a probe that records the paths of every epoch and measures everything at the last one.

    The last epoch is the one at which training stops, because its loss is low enough, or the last planned one. The
    probe computes the training loss itself.

    Args:
        config: The run.
        loaded: Its data.
        scratch: Folder of the paths until the run is complete.
        test: Test images for the final accuracy, if they are not those that are evaluated during training.
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
    """Compute every lens and rival with its processor time; a refused one records why, and the others go on."""
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
    """Measure similarity of paths between consecutive epochs: at the end, over training, and its early-to-mid ratio.

    The early and the mid stage are the first and the second third of the epochs. ``kept`` compares the last epoch with
    the first.
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
    """Measure the trace of the empirical Fisher information, how few weights hold most of it, and influence."""
    x, y = seen.x[:FEW], seen.y[:FEW]
    flat = torch.cat([value.flatten() for value in fisher.diagonal(model, x, y).values()]).double()
    held = flat.sort(descending=True).values.cumsum(0)
    share = (int((held < MOST_SHARE * held[-1]).sum()) + 1) / len(flat)
    watched = slice(FEWER, FEWER + WATCHED)
    influence = fisher.influence_probe(x[:FEWER], y[:FEWER], x[watched], y[watched], eps=STEP)(model, 0)
    return {"trace": float(held[-1]), "share": share, "influence": influence["quadratic_true"]}


def of_stiffness(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Measure stiffness within and between classes and the critical length, also between training and test images."""
    (x, y), (test_x, test_y) = (seen.x[:FEW], seen.y[:FEW]), (part[:FEW] for part in seen.test[0])
    found = stiffness.stiffness_probe(x, y, test=(test_x, test_y), lengths=True)(model, 0)
    names = {"within": "within_cosine", "between": "between_cosine", "critical_length": "critical_length"}
    return {name: found[key] for name, key in {**names, "test_within": "test_within_cosine"}.items()}


def of_intervals(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Measure mean interval lengths: towards an image of the class, at random, and along the gradient of the margin.

    Lines that keep their class over the whole range count with its length. On convolutional networks lines are sampled.
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
    """Compute the number of weights and norms of them; smaller values are said to be better."""
    shape = tuple(seen.x.shape[1:])
    return {
        "parameters": float(models.parameter_count(model)),
        "frobenius": complexity.frobenius(model),
        "distance": complexity.distance(model, seen.start),
        "path_norm": math.log(complexity.path_norm(model, shape)),
        "spectral": complexity.spectral(model, shape),
    }


def of_margins(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Compute the margin on the training images, and norms divided by it."""
    shape, margin = tuple(seen.x.shape[1:]), complexity.margin(model, seen.x, seen.y)
    found = {"margin": margin}
    if margin > 0:
        found["spectral_over_margin"] = complexity.spectral(model, shape) - math.log(margin)
        found["path_over_margin"] = math.log(complexity.path_norm(model, shape)) - math.log(margin)
    return found


def of_flatness(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Compute the sharpness of the training loss, and the spread of the examples' gradients."""
    gram = stiffness.gradient_gram(model, seen.x[:FEW], seen.y[:FEW])
    assert isinstance(gram, Tensor)
    noise = complexity.gradient_noise(gram)
    return {"sharpness": complexity.sharpness(model, seen.x, seen.y), "gradient_noise": noise}


def of_test(model: nn.Module, seen: Seen) -> dict[str, float]:
    """Compute accuracy on validation images, which cheats, and on the other test images, which is to be predicted."""
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
    """Split images into one third and two thirds of each class."""
    by_class = y.argsort(stable=True)
    chooses = torch.arange(len(y)) % 3 == 0
    return (x[by_class[chooses]], y[by_class[chooses]]), (x[by_class[~chooses]], y[by_class[~chooses]])


@torch.no_grad()
def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    parts = zip(x.split(500), y.split(500), strict=True)
    return sum(int((model(part).argmax(1) == labels).sum()) for part, labels in parts) / len(y)


@torch.no_grad()
def _reached(model: nn.Module, x: Tensor, y: Tensor, loss: float) -> bool:
    """Whether the mean training loss is at most this; stops as soon as the sum over some images is too large."""
    left = loss * len(y)
    for part, labels in zip(x.split(100), y.split(100), strict=True):
        left -= float(F.cross_entropy(model(part), labels, reduction="sum"))
        if left < 0:
            return False
    return True
