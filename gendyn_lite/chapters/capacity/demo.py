"""Computations of the page on capacity: a network through points on a line, and complexity measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.measures import capacity
from gendyn_lite.threads import threads

Predict = Callable[[Tensor], Tensor]
Fit = Callable[[Tensor, Tensor], Predict]
_SETTINGS = {"epochs": 200, "batch_size": 20, "learning_rate": 0.05, "decay": 0.99, "stop_when_fitted": True}
COMPLEXITY = RunConfig(experiment="complexity", model="mlp_1x512", **_SETTINGS)


def memorizing_curves(counts: Sequence[int] = range(2, 25)) -> pd.DataFrame:
    """Build the network of Theorem 1 through random labels of points on a line, for several numbers of points.

    Points lie in (0, 1), labels in [−1, 1]; a larger number adds points to the same ones.

    Args:
        counts: Numbers of points.

    Returns:
        Rows of two kinds: ``"point"`` (a labelled point) and ``"kink"`` (where the network bends, and both ends of the
        drawing); columns n, kind, x, value, weights (number of weights, 2n + d).

    >>> rows = memorizing_curves([3])
    >>> int((rows["kind"] == "point").sum()), int(rows["weights"].iloc[0])
    (3, 7)
    """
    generator = np.random.default_rng(0)
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


def complexity(*, n: int = 100, draws: int = 5, swaps: int = 4, seed: int = 0) -> pd.DataFrame:
    """Compute VC dimension, Rademacher complexity and uniform stability of MLP 1x512, and the gaps they should bound.

    Args:
        n: Number of digits trained on.
        draws: Number of draws of random signs for the Rademacher complexity.
        swaps: Number of labels replaced, one at a time, for the stability on true and on random labels.
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
    """Return ``fit(x, y) -> predict`` for images and classes, which trains MLP 1x512 until every label is fitted."""

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
    """Return ``fit(x, signs) -> predict`` for random signs: the same network with two classes, answering −1 or 1."""
    learn = _classifier(replace(digits, num_classes=2), seed)

    def fit(x: Tensor, signs: Tensor) -> Predict:
        predict = learn(x, (signs + 1) // 2)
        return lambda inputs: 2.0 * predict(inputs) - 1

    return fit
