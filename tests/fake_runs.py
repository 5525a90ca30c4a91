"""Tidy tables with known contents, for tests of what is computed and drawn from tables."""

from __future__ import annotations

import pandas as pd


def table(
    *,
    networks=("mlp_1x512",),
    corruptions=(0.0, 0.5, 1.0),
    inputs=("shuffled_pixels", "random_pixels", "gaussian"),
    seeds=3,
    fitted=True,
    slowdown=2.0,
    chance_accuracy=0.1,
    profile="colab",
) -> pd.DataFrame:
    """Runs that fit q = 0 at epoch 10 + seed and q = 1 `slowdown` times later; test error 0.1 + 0.8 q."""
    rows = []
    for network in networks:
        conditions = [("true", q) for q in corruptions] + [(kind, 0.0) for kind in inputs]
        for kind, q in conditions:
            for seed in range(seeds):
                rows += _run(network, kind, q, seed, fitted, slowdown, chance_accuracy, profile)
    return pd.DataFrame(rows)


def _run(network, kind, q, seed, fitted, slowdown, chance_accuracy, profile):
    fit = round((10 + seed) * (1 + (slowdown - 1) * (q if kind == "true" else 0.5)))
    test = 0.9 - 0.8 * q if kind == "true" and q < 1 else chance_accuracy
    labels = {
        "run_id": f"{network}-{kind}-{q}-{seed}",
        "group_id": f"{network}-{kind}-{q}",
        "experiment": "random_labels",
        "profile": profile,
        "data": "made-up data",
        "data_fingerprint": "00",
        "device": "CPU",
        "network": network,
        "model": network,
        "model_options": "{}",
        "dataset": "digits",
        "n_train": 1000,
        "num_classes": 10,
        "inputs": kind,
        "label_corruption": q,
        "seed": seed,
    }
    metrics = []
    for epoch in range(fit + 1):
        share = epoch / fit
        train = 0.1 + (0.9 if fitted else 0.2) * share
        values = {"train_loss": 2.3 * (1 - share), "train_accuracy": train, "test_loss": 1.0, "seconds": 1.5 * epoch}
        metrics.append({**labels, "epoch": epoch, "test_accuracy": 0.1 + (test - 0.1) * share, **values})
    return metrics
