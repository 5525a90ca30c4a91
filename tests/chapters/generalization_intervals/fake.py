"""Tidy tables of chapter 5 with known contents."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pandas as pd

from gendyn_lite.chapters.generalization_intervals.tables import BINS, SPANS
from gendyn_lite.results.tables import network_name
from tests.chapters import fake_sizes

# Mean length by kind, on true and on random labels.
LENGTHS = {"pair": (2.7, 2.7), "midline": (4.6, 3.6), "principal": (2.6, 2.0), "minor": (2.0, 1.5)}
LENGTHS |= {"means": (1.2, 1.1), "random": (2.2, 1.95), "adversarial": (0.9, 0.8)}
LENGTHS |= {"varying": (2.3, 1.9), "span": (2.1, 1.8)}
UNTRAINED = {"pair": 2.2, "midline": 4.0}
CNN = ("pair", "midline", "fitted")  # what is measured on convolutional networks
NETWORKS = (((128, 128, 128), 1), ((512,), 1), ((128, 128, 128), 4))


def table(
    *, seeds=5, data="made-up data", dataset="mnist", shift=0.0, networks=NETWORKS, correlated=True, conv=False, **more
):
    """Runs of every network; `shift` is taken from pairs on random labels, `more` replaces what true labels gave."""
    ends = product(networks, (0.0, 1.0), range(seeds))
    rows = [_end(data, dataset, *network, q, seed, shift) for network, q, seed in ends]
    for row in rows:
        row |= {f"intervals/{name}": value for name, value in more.items() if row["label_corruption"] == 0}
    if conv:
        kept = [name for name in rows[0] if "/" not in name or name.split("/")[1].split("_")[0] in CNN]
        rows += [{**{name: row[name] for name in kept}, **conv_about(row)} for row in rows[: 2 * seeds]]
    return pd.DataFrame(rows + [row for seed in range(seeds) for row in _watched(data, dataset, seed, correlated)])


def _about(data, dataset, widths, downsample, q, seed, eval_every):
    options = {"widths": list(widths)} | ({"downsample": downsample} if downsample > 1 else {})
    told = {"data": data, "dataset": dataset, "network": network_name("mlp", options), "model": "mlp"}
    told |= {"model_options": json.dumps(options), "epochs": 150 if eval_every > 1 else 5, "eval_every": eval_every}
    told |= {"label_corruption": q, "train_accuracy": 1.0, "test_accuracy": 0.9 if q == 0 else 0.1}
    key = f"{data}-{widths}-{downsample}-{q}-{eval_every}"
    return fake_sizes.about("generalization_intervals", key, seed, **told)


def conv_about(row):
    """What makes of a row that of a convolutional network."""
    ids = {name: f"conv-{row[name]}" for name in ("run_id", "group_id")}
    return {**ids, "model": "alexnet_small", "network": "alexnet_small", "model_options": "{}"}


def bins(kind, mean):
    """All lines in the bin of the mean length."""
    low, high = SPANS[kind]
    counts = np.zeros(BINS, dtype=int)
    counts[min(BINS - 1, int(mean / (high - low) * BINS))] = 50
    return " ".join(map(str, counts))


def _end(data, dataset, widths, downsample, q, seed, shift):
    row = _about(data, dataset, widths, downsample, q, seed, 150) | {"epoch": 150, "seconds": 1.0}
    for kind, lengths in LENGTHS.items():
        mean = lengths[int(q)] + 0.002 * seed
        if kind == "pair" and q:
            mean -= shift + (0.5 if downsample > 1 else 0.0)
        row |= {f"intervals/{kind}_mean": mean, f"intervals/{kind}_bins": bins(kind, mean)}
    norm = {"norm_ratio": 0.7, "norm_within": 1.0, "norm_bins": bins("pair", 1.5), "pieces": 150.0}
    norm |= {f"untrained_{kind}_mean": mean + 0.002 * seed for kind, mean in UNTRAINED.items()}
    norm |= {"bound_within": 1.0, "bound_covered": 0.9, "bound_reach": 0.01, "bound_nearest": 0.2}
    return row | {f"intervals/{name}": value for name, value in norm.items()} | {"intervals/fitted": 1.0}


def _watched(data, dataset, seed, correlated):
    for epoch in range(6):
        row = _about(data, dataset, (128, 128, 128), 1, 0.0, seed, 1) | {"epoch": epoch, "seconds": 0.1 * epoch}
        row |= {"train_accuracy": epoch / 5, "test_accuracy": 0.1 + 0.15 * epoch}
        grown = epoch / 5 if correlated else 1 - epoch / 5
        yield row | {"intervals/pair_mean": 2 + grown, "intervals/fitted": 0.1 + 0.9 * epoch / 5}
