"""Chapter 1, capacity: networks that fit anything, kernels without training, descent to the minimum norm."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import unknown_name
from gendyn_lite.measures import capacity
from gendyn_lite.results.runs import Run, environment, open_run, writing
from gendyn_lite.threads import threads

EXPERIMENT = "kernel_regression"
FEATURES = ("pixels", "gabor", "random_conv")


def memorizing_curves(counts: Sequence[int] = range(2, 25), *, seed: int = 0) -> pd.DataFrame:
    """The network of Theorem 1 on points of a line with random labels, for several numbers of points.

    Args:
        counts: Numbers of points.
        seed: Seed of the points in (0, 1) and of their labels in [−1, 1]; more points are added to the same ones.

    Returns:
        Rows of two kinds: ``"point"`` (x, value: a labelled point) and ``"kink"`` (x, value: where the network bends,
        and both ends of the drawing); columns n, kind, x, value, weights (number of weights, 2n + d).

    >>> rows = memorizing_curves([3])
    >>> int((rows["kind"] == "point").sum()), int(rows["weights"].iloc[0])
    (3, 7)
    """
    generator = np.random.default_rng(seed)
    places, labels = generator.uniform(0.03, 0.97, max(counts)), generator.uniform(-1, 1, max(counts))
    return pd.concat([_curve(places[:n], labels[:n]) for n in counts], ignore_index=True)


def _curve(places: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    x = torch.from_numpy(places)[:, None]
    network = capacity.memorizing_network(x, torch.from_numpy(labels))
    bends = torch.cat([torch.zeros(1), network.biases[0].detach(), torch.ones(1)]).double()
    with torch.no_grad():
        values = network(bends[:, None])
    points = pd.DataFrame({"kind": "point", "x": places, "value": labels})
    kinks = pd.DataFrame({"kind": "kink", "x": bends.numpy(), "value": values.numpy()})
    weights = sum(parameter.numel() for parameter in network.parameters())
    return pd.concat([points, kinks]).assign(n=len(places), weights=weights).sort_values("x")


def kernel_plan(
    dataset: str = "digits",
    *,
    sizes: Sequence[int],
    features: Sequence[str] = ("pixels",),
    ridges: Sequence[float] = (0.0,),
    corruptions: Sequence[float] = (0.0,),
    filters: int = 1000,
    seeds: int = 3,
) -> list[RunConfig]:
    """Kernel regressions over training set sizes, features, ridges, label corruptions and seeds (of the subset).

    A regression is recorded as a run: train_size is n, weight_decay the ridge, the features are a model option. On
    pixels and Gabor features the kernel is Gaussian, on random convolutional features (that many filters) linear.
    """
    for name in features:
        if name not in FEATURES:
            raise unknown_name("features", name, FEATURES)
    base = RunConfig(experiment=EXPERIMENT, dataset=dataset, epochs=1, standardize="none")
    options = {
        name: {"model": "gaussian_kernel", "model_options": {"features": name}}
        if name != "random_conv"
        else {"model": "linear_regression", "model_options": {"features": name, "filters": filters}}
        for name in features
    }
    return [
        base.replace(train_size=n, weight_decay=ridge, label_corruption=q, seed=seed, **options[name])
        for name, ridge, q, n, seed in product(features, ridges, corruptions, sizes, range(seeds))
    ]


def kernel_run(
    config: RunConfig, *, profile: str, root: str | Path | None = None, data_root: str | Path | None = None
) -> Run:
    """Solve one regression and record train and test error: loaded if it is there.

    The width of a Gaussian kernel is the multiple of the median distance with the smallest leave-one-out error on at
    most 2,000 training examples with their labels as given; no test example is looked at.

    Source:
        Zhang et al. (2017), Sec. 5.
    """
    loaded, _ = data.load_for_run(config, root=data_root)
    run = open_run(config, loaded.fingerprint, root=root)
    if run.complete:
        return run
    sizes = {"n_train": len(loaded.train.y), "n_test": len(loaded.test.y), "num_classes": loaded.num_classes}
    env = environment(profile=profile, device="CPU", data=loaded.description, threads=torch.get_num_threads(), **sizes)
    few = len(loaded.train.y) <= 3_000  # where threads that wait for each other cost more than they help
    with threads(1 if few else torch.get_num_threads()), writing(run, env) as writer:
        if writer is not None:
            row = _solve(config, loaded)
            writer.write(row)
            writer.finish(wall_seconds=round(row["seconds"], 2))
    return run


class _Fitted(NamedTuple):
    """A solved regression: from inputs to scores [n, classes], and what is recorded of it."""

    predict: Callable[[Tensor], Tensor]
    record: dict[str, float]


def _solve(config: RunConfig, loaded: ImageData) -> dict[str, float]:
    """Fit one regression and measure it; losses are mean squared errors of the one-hot outputs."""
    started = time.perf_counter()
    fitted = _conv_regression(config, loaded) if "filters" in config.model_options else _kernel(config, loaded)
    row: dict[str, float] = {"epoch": 0, "step": 0, "learning_rate": 0.0}
    for name, part in (("train", loaded.train), ("test", loaded.test)):
        scores = fitted.predict(part.x)
        onehot = torch.nn.functional.one_hot(part.y, loaded.num_classes)
        row[f"{name}_loss"] = float((scores - onehot).square().mean())
        row[f"{name}_accuracy"] = float((scores.argmax(1) == part.y).double().mean())
    row["seconds"] = time.perf_counter() - started
    return {**row, **fitted.record}


def _kernel(config: RunConfig, loaded: ImageData) -> _Fitted:
    """Gaussian kernel regression on pixels or Gabor features."""
    gabor = config.model_options["features"] == "gabor"

    def points(x: Tensor) -> Tensor:
        return capacity.gabor_features(x) if gabor else x

    train, y = points(loaded.train.x), loaded.train.y
    options = {"ridge": config.weight_decay, "num_classes": loaded.num_classes, "device": "cpu"}
    width = capacity.choose_width(train, y, seed=config.seed, **options).width
    found = capacity.kernel_regression(train, y, width=width, **options)
    record = {"kernel/width": width, "kernel/squared_norm": float(found.squared_norm)}
    return _Fitted(lambda x: found.predict(points(x)), record)


def _conv_regression(config: RunConfig, loaded: ImageData) -> _Fitted:
    """Least squares on random convolutional features, whose filters have the seed of the subset."""
    features = capacity.random_conv_features(loaded.train.x, config.model_options["filters"], seed=config.seed)
    options = {"ridge": config.weight_decay, "num_classes": loaded.num_classes, "device": "cpu"}
    found = capacity.feature_regression(features, loaded.train.x, loaded.train.y, **options)
    return _Fitted(found.predict, {"kernel/squared_norm": float(found.weights.square().sum())})


def descent_to_minimum_norm(*, count: int = 20, steps: int = 5_000, seed: int = 0) -> pd.DataFrame:
    """Gradient descent on least squares from zero and from a random start, on the first digits of a subset.

    Returns:
        Columns start, step, loss, relative_distance (to the minimum-norm solution, of its norm), norm.
    """
    digits = data.load("digits", train_size=count, seed=seed)
    x, y = digits.train.x.flatten(1).double() / 255, digits.train.y
    generator = torch.Generator().manual_seed(seed)
    elsewhere = 0.5 * torch.randn(x.shape[1], 10, generator=generator, dtype=torch.float64)
    frames = []
    for name, start in (("zero", None), ("random", elsewhere)):
        with threads(1):
            path = capacity.gradient_descent_from_zero(x, y, steps=steps, start=start, num_classes=10)
        frames.append(pd.DataFrame(path.rows).assign(start=name))
    return pd.concat(frames, ignore_index=True)
