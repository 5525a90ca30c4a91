"""Chapter 1, capacity: networks that fit anything, kernels, descent to the minimum norm, complexity measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.errors import unknown_name
from gendyn_lite.measures import capacity
from gendyn_lite.results.runs import Run, open_run, writing
from gendyn_lite.threads import threads

Predict = Callable[[Tensor], Tensor]
Fit = Callable[[Tensor, Tensor], Predict]
EXPERIMENT = "kernel_regression"
FEATURES = ("pixels", "gabor", "random_conv")
_SETTINGS = {"epochs": 200, "batch_size": 20, "learning_rate": 0.05, "decay": 0.99, "stop_when_fitted": True}
COMPLEXITY = RunConfig(experiment="complexity", model="mlp_1x512", **_SETTINGS)


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
    base = RunConfig(experiment=EXPERIMENT, dataset=dataset, epochs=1, standardize="none", model="gaussian_kernel")
    found = []
    for name, ridge, q, n, seed in product(features, ridges, corruptions, sizes, range(seeds)):
        run = base.replace(train_size=n, weight_decay=ridge, label_corruption=q, seed=seed)
        linear = {"model": "linear_regression", "model_options": {"features": name, "filters": filters}}
        found.append(run.replace(**linear if name == "random_conv" else {"model_options": {"features": name}}))
    return found


def kernel_run(
    config: RunConfig, *, profile: str, root: str | Path | None = None, data_root: str | Path | None = None
) -> Run:
    """Solve one regression and record train and test error: loaded if it is there.

    The width of a Gaussian kernel is the multiple of the median distance with the smallest leave-one-out error on at
    most 2,000 training examples with their labels as given; no test example is looked at.

    Source: Zhang et al. (2017), Sec. 5.
    """
    loaded, _ = data.load_for_run(config, root=data_root)
    run = open_run(config, loaded.fingerprint, root=root)
    if run.complete:
        return run
    env = runner.provenance(config, loaded, profile, torch.device("cpu"))
    few = len(loaded.train.y) <= 3_000  # where threads that wait for each other cost more than they help
    with threads(1 if few else torch.get_num_threads()), writing(run, env) as writer:
        if writer is not None:
            row = _solve(config, loaded)
            writer.write(row)
            writer.finish(wall_seconds=round(row["seconds"], 2))
    return run


def _solve(config: RunConfig, loaded: ImageData) -> dict[str, float]:
    """Fit one regression and measure it; losses are mean squared errors of the one-hot outputs."""
    started = time.perf_counter()
    predict, record = (_linear if "filters" in config.model_options else _kernel)(config, loaded)
    row: dict[str, float] = {"epoch": 0, "step": 0, "learning_rate": 0.0}
    for name, part in (("train", loaded.train), ("test", loaded.test)):
        scores = predict(part.x)
        onehot = torch.nn.functional.one_hot(part.y, loaded.num_classes)
        row[f"{name}_loss"] = float((scores - onehot).square().mean())
        row[f"{name}_accuracy"] = float((scores.argmax(1) == part.y).double().mean())
    return {**row, "seconds": time.perf_counter() - started, **record}


def _kernel(config: RunConfig, loaded: ImageData) -> tuple[Predict, dict[str, float]]:
    """Gaussian kernel regression on pixels or Gabor features: from inputs to scores, and what is recorded of it."""
    points = capacity.gabor_features if config.model_options["features"] == "gabor" else torch.nn.Identity()
    x, y = points(loaded.train.x), loaded.train.y
    options = {"ridge": config.weight_decay, "num_classes": loaded.num_classes, "device": "cpu"}
    width = capacity.choose_width(x, y, seed=config.seed, **options).width
    found = capacity.kernel_regression(x, y, width=width, **options)
    record = {"kernel/width": width, "kernel/squared_norm": float(found.squared_norm)}
    return lambda inputs: found.predict(points(inputs)), record


def _linear(config: RunConfig, loaded: ImageData) -> tuple[Predict, dict[str, float]]:
    """Least squares on random convolutional features, whose filters have the seed of the subset."""
    (x, y), options = loaded.train, {"ridge": config.weight_decay, "num_classes": loaded.num_classes, "device": "cpu"}
    features = capacity.random_conv_features(x, config.model_options["filters"], seed=config.seed)
    found = capacity.feature_regression(features, x, y, **options)
    return found.predict, {"kernel/squared_norm": float(found.weights.square().sum())}


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


def complexity(*, n: int = 100, draws: int = 5, swaps: int = 4, seed: int = 0) -> pd.DataFrame:
    """VC dimension, Rademacher complexity and uniform stability of MLP 1x512, with the gaps that they should bound.

    Args:
        n: Number of digits trained on.
        draws: Draws of random signs for the Rademacher complexity.
        swaps: Labels replaced, one at a time, for the stability on true and on random labels.
        seed: Seed of the subset, the labels, the signs and the weights.

    Returns:
        A row per measure, with the columns of `gendyn_lite.measures.capacity.label_account`.

    Source: Zhang et al. (2017), Sec. 2.2.
    """
    digits = data.load("digits", train_size=n, seed=seed)
    (x, true), (test_x, test_y) = digits.train, digits.test
    random, _ = data.corrupt_labels(true, 1.0, num_classes=10, seed=seed)
    fit = _classifier(digits, seed)
    with threads(1):
        gaps, betas = [], []
        for labels in (true, random):
            predict = fit(x, labels)
            wrong = [float((predict(of) != y).double().mean()) for of, y in ((test_x, test_y), (x, labels))]
            gaps.append(wrong[0] - wrong[1])
            betas.append(capacity.replace_one_stability(fit, x, labels, num_classes=10, swaps=swaps, seed=seed).beta)
        signs = capacity.empirical_rademacher(_sign_fitter(digits, seed), x, draws=draws, seed=seed)
    vc = capacity.vc_dimension_bound((64, 512, 10))
    measures = {"vc_dimension": vc, "rademacher": signs, "stability": (betas[0], betas[1])}
    return pd.DataFrame(capacity.label_account(n=n, gap_true=gaps[0], gap_random=gaps[1], **measures))


def _classifier(digits: ImageData, seed: int) -> Fit:
    """``fit(x, y) -> predict`` for images and classes: trains MLP 1x512 until every label is fitted."""

    def fit(x: Tensor, y: Tensor) -> Predict:
        config = COMPLEXITY.replace(seed=seed)
        given = replace(digits, train=Split(x, y), test=Split(x, y))
        network = runner.build(config, given)
        train.fit(network, given, config, device="cpu")

        def predict(inputs: Tensor) -> Tensor:
            asked = replace(given, test=Split(inputs, torch.zeros(len(inputs), dtype=torch.int64)))
            with torch.no_grad():
                scores = [network(batch) for batch, _ in data.batcher(asked, config, split="test").epoch(0)]
            return torch.cat(scores).argmax(1)

        return predict

    return fit


def _sign_fitter(digits: ImageData, seed: int) -> Fit:
    """``fit(x, signs) -> predict`` for random signs: the same network with two classes, answering −1 or 1."""
    learn = _classifier(replace(digits, num_classes=2), seed)

    def fit(x: Tensor, signs: Tensor) -> Predict:
        predict = learn(x, (signs + 1) // 2)
        return lambda inputs: 2.0 * predict(inputs) - 1

    return fit
