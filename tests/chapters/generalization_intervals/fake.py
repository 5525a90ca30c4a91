"""Tidy tables of chapter 5 with known contents."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gendyn_lite.chapters.generalization_intervals.tables import BINS, SPANS
from tests.chapters import fake_sizes

KINDS = ("pair", "midline", "principal", "minor", "means", "random", "adversarial")
# Mean length by kind, on true and on random labels.
LENGTHS = {
    "pair": (2.7, 2.7),
    "midline": (4.6, 3.6),
    "principal": (2.6, 2.0),
    "minor": (2.0, 1.5),
    "means": (1.2, 1.1),
    "random": (2.5, 2.0),
    "adversarial": (0.9, 0.8),
}
NETWORKS = (((128, 128, 128), 1), ((512,), 1), ((128, 128, 128), 4))


def table(*, seeds=5, data="made-up data", dataset="mnist", shift=0.0, networks=NETWORKS, correlated=True):
    """Runs of every network; `shift` is taken from pairs on random labels."""
    rows = []
    for widths, downsample in networks:
        for q in (0.0, 1.0):
            for seed in range(seeds):
                rows.append(_end(data, dataset, widths, downsample, q, seed, shift))
    for seed in range(seeds):
        rows += _watched(data, dataset, seed, correlated)
    return pd.DataFrame(rows)


def _about(data, dataset, widths, downsample, q, seed, eval_every):
    options = {"widths": list(widths)} | ({"downsample": downsample} if downsample > 1 else {})
    key = f"{data}-{widths}-{downsample}-{q}-{eval_every}"
    about = {"profile": "full", "data": data, "dataset": dataset, "label_corruption": q, "eval_every": eval_every}
    about |= {"experiment": "generalization_intervals", "epochs": 150 if eval_every > 1 else 5}
    return fake_sizes.labels(key, seed, options=options, **about) | {
        "train_accuracy": 1.0,
        "test_accuracy": 0.9 if q == 0 else 0.1,
    }


def bins(kind, mean):
    """All lines in the bin of the mean length."""
    low, high = SPANS[kind]
    counts = np.zeros(BINS, dtype=int)
    counts[min(BINS - 1, int(mean / (high - low) * BINS))] = 50
    return " ".join(map(str, counts))


def _end(data, dataset, widths, downsample, q, seed, shift):
    row = _about(data, dataset, widths, downsample, q, seed, 150) | {"epoch": 150, "seconds": 1.0}
    for kind in KINDS:
        mean = LENGTHS[kind][int(q)] + 0.002 * seed
        if kind == "pair" and q:
            mean -= shift + (0.5 if downsample > 1 else 0.0)
        row |= {f"intervals/{kind}_mean": mean, f"intervals/{kind}_bins": bins(kind, mean)}
    norm = {"norm_ratio": 0.7, "norm_within": 1.0, "norm_bins": bins("pair", 1.5), "pieces": 150.0}
    return row | {f"intervals/{name}": value for name, value in norm.items()} | {"intervals/fitted": 1.0}


def _watched(data, dataset, seed, correlated):
    rows = []
    for epoch in range(6):
        about = _about(data, dataset, (128, 128, 128), 1, 0.0, seed, 1)
        grown = epoch / 5 if correlated else 1 - epoch / 5
        rows.append(
            about
            | {"epoch": epoch, "seconds": 0.1 * epoch, "train_accuracy": epoch / 5, "test_accuracy": 0.1 + 0.15 * epoch}
            | {"intervals/pair_mean": 2 + grown, "intervals/fitted": 0.1 + 0.9 * epoch / 5}
        )
    return rows
