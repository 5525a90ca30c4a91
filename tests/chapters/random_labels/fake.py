"""Tidy tables with known contents, for tests of what is computed and drawn from tables."""

from __future__ import annotations

import json
from itertools import product

import pandas as pd

from gendyn_lite.results.tables import network_name
from tests.chapters import fake_sizes

INPUTS = ("shuffled_pixels", "random_pixels", "gaussian")


def table(
    *, networks=("mlp_1x512",), corruptions=(0.0, 0.5, 1.0), inputs=INPUTS, seeds=3, fitted=True, slowdown=2.0,
    chance_accuracy=0.1,
) -> pd.DataFrame:  # fmt: skip
    """Runs that fit q = 0 at epoch 10 + seed and q = 1 `slowdown` times later; test error 0.1 + 0.8 q."""
    conditions = [("true", q) for q in corruptions] + [(kind, 0.0) for kind in inputs]
    runs = product(networks, conditions, range(seeds))
    each = (_run(network, *condition, seed, fitted, slowdown, chance_accuracy) for network, condition, seed in runs)
    return pd.DataFrame([row for run in each for row in run])


def _run(network, kind, q, seed, fitted, slowdown, chance_accuracy):
    fit = round((10 + seed) * (1 + (slowdown - 1) * (q if kind == "true" else 0.5)))
    test = 0.9 - 0.8 * q if kind == "true" and q < 1 else chance_accuracy
    told = {"profile": "colab", "network": network, "model": network, "epochs": 100, "dataset": "digits"}
    told |= {"inputs": kind, "label_corruption": q, "random_crop": 0}
    about = fake_sizes.about("random_labels", f"{network}-{kind}-{q}", seed, **told)
    for epoch in range(fit + 1):
        share = epoch / fit
        train = 0.1 + (0.9 if fitted else 0.2) * share
        values = {"train_loss": 2.3 * (1 - share), "train_accuracy": train, "test_loss": 1.0, "seconds": 1.5 * epoch}
        yield {**about, "epoch": epoch, "test_accuracy": 0.1 + (test - 0.1) * share, **values}


# Test accuracy at the end, and how much higher it was at the best epoch, of each setting.
SETTINGS = {("", "none"): (0.80, 0.0), ("", "decay"): (0.81, 0.0), ("", "crop"): (0.84, 0.0), ("", "both"): (0.85, 0.0)}
SETTINGS |= {("", "dropout"): (0.82, 0.0), ("without", "none"): (0.76, 0.05), ("without", "decay"): (0.77, 0.05)}
ON = {"none": {}, "decay": {"weight_decay": 0.1}, "crop": {"random_crop": 2}}
ON["both"] = ON["crop"] | ON["decay"]


def regularized(*, seeds=3, random_train=1.0, data="made-up data", n_train=1000, **changes) -> pd.DataFrame:
    """Runs of inception_small with every regularizer; `changes`: name of a setting → its test accuracy."""
    rows = []
    for ((norm, name), (end, fall)), seed in product(SETTINGS.items(), range(seeds)):
        options = ({"batch_norm": False} if norm else {}) | ({"dropout": 0.5} if name == "dropout" else {})
        about = {"model_options": options, "q": 0.0, **ON.get(name, {})}
        accuracy = changes.get(f"{norm}_{name}" if norm else name, end) + 0.001 * seed
        rows += _epochs(f"{norm}{name}{seed}", about, seed, (1.0, accuracy, fall))
    for name, seed in product(("none", "decay"), range(seeds)):
        about = {"model_options": {}, "q": 1.0, **ON[name]}
        rows += _epochs(f"random{name}{seed}", about, seed, (random_train - 0.0001 * seed, 0.1, 0.0))
    about = {"data": data, "n_train": n_train, "precision": "float32", "epochs": 5, "profile": "colab", "device": "CPU"}
    return pd.DataFrame(rows).assign(**about, num_classes=10)


def _epochs(run_id, about, seed, accuracies):
    """Four epochs; the last but one is the best, and seed 1 stops one epoch later."""
    train, end, fall = accuracies
    about = {**about, "model": "inception_small", "inputs": "true", "label_corruption": about["q"], "seed": seed}
    about["network"] = network_name("inception_small", about["model_options"])
    about |= {"model_options": json.dumps(about["model_options"]), "run_id": run_id, "group_id": run_id[:-1]}
    tests = [0.1, end / 2, end + fall, *[end] * (2 if seed == 1 else 1)]
    shown = {"random_crop": 0, "weight_decay": 0.0, **about}
    return [
        {**shown, "epoch": epoch, "train_accuracy": train * min(epoch / 3, 1), "test_accuracy": test, "seconds": 1.0,
         "train_loss": 2.3 * (1 - min(epoch / 3, 1))}
        for epoch, test in enumerate(tests)
    ]  # fmt: skip
