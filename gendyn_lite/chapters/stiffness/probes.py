"""What the runs of chapter 4 record at their evaluated epochs."""

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
from gendyn_lite.measures.stiffness.probe import prepared
from gendyn_lite.train.probes import Probe, reestimated_statistics

# Of what the probes measure: raised with every change of that, so that old runs stay what they are.
PROBE_VERSIONS = {"layers": 1, "maps": 2, "training": 2, "deep": 2}
SAMPLE = {"layers": 100, "maps": 100, "training": 200, "deep": 30}  # training examples that are measured
MANY_DEEP = 200  # of a deep network trained on at least 1,000
RADIUS = 0.15  # of a neighbourhood, in units of the inputs
MARGIN = 0.15  # by which the map goes beyond the points, as a share of their range
RESOLUTION = 36
BINS = 10
KEPT = (0, 5)  # seeds whose maps are recorded whole
NEAREST = 30  # neighbours of a data point


def probes_for(config: RunConfig, loaded: ImageData) -> dict[str, Probe]:
    """The probes of a run of this chapter, by the kind in its experiment's name.

    Args:
        config: Its configuration.
        loaded: Its data, labels as trained with.
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
    """The layers of a deep network, and at the end those of what learned nothing.

    ``movement``: the initial weights, each tensor moved at random as far as training moved it, batch-norm's statistics
    re-estimated. ``lag``: the initial weights, frozen, with running statistics as training would update them.

    Args:
        config: The run's configuration.
        loaded: Its data, labels as trained with.
        layers: The probe of layers.
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
        return layers(frozen(epoch), epoch) if epoch == config.epochs else {}

    return {LAYERS: layers, MOVEMENT: movement, LAG: lag}


def sample(config: RunConfig, loaded: ImageData, split: str, count: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels of the first examples of a split in a class-balanced order, as the network takes them."""
    x, y = inputs(config, loaded, split)
    chosen = data.balanced_order(y, seed=config.seed)[:count]
    return x[chosen], y[chosen]


def detail_probe(x: Tensor, y: Tensor, *, num_classes: int, epochs: tuple[int, ...], float64: bool = False) -> Probe:
    """The class-by-class matrix and stiffness against distance, as text, at some epochs; in float64 as the curve is.

    ``classes`` has the rows of the matrix of mean cosine stiffness in hundredths, divided by ``/``; ``bins`` has for
    each bin of distances of pairs within a class the mean distance and the mean cosine stiffness, in thousandths.
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
    """Stiffness with the neighbours over the plane: its mean beside the learned boundary and away from it.

    ``boundary`` is the mean over grid points with a neighbour of another predicted class within the radius, ``inside``
    over the others, ``boundary_share`` the share of the former. With `keep` the whole map is recorded as text:
    ``stiffness`` in hundredths and ``predicted``, in the order of the grid.

    With `untrained` come three more of each pair. What is so by construction: ``shifted_…`` of the untrained network
    whose last bias is shifted until it has both classes (at epoch 0 alone), and ``labelled_…`` of the untrained network
    with the classes that the trained one gives. And ``points_…``: around the data points, with the labels of the data,
    and with or without one of another label among the nearest.

    Args:
        loaded: Planar points.
        keep: Whether the whole map is recorded.
        radius: Of a neighbourhood, in units of the inputs.
        layers: Only the gradient of these layers; all if empty.
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
    """Mean cosine stiffness of each example with its neighbours, [n]; `near` [n, n] says which, and not itself."""
    gram = stiffness.gradient_gram(model, x, y)
    assert isinstance(gram, Tensor)
    return (stiffness.cosine(gram) * near).sum(1) / near.sum(1)


def with_shifted_bias(model: nn.Module, points: Tensor) -> nn.Module:
    """A copy whose outputs have medians of 0 over some points, by its last bias: it has a boundary, learnt or not."""
    twin = copy.deepcopy(model)
    last = [module for module in twin.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.bias -= twin(points).median(0).values
    return twin


def nearest(x: Tensor, count: int = NEAREST) -> Tensor:
    """Which examples are among the `count` nearest of each, [n, n]; none is its own neighbour."""
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    chosen = distances.topk(min(count, len(x) - 1), largest=False).indices
    return torch.zeros_like(distances, dtype=torch.bool).scatter_(1, chosen, True)


def _within(points: Tensor, radius: float) -> Tensor:
    """Which points are at most a radius away from each, [n, n]; none is its own neighbour."""
    exact = "donot_use_mm_for_euclid_dist"  # the other way loses digits far from the origin
    return (torch.cdist(points, points, compute_mode=exact) <= radius).fill_diagonal_(False)


def _of_points(model: nn.Module, loaded: ImageData) -> dict[str, float]:
    """The means around the training points, with the labels of the data."""
    x, y = loaded.train.x.double(), loaded.train.y
    near = nearest(x)
    return _sides(around(model, x, y, near), near, y, prefix="points_")


def _mixed(near: Tensor, y: Tensor) -> Tensor:
    """Which examples have a neighbour of another class, [n]."""
    return (near & (y[:, None] != y[None])).any(1)


def _sides(values: Tensor, near: Tensor, y: Tensor, *, prefix: str = "") -> dict[str, float]:
    """Mean over examples that have a neighbour of another class, and over the others."""
    mixed = _mixed(near, y)
    parts = {"boundary": values[mixed], "inside": values[~mixed]}
    return {prefix + name: float(part.mean()) if len(part) else float("nan") for name, part in parts.items()}


def corners(loaded: ImageData) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lowest and highest corner of the map of a planar point set, rounded to tenths."""
    low, high = loaded.train.x.min(0).values, loaded.train.x.max(0).values
    wide = MARGIN * (high - low)
    first, last = (low - wide).tolist(), (high + wide).tolist()
    return (round(first[0], 1), round(first[1], 1)), (round(last[0], 1), round(last[1], 1))


def map_corners(names: Iterable[str]) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """`corners` of each point set, by its name."""
    return {name: corners(data.load(name)) for name in names}


def encode(values: Tensor, scale: int) -> str:
    """Numbers as whole multiples of 1/scale, divided by blanks: short in a published table.

    >>> encode(torch.tensor([0.5, -0.25]), 100)
    '50 -25'
    """
    return " ".join(map(str, (values * scale).round().int().tolist()))
