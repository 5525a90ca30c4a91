"""Kernel regressions with known contents."""

from __future__ import annotations

from itertools import product

import pandas as pd


def table(*, n=3000, pixels=0.04, gabor=0.02, ridge_gain=0.0, random_train=1.0, seeds=3, data="MNIST"):
    rows = []
    for features, ridge, q, test_error in (
        ("pixels", 0.0, 0.0, pixels),
        ("gabor", 0.0, 0.0, gabor),
        ("pixels", 0.1, 0.0, pixels - ridge_gain),
        ("pixels", 0.0, 1.0, 0.9),
        ("pixels", 0.1, 1.0, 0.9),
    ):
        for seed in range(seeds):
            fitted = random_train if q and not ridge else (0.4 if q else 1.0)
            rows.append(
                {
                    "data": data,
                    "n_train": n,
                    "num_classes": 10,
                    "model_options": f'{{"features": "{features}"}}',
                    "weight_decay": ridge,
                    "label_corruption": q,
                    "seed": seed,
                    "train_accuracy": fitted,
                    "test_accuracy": 1 - test_error - 1e-4 * seed,
                }
            )
    return pd.DataFrame(rows)


def conv(*, conv_error=0.3, ridge_error=0.25, filters=(200, 1000), seeds=3, data="CIFAR-10 (JPEG q75)"):
    """The table with regressions on random filters added, the larger number of filters with the errors given."""
    pixels = table(data=data, pixels=0.5, seeds=seeds)
    rows = [pixels[pixels["model_options"].str.contains("pixels")]]
    for count, ridge in product(filters, (0.0, 10.0)):
        error = (ridge_error if ridge else conv_error) if count == max(filters) else 0.9
        plain = rows[0][(rows[0]["weight_decay"] == 0) & (rows[0]["label_corruption"] == 0)]
        rows.append(
            plain.assign(
                model_options=f'{{"features": "random_conv", "filters": {count}}}',
                weight_decay=ridge,
                test_accuracy=1 - error - 1e-4 * plain["seed"],
            )
        )
    return pd.concat(rows)
