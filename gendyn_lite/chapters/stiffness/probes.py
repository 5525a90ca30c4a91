"""Probes of chapter 4: stiffness by layer, over the plane, and during training."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite import data
from gendyn_lite.chapters.baselines import Frozen, moved_as_far
from gendyn_lite.chapters.runner import build, inputs
from gendyn_lite.chapters.stiffness.tables import LAG, LAYERS, MOVEMENT
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import stiffness
from gendyn_lite.measures.per_example.lag import lag_is_wanted
from gendyn_lite.measures.stiffness.probe import prepared
from gendyn_lite.train.probes import Probe, reestimated_statistics

# Raise a version when that probe changes what it measures, so that old runs are not taken for new ones.
PROBE_VERSIONS = {"layers": 1, "maps": 2, "training": 2, "deep": 2}
SAMPLE = {"layers": 100, "maps": 100, "training": 200, "deep": 30}  # number of training examples that are measured
MANY_DEEP = 200  # the same for deep networks trained on at least 1,000
RADIUS = 0.15  # of a neighbourhood, in units of the inputs
MARGIN = 0.15  # by which a map extends beyond the points, as a share of their range
RESOLUTION = 36  # points along each side of a map
BINS = 10  # of distances
KEPT = (0, 5)  # seeds for which the whole map is recorded
NEAREST = 30  # neighbours of a data point


def probes_for(config: RunConfig, loaded: ImageData) -> dict[str, Probe]:
    """Make the probes of a run of this chapter; its kind is in the name of its experiment.

    Args:
        config: The run's configuration.
        loaded: Its data, with the labels that it trains with.
    """
    kind = config.experiment.removeprefix("stiffness_")
    count = MANY_DEEP if kind == "deep" and len(loaded.train.y) >= 1000 else SAMPLE[kind]
    x, y = sample(config, loaded, "train_eval", count)
    if kind == "maps":
        return {"map": map_probe(loaded, keep=config.seed in KEPT, untrained=build(config, loaded))}
    if kind == "deep":
        return deep_probes(config, loaded, stiffness.layer_probe(x, y))
    if kind == "layers":
        return {LAYERS: stiffness.layer_probe(x, y, float64=True)}
    test = sample(config, loaded, "test", count)
    small = config.model == "mlp"
    return {
        "stiffness": stiffness.stiffness_probe(x, y, test=test, lengths=True, float64=small),
        "detail": detail_probe(x, y, num_classes=loaded.num_classes, epochs=(0, config.epochs), float64=small),
    }


def deep_probes(config: RunConfig, loaded: ImageData, layers: Probe) -> dict[str, Probe]:
    """Make the probes of a deep network's layers, and at the last epoch those of two baselines that learn nothing.

    ``movement`` is the initial network with each tensor moved at random as far as training moved it, and batch-norm's
    statistics re-estimated. ``lag`` is the initial network with fixed weights, and running statistics updated by the
    batches of training.

    Args:
        config: The run's configuration.
        loaded: Its data, with the labels that it trains with.
        layers: The probe of layers, which is applied to all three.
    """
    start = build(config, loaded).eval()
    frozen = Frozen(start, data.batcher(loaded, config))
    train_eval = data.batcher(loaded, config, split="train_eval")

    def movement(model: nn.Module, epoch: int) -> Any:
        if epoch < config.epochs:
            return {}
        moved = moved_as_far(start, model, seed=config.seed)
        with reestimated_statistics(moved, train_eval.epoch(0)):
            return layers(moved, epoch)

    def lag(model: nn.Module, epoch: int) -> Any:
        with lag_is_wanted():
            return layers(frozen(epoch), epoch) if epoch == config.epochs else {}

    return {LAYERS: layers, MOVEMENT: movement, LAG: lag}


def sample(config: RunConfig, loaded: ImageData, split: str, count: int) -> tuple[Tensor, Tensor]:
    """Return preprocessed inputs and labels of the first examples of a split, in a class-balanced order."""
    x, y = inputs(config, loaded, split)
    chosen = data.balanced_order(y, seed=config.seed)[:count]
    return x[chosen], y[chosen]


def detail_probe(x: Tensor, y: Tensor, *, num_classes: int, epochs: tuple[int, ...], float64: bool = False) -> Probe:
    """Make a probe of stiffness class by class and against distance, recorded as text at some epochs.

    ``classes`` holds the rows of the matrix of mean cosine stiffness in hundredths, separated by ``/``. ``bins`` holds
    mean distance and mean cosine stiffness of pairs within a class, in thousandths, for each bin of distances.

    Args:
        x: Inputs [n, ...].
        y: Their labels [n].
        num_classes: Number of classes.
        epochs: The epochs at which to measure.
        float64: Whether to measure in float64.
    """
    pairs, distances = y[:, None] == y[None], stiffness.pair_distances(x)

    def probe(model: nn.Module, epoch: int) -> dict[str, str]:
        if epoch not in epochs:
            return {}
        gram = stiffness.gradient_gram(*prepared(model, x, y, float64))
        assert isinstance(gram, Tensor)
        matrix = stiffness.cosine(gram).cpu()
        classes = stiffness.by_class(matrix, y, num_classes=num_classes).nan_to_num()
        bins = stiffness.by_distance(matrix, distances, pairs, bins=BINS, resamples=0)
        return {
            "classes": "/".join(encode(row, 100) for row in classes),
            "bins": "/".join(encode(torch.tensor([b.distance, b.stiffness.mean]), 1000) for b in bins),
        }

    return probe


def map_probe(
    loaded: ImageData,
    *,
    keep: bool,
    radius: float = RADIUS,
    layers: tuple[str, ...] = (),
    untrained: nn.Module | None = None,
) -> Probe:
    """Make a probe of stiffness with neighbours over the plane, near the learned boundary and away from it.

    ``boundary`` is the mean over grid points with a neighbour of another predicted class within the radius, ``inside``
    the mean over the others, ``boundary_share`` the share of the former. With `keep` the whole map is recorded as text:
    ``stiffness`` in hundredths and ``predicted``, in the order of the grid.

    With `untrained` there are three more pairs of ``boundary`` and ``inside``. Two of them show what holds by
    construction: ``shifted_…`` (at epoch 0) of the untrained network, with its last bias shifted so that both classes
    occur, and ``labelled_…`` of the untrained network with the classes that the trained one predicts. The third,
    ``points_…``, is taken around the data points with their own labels; a point is at the boundary if one of its
    nearest points has another label.

    Args:
        loaded: Points in the plane.
        keep: Whether the whole map is recorded.
        radius: Radius of a neighbourhood, in units of the inputs.
        layers: Layers whose gradients are used; empty for all.
        untrained: The network before training.
    """
    low, high = corners(loaded)
    options = {"radius": radius, "resolution": RESOLUTION, "layers": layers}
    start = None if untrained is None else copy.deepcopy(untrained).cpu().double().eval()

    def probe(model: nn.Module, epoch: int) -> dict[str, Any]:
        twin = copy.deepcopy(model).cpu().double()
        found = stiffness.neighbourhood_map(twin, low=low, high=high, **options)
        near = _within(found.points, radius)
        values: dict[str, Any] = _sides(found.stiffness, near, found.predicted)
        values["boundary_share"] = float(_mixed(near, found.predicted).double().mean())
        if start is not None:
            labelled = around(start, found.points, found.predicted, near)
            values |= _sides(labelled, near, found.predicted, prefix="labelled_")
            values |= _of_points(twin, loaded)
            if epoch == 0:
                shifted = stiffness.neighbourhood_map(
                    with_shifted_bias(start, found.points), low=low, high=high, **options
                )
                values |= _sides(shifted.stiffness, near, shifted.predicted, prefix="shifted_")
        if keep:
            values["stiffness"] = encode(found.stiffness, 100)
            values["predicted"] = "".join(map(str, found.predicted.tolist()))
        return values

    return probe


def around(model: nn.Module, x: Tensor, y: Tensor, near: Tensor) -> Tensor:
    """Return the mean cosine stiffness of each example with its neighbours [n], which `near` [n, n] marks."""
    gram = stiffness.gradient_gram(model, x, y)
    assert isinstance(gram, Tensor)
    return (stiffness.cosine(gram) * near).sum(1) / near.sum(1)


def with_shifted_bias(model: nn.Module, points: Tensor) -> nn.Module:
    """Copy a network and shift its last bias, so that every output has median 0 and the copy has a boundary."""
    twin = copy.deepcopy(model)
    last = [module for module in twin.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.bias -= twin(points).median(0).values
    return twin


def nearest(x: Tensor, count: int = NEAREST) -> Tensor:
    """Mark the `count` nearest examples of each example, bool [n, n]; no example is its own neighbour."""
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    chosen = distances.topk(min(count, len(x) - 1), largest=False).indices
    return torch.zeros_like(distances, dtype=torch.bool).scatter_(1, chosen, True)


def _within(points: Tensor, radius: float) -> Tensor:
    """Mark the points at most a radius away from each point, bool [n, n]; no point is its own neighbour."""
    exact = "donot_use_mm_for_euclid_dist"  # torch's matrix product loses digits far from the origin
    return (torch.cdist(points, points, compute_mode=exact) <= radius).fill_diagonal_(False)


def _of_points(model: nn.Module, loaded: ImageData) -> dict[str, float]:
    """Return the means around the training points, with the labels of the data."""
    x, y = loaded.train.x.double(), loaded.train.y
    near = nearest(x)
    return _sides(around(model, x, y, near), near, y, prefix="points_")


def _mixed(near: Tensor, y: Tensor) -> Tensor:
    """Mark the examples with a neighbour of another class, bool [n]."""
    return (near & (y[:, None] != y[None])).any(1)


def _sides(values: Tensor, near: Tensor, y: Tensor, *, prefix: str = "") -> dict[str, float]:
    """Average over examples with a neighbour of another class (``boundary``), and over the others (``inside``)."""
    mixed = _mixed(near, y)
    parts = {"boundary": values[mixed], "inside": values[~mixed]}
    return {prefix + name: float(part.mean()) if len(part) else float("nan") for name, part in parts.items()}


def corners(loaded: ImageData) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the lowest and highest corner of the map of a set of points, rounded to tenths."""
    low, high = loaded.train.x.min(0).values, loaded.train.x.max(0).values
    wide = MARGIN * (high - low)
    first, last = (low - wide).tolist(), (high + wide).tolist()
    return (round(first[0], 1), round(first[1], 1)), (round(last[0], 1), round(last[1], 1))


def map_corners(names: Iterable[str]) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Return the `corners` of each set of points, by its name."""
    return {name: corners(data.load(name)) for name in names}


def encode(values: Tensor, scale: int) -> str:
    """Write numbers as whole multiples of 1/scale separated by blanks, which is short in a published table.

    >>> encode(torch.tensor([0.5, -0.25]), 100)
    '50 -25'
    """
    return " ".join(map(str, (values * scale).round().int().tolist()))
