"""Chapter 1, capacity: networks that fit anything, kernels without training, descent to the minimum norm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import unknown_name
from gendyn_lite.measures import capacity
from gendyn_lite.results.runs import Run, environment, open_run, writing
from gendyn_lite.threads import threads

EXPERIMENT = "kernel_regression"
FEATURES = ("pixels", "gabor")


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
    seeds: int = 3,
) -> list[RunConfig]:
    """Kernel regressions over training set sizes, features, ridges, label corruptions and seeds (of the subset).

    A regression is recorded as a run: train_size is n, weight_decay the ridge, the features are a model option.
    """
    for name in features:
        if name not in FEATURES:
            raise unknown_name("features", name, FEATURES)
    base = RunConfig(experiment=EXPERIMENT, dataset=dataset, model="gaussian_kernel", epochs=1, standardize="none")
    return [
        base.replace(train_size=n, model_options={"features": name}, weight_decay=ridge, label_corruption=q, seed=seed)
        for name, ridge, q, n, seed in product(features, ridges, corruptions, sizes, range(seeds))
    ]


def kernel_run(
    config: RunConfig, *, profile: str, root: str | Path | None = None, data_root: str | Path | None = None
) -> Run:
    """Solve Kα = y for one configuration and record train and test error: loaded if it is there.

    The width is the multiple of the median distance with the smallest leave-one-out error on at most 2,000 training
    examples with their labels as given; no test example is looked at.

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


def _solve(config: RunConfig, loaded: ImageData) -> dict[str, float]:
    """Fit one kernel regression and measure it; losses are mean squared errors of the one-hot outputs."""
    started = time.perf_counter()
    train, test = (_features(part.x, config.model_options["features"]) for part in (loaded.train, loaded.test))
    y, options = loaded.train.y, {"ridge": config.weight_decay, "num_classes": loaded.num_classes}
    width = capacity.choose_width(train, y, seed=config.seed, device="cpu", **options).width
    fitted = capacity.kernel_regression(train, y, width=width, device="cpu", **options)
    row: dict[str, float] = {"epoch": 0, "step": 0, "learning_rate": 0.0}
    for name, inputs, labels in (("train", train, y), ("test", test, loaded.test.y)):
        scores = fitted.predict(inputs)
        onehot = torch.nn.functional.one_hot(labels, loaded.num_classes)
        row[f"{name}_loss"] = float((scores - onehot).square().mean())
        row[f"{name}_accuracy"] = float((scores.argmax(1) == labels).double().mean())
    row["seconds"] = time.perf_counter() - started
    return {**row, "kernel/width": width, "kernel/squared_norm": float(fitted.squared_norm)}


def _features(x: torch.Tensor, name: str) -> torch.Tensor:
    return x if name == "pixels" else capacity.gabor_features(x)


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
