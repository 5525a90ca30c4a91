"""Chapter 1, complexity measures: each measured on true and on random labels of the same digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from gendyn_lite import data, models, train
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.measures import capacity
from gendyn_lite.threads import threads

CONFIG = RunConfig(
    experiment="complexity",
    model="mlp_1x512",
    epochs=200,
    batch_size=20,
    learning_rate=0.05,
    decay=0.99,
    stop_when_fitted=True,
)


def account(*, n: int = 100, draws: int = 5, swaps: int = 4, seed: int = 0) -> pd.DataFrame:
    """VC dimension, Rademacher complexity and uniform stability of MLP 1x512, with the gaps that they should bound.

    Args:
        n: Number of digits trained on.
        draws: Draws of random signs for the Rademacher complexity.
        swaps: Labels replaced, one at a time, for the stability on true and on random labels.
        seed: Seed of the subset, the labels, the signs and the weights.

    Returns:
        A row per measure, with the columns of `gendyn_lite.measures.capacity.label_account`.

    Source:
        Zhang et al. (2017), Sec. 2.2.
    """
    with threads(1):
        return _account(n, draws, swaps, seed)


def _account(n: int, draws: int, swaps: int, seed: int) -> pd.DataFrame:
    digits = data.load("digits", train_size=n, seed=seed)
    random, _ = data.corrupt_labels(digits.train.y, 1.0, num_classes=10, seed=seed)
    learn = classifier(digits, seed=seed)
    gaps = [_gap(learn, digits, labels) for labels in (digits.train.y, random)]
    signs = capacity.empirical_rademacher(sign_fitter(digits, seed=seed), digits.train.x, draws=draws, seed=seed)
    betas = [
        capacity.replace_one_stability(learn, digits.train.x, labels, num_classes=10, swaps=swaps, seed=seed).beta
        for labels in (digits.train.y, random)
    ]
    rows = capacity.label_account(
        n=n,
        gap_true=gaps[0],
        gap_random=gaps[1],
        vc_dimension=capacity.vc_dimension_bound((64, 512, 10)),
        rademacher=signs,
        stability=(betas[0], betas[1]),
    )
    return pd.DataFrame(rows)


def classifier(digits: ImageData, *, seed: int) -> Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]:
    """``fit(x, y) -> predict`` for images and classes: trains MLP 1x512 until every label is fitted."""

    def fit(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
        config = CONFIG.replace(seed=seed)
        given = replace(digits, train=Split(x, y), test=Split(x, y))
        network = models.build(CONFIG.model, num_classes=digits.num_classes, in_shape=digits.in_shape, seed=seed)
        train.fit(network, given, config, device="cpu")

        def predict(inputs: Tensor) -> Tensor:
            asked = replace(given, test=Split(inputs, torch.zeros(len(inputs), dtype=torch.int64)))
            with torch.no_grad():
                scores = [network(batch) for batch, _ in data.batcher(asked, config, split="test").epoch(0)]
            return torch.cat(scores).argmax(1)

        return predict

    return fit


def sign_fitter(digits: ImageData, *, seed: int) -> Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]:
    """``fit(x, signs) -> predict`` for random signs: the same network with two classes, answering −1 or 1."""
    learn = classifier(replace(digits, num_classes=2), seed=seed)

    def fit(x: Tensor, signs: Tensor) -> Callable[[Tensor], Tensor]:
        predict = learn(x, (signs + 1) // 2)
        return lambda inputs: 2.0 * predict(inputs) - 1

    return fit


def _gap(learn: Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]], digits: ImageData, labels: Tensor) -> float:
    """Test error on true labels minus train error on the labels trained with."""
    predict = learn(digits.train.x, labels)
    train_error = float((predict(digits.train.x) != labels).double().mean())
    return float((predict(digits.test.x) != digits.test.y).double().mean()) - train_error
