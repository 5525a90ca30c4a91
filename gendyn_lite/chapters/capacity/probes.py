"""Measurements of runs without training: each kind of run gives the rows of its table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gendyn_lite.chapters.capacity.tables import VALIDATION
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import capacity
from gendyn_lite.measures.capacity.given import as_points

Row = dict[str, float]

# Version of what a sweep of widths and ridges measures. In version 1 ridges ended at 1, the best one for some kernels.
PROBE_VERSION = 2
RIDGES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # relative to the mean diagonal of the Gram matrix
WIDTHS = (0.25, 0.35, 0.5, 0.7, 1.0)  # of a kernel, relative to the median distance
# Numbers of filters, in units of the number at which there are as many features as examples.
SHARES = (0.03, 0.06, 0.13, 0.25, 0.5, 0.75, 0.9, 0.96, 1.0, 1.04, 1.1, 1.3, 2.0, 4.0, 8.0, 16.0)
MOST_CHECKED = 2000  # training images, about, on which a refined solution is evaluated; it fits all to its tolerance


def memorizing(config: RunConfig, loaded: ImageData) -> list[Row]:
    """Build the network of Theorem 1, or its version of depth k, through all labels; nothing is trained."""
    (x, y), depth = loaded.train, config.model_options["depth"]
    network = capacity.memorizing_network(x, y, depth=depth, seed=config.seed)
    row: Row = {}
    for name, (points, labels) in (("train", loaded.train), ("test", loaded.test)):
        outputs = network(points).detach()
        row[f"{name}_loss"] = float((outputs - labels).square().mean())  # of the class as a number
        row[f"{name}_accuracy"] = float((outputs.round() == labels).double().mean())
    weights = sum(parameter.numel() for parameter in network.parameters())
    sizes = {"weights": weights, "widest": max(network.widths), "residual": network.residual}
    return [row | {f"network/{name}": value for name, value in sizes.items()}]


def kernel(config: RunConfig, loaded: ImageData) -> list[Row]:
    """Solve one regression with a Gaussian kernel on pixels or Gabor features."""
    features, y = config.model_options["features"], loaded.train.y
    x = _points(features, loaded.train.x)
    options = {"ridge": config.weight_decay, "num_classes": loaded.num_classes, "device": "cpu"}
    width = capacity.choose_width(x, y, seed=config.seed, **options).width
    tolerance = config.model_options.get("tolerance")
    found = capacity.kernel_regression(x, y, width=width, tolerance=tolerance, **options)
    row = {"kernel/width": width, "kernel/squared_norm": float(found.squared_norm)}
    every = 1 if tolerance is None else max(1, len(y) // MOST_CHECKED)
    test = _points(features, loaded.test.x), loaded.test.y
    for name, (points, labels) in (("train", (x[::every], y[::every])), ("test", test)):
        scores = found.predict(points)
        onehot = torch.nn.functional.one_hot(labels, loaded.num_classes)
        row[f"{name}_loss"] = float((scores - onehot).square().mean())
        row[f"{name}_accuracy"] = float((scores.argmax(1) == labels).double().mean())
    return [row]


def _points(features: str, images: Tensor) -> Tensor:
    """Return images as points for a Gaussian kernel, float64 [n, d]."""
    return as_points(capacity.gabor_features(images) if features == "gabor" else images)


def descent(config: RunConfig, loaded: ImageData) -> list[Row]:
    """Run mini-batch descent on least squares over features, and measure its distance to the minimum-norm solution.

    The features of a Gaussian kernel are the rows of a Cholesky factor of its Gram matrix over training and test
    images, which span the part of the kernel's space that these images span.
    """
    x, x_test = _explicit_features(config, loaded)
    y, n = loaded.train.y, len(x)
    onehot = torch.nn.functional.one_hot(loaded.test.y, loaded.num_classes)

    def measured(w: Tensor) -> Row:
        scores = x_test @ w
        return {
            "train_accuracy": float(((x @ w).argmax(1) == y).double().mean()),
            "test_accuracy": float((scores.argmax(1) == onehot.argmax(1)).double().mean()),
            "test_loss": float((scores - onehot).square().mean()),
        }

    def elsewhere(best: Tensor) -> Tensor:
        """Start in a random direction, as far from zero as the minimum-norm solution."""
        generator = torch.Generator().manual_seed(config.seed)
        start = torch.randn(best.shape, generator=generator, dtype=torch.float64)
        return start * (best.norm() / start.norm())

    path = capacity.gradient_descent_from_zero(
        x,
        y,
        steps=config.epochs * -(-n // config.batch_size),
        batch_size=config.batch_size,
        start=elsewhere if config.model_options["start"] == "random" else None,
        num_classes=loaded.num_classes,
        probe=measured,
        seed=config.seed,
    )
    found = {"descent/aim_norm": float(path.best.norm())}
    found |= {"descent/aim_accuracy": measured(path.best)["test_accuracy"]}
    rows = []
    for row in path.rows:
        kept = {name: row[name] for name in ("step", "train_accuracy", "test_accuracy", "test_loss")}
        kept |= {"train_loss": row["loss"], "descent/epochs": row["step"] * config.batch_size / n}
        rows.append(kept | found | {f"descent/{name}": row[name] for name in ("relative_distance", "norm", "outside")})
    return rows


def _explicit_features(config: RunConfig, loaded: ImageData) -> tuple[Tensor, Tensor]:
    """Return features of the training images and of the test images, float64 [n, p] and [m, p]."""
    (train, _), (test, _), options = loaded.train, loaded.test, config.model_options
    if options["features"] == "random_conv":
        conv = capacity.random_conv_features(train, options["filters"], seed=config.seed)
        features = conv(train)
        return features - features.mean(0), conv(test) - features.mean(0)
    points = _points(options["features"], torch.cat([train, test]))
    width = capacity.choose_width(points[: len(train)], loaded.train.y, seed=config.seed, device="cpu").width
    factor = torch.linalg.cholesky(capacity.gaussian_kernel(points, points, width))
    return factor[: len(train)], factor[len(train) :]


class _Gram(NamedTuple):
    """A Gram matrix of the n fitted examples, and of the m other examples with them.

    Attributes:
        size: Number of features, or width of the kernel.
        own: The fitted examples with each other, [n, n].
        others: The other examples with the fitted ones, [m, n].
    """

    size: float
    own: Tensor
    others: Tensor


def ridges(config: RunConfig, loaded: ImageData) -> list[Row]:
    """Fit every width of a kind of features with every ridge to all training images but the last `VALIDATION`."""
    n = len(loaded.train.y) - VALIDATION
    order = torch.randperm(len(loaded.train.y), generator=torch.Generator().manual_seed(config.seed))
    x = torch.cat([loaded.train.x[order], loaded.test.x])
    y = torch.cat([loaded.train.y[order], loaded.test.y])
    conv = config.model_options["features"] == "random_conv"
    onehot = torch.nn.functional.one_hot(y, loaded.num_classes).double()
    mean = onehot[:n].mean(0) * conv
    rows = []
    for gram in (_conv_grams if conv else _kernel_grams)(config, x, n):
        scale, rows_of_all = float(gram.own.diagonal().mean()), torch.cat([gram.own, gram.others])
        path = capacity.ridge_path(gram.own, onehot[:n] - mean, [ridge * scale for ridge in RIDGES])
        for ridge, found in zip(RIDGES, path, strict=True):
            scores = rows_of_all @ found.alpha + mean
            right = (scores.argmax(1) == y).double()
            loss = (scores - onehot).square().mean(1)
            fitted, held_out, test = slice(n), slice(n, n + VALIDATION), slice(n + VALIDATION, None)
            row = {"train_loss": float(loss[fitted].mean()), "train_accuracy": float(right[fitted].mean())}
            row |= {"test_loss": float(loss[test].mean()), "test_accuracy": float(right[test].mean())}
            row |= {"ridge/size": gram.size, "ridge/share": gram.size / n if conv else 0.0, "ridge/ridge": ridge}
            row |= {"ridge/validation_accuracy": float(right[held_out].mean())}
            rows.append(row | {"ridge/squared_norm": found.squared_norm, "ridge/scale": scale})
    return rows


def _kernel_grams(config: RunConfig, x: Tensor, n: int) -> Iterator[_Gram]:
    """Yield the Gaussian kernel at every width."""
    points = _points(config.model_options["features"], x)
    median = capacity.median_distance(points[:n])
    for factor in WIDTHS:
        rows = capacity.gaussian_kernel(points, points[:n], factor * median)
        rows[:n].diagonal().fill_(1)
        yield _Gram(factor * median, (rows[:n] + rows[:n].T) / 2, rows[n:])


def _conv_grams(config: RunConfig, x: Tensor, n: int) -> Iterator[_Gram]:
    """Yield the Gram matrices of the first random filters, for growing numbers of filters; features are centred."""
    most = config.model_options["filters"]
    features = capacity.random_conv_features(x[:n], most, seed=config.seed)
    own, others = torch.zeros(n, n, dtype=torch.float64), torch.zeros(len(x) - n, n, dtype=torch.float64)
    counts = [0, *(count for share in SHARES if (count := round(share * n / features.per_group)) <= most)]
    for first, last in pairwise(counts):
        for begin in range(first, last, 100):
            block = torch.cat([features.part(part, begin, min(begin + 100, last)) for part in x.split(1000)])
            block -= block[:n].mean(0)
            own.addmm_(block[:n], block[:n].T)
            others.addmm_(block[n:], block[:n].T)
        yield _Gram(last * features.per_group, (own + own.T) / 2, others)
