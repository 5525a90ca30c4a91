"""Runs without training, with known contents."""

from __future__ import annotations

import json
from itertools import product

import pandas as pd

from gendyn_lite.results.tables import network_name
from tests.chapters import fake_sizes

SHARES = (0.1, 0.5, 1.0, 2.0, 16.0)


def _row(experiment, seed, model, options, *, epochs=1, **more):
    about = {"network": network_name(model, options), "model": model, "model_options": json.dumps(options)}
    key = f"{experiment}-{json.dumps(options)}-{more.get('data', '')}-{more.get('label_corruption', 0)}"
    key += f"-{more.get('n_train', 1000)}-{more.get('weight_decay', 0)}"
    row = fake_sizes.about(experiment, key, seed, dataset="mnist", batch_size=10, epochs=epochs, epoch=0, **about)
    return {**row, **more}


def memorizing(*, seeds=5, random_train=1.0, true_test=0.1):
    cases = product((2, 10), ((1.0, random_train, 0.1), (0.0, 1.0, true_test)), range(seeds))
    found = {"network/weights": 2784.0, "network/widest": 1000.0, "network/residual": 1e-11}
    rows = []
    for depth, (q, train, test), seed in cases:
        told = {"label_corruption": q, "train_accuracy": train, "test_accuracy": test - 1e-4 * seed, **found}
        rows.append(_row("memorizing_networks", seed, "memorizing_network", {"depth": depth}, **told))
    return pd.DataFrame(rows)


def kernels(*, seeds=3, n=3000, data="MNIST", pixels=0.04, gabor=0.02, random_train=1.0, gabor_norm=60.0):
    cases = [
        ("pixels", 0.0, 0.0, 1.0, pixels, 50.0),
        ("gabor", 0.0, 0.0, 1.0, gabor, gabor_norm),
        ("pixels", 0.1, 0.0, 1.0, pixels, 40.0),
        ("pixels", 0.0, 1.0, random_train, 0.9, 120.0),
    ]
    rows = []
    for (name, ridge, q, train, error, norm), seed in product(cases, range(seeds)):
        told = {"data": data, "n_train": n, "weight_decay": ridge, "label_corruption": q, "train_accuracy": train}
        told |= {"test_accuracy": 1 - error - 1e-4 * seed, "kernel/squared_norm": norm**2}
        rows.append(_row("kernel_regression", seed, "gaussian_kernel", {"features": name}, **told))
    return pd.DataFrame(rows)


def descent(*, seeds=5, reached=1e-4, kept=1.0):
    rows = []
    for start, seed, (number, passes) in product(("zero", "random"), range(seeds), enumerate((0.0, 10.0, 500.0))):
        outside = 0.0 if start == "zero" else 0.8
        inside = {0: 1.0, 1: 0.1, 2: reached}[number]
        found = {"relative_distance": kept * outside or inside, "outside": 2.0 * outside, "aim_norm": 2.0}
        found |= {"epochs": passes, "norm": 2.0}
        options = {"features": "pixels", "start": start}
        row = _row("minimum_norm", seed, "gaussian_kernel", options, train_accuracy=1.0, test_accuracy=0.9, epochs=500)
        rows.append({**row, "epoch": number, **{f"descent/{name}": value for name, value in found.items()}})
    return pd.DataFrame(rows)


def ridges(
    *, seeds=5, data="MNIST", pixels=0.10, gabor=0.05, gain=0.0, gabor_norms=(15.0, 45.0),
    conv=(0.3, 0.2, 0.8, 0.2, 0.04), with_ridge=0.15,
):  # fmt: skip
    """Kernels of two widths and random filters at five; the ridge takes `gain` off and cures random filters."""
    rows = []
    kinds = {"pixels": (pixels, (20.0, 30.0)), "gabor": (gabor, gabor_norms)}
    for (name, (best, norms)), seed, ridge in product(kinds.items(), range(seeds), (0.0, 0.1)):
        for width, (extra, norm) in enumerate(zip((0.03, 0.0), norms, strict=True)):
            found = {"size": width, "share": 0.0, "ridge": ridge, "squared_norm": norm**2}
            rows.append(_swept(data, seed, {"features": name}, best + extra - gain * (ridge > 0), found))
    for seed, (share, error), ridge in product(range(seeds), zip(SHARES, conv, strict=True), (0.0, 0.1)):
        found = {"size": 1000 * share, "share": share, "ridge": ridge, "squared_norm": 9.0}
        options = {"features": "random_conv", "filters": 2000}
        rows.append(_swept(data, seed, options, min(error, with_ridge) if ridge else error, found))
    return pd.DataFrame(rows)


def _swept(data, seed, options, error, found):
    model = "linear_regression" if "filters" in options else "gaussian_kernel"
    measured = {**found, "size": float(found["size"]), "validation_accuracy": 1 - error - 1e-3 * (not found["ridge"])}
    row = _row("ridge_paths", seed, model, options, data=data, n_train=1500, train_accuracy=1.0)
    row["test_accuracy"] = 1 - error - 1e-4 * seed
    return {**row, **{f"ridge/{name}": value for name, value in measured.items()}}
