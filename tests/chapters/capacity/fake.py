"""Kernel regressions with known contents."""

from __future__ import annotations

from itertools import product

import pandas as pd


def table(*, n=3000, pixels=0.04, gabor=0.02, ridge_gain=0.0, random_train=1.0, seeds=3, data="MNIST"):
    cases = [
        ("pixels", 0.0, 0.0, 1.0, pixels),
        ("gabor", 0.0, 0.0, 1.0, gabor),
        ("pixels", 0.1, 0.0, 1.0, pixels - ridge_gain),
        ("pixels", 0.0, 1.0, random_train, 0.9),
        ("pixels", 0.1, 1.0, 0.4, 0.9),
    ]
    columns = ["features", "weight_decay", "label_corruption", "train_accuracy", "error"]
    rows = pd.DataFrame(cases, columns=columns).merge(pd.DataFrame({"seed": range(seeds)}), how="cross")
    rows["model_options"] = rows["features"].map('{{"features": "{}"}}'.format)
    rows["test_accuracy"] = 1 - rows["error"] - 1e-4 * rows["seed"]
    return rows.drop(columns=["features", "error"]).assign(data=data, n_train=n, num_classes=10)


def conv(*, conv_error=0.3, ridge_error=0.25, filters=(200, 1000), seeds=3, data="CIFAR-10 (JPEG q75)"):
    """The table with regressions on random filters added, the larger number of filters with the errors given."""
    pixels = table(data=data, pixels=0.5, seeds=seeds)
    pixels = pixels[pixels["model_options"].str.contains("pixels")]
    plain, rows = pixels[(pixels["weight_decay"] == 0) & (pixels["label_corruption"] == 0)], [pixels]
    for count, ridge in product(filters, (0.0, 10.0)):
        error = (ridge_error if ridge else conv_error) if count == max(filters) else 0.9
        options = f'{{"features": "random_conv", "filters": {count}}}'
        accuracy = 1 - error - 1e-4 * plain["seed"]
        rows.append(plain.assign(model_options=options, weight_decay=ridge, test_accuracy=accuracy))
    return pd.concat(rows)
