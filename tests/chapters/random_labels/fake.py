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


# Test accuracy at the end of each setting.
SETTINGS = {("", "none"): 0.80, ("", "decay"): 0.81, ("", "crop"): 0.84, ("", "both"): 0.85, ("", "dropout"): 0.82}
SETTINGS |= {("without", "none"): 0.76, ("without", "decay"): 0.77, ("", "half"): 0.4}
ON = {"none": {}, "decay": {"weight_decay": 0.1}, "crop": {"random_crop": 2}, "half": {"q": 0.5}}
ON["both"] = ON["crop"] | ON["decay"]


def regularized(
    *, seeds=3, random_train=1.0, data="made-up data", n_train=1000, norm=0.5, fall=0.01, half_fall=0.2, stop=False,
    **changes,
) -> pd.DataFrame:  # fmt: skip
    """Runs of inception_small with every regularizer; `changes`: name of a setting → its test accuracy.

    The last but one epoch is the best of validation images; from there test accuracy falls by `fall` and, with half of
    the labels random, by `half_fall`. Weight decay multiplies the norm of the weights by `norm`.
    """
    rows = []
    for ((off, name), end), seed in product(SETTINGS.items(), range(seeds)):
        options = ({"batch_norm": False} if off else {}) | ({"dropout": 0.5} if name == "dropout" else {})
        about = {"model_options": options, "q": 0.0, **ON.get(name, {})}
        accuracy = changes.get(f"{off}_{name}" if off else name, end) + 0.001 * seed
        rows += _epochs(f"{off}{name}{seed}", about, seed, (1.0, accuracy, half_fall if name == "half" else fall), norm)
    for name, seed in product(("none", "decay"), range(seeds)):
        about = {"model_options": {}, "q": 1.0, **ON[name]}
        rows += _epochs(f"random{name}{seed}", about, seed, (random_train - 0.0001 * seed, 0.1, 0.0), norm)
    about = {"data": data, "n_train": n_train, "precision": "float32", "epochs": 3, "profile": "colab", "device": "CPU"}
    return pd.DataFrame(rows).assign(**about, num_classes=10, experiment="regularizers", stop_when_fitted=stop)


def _epochs(run_id, about, seed, accuracies, norm):
    """Three epochs after the start; the last but one is the best."""
    train, end, fall = accuracies
    about = {**about, "model": "inception_small", "inputs": "true", "label_corruption": about["q"], "seed": seed}
    about["network"] = network_name("inception_small", about["model_options"])
    about |= {"model_options": json.dumps(about["model_options"]), "run_id": run_id, "group_id": run_id[:-1]}
    shown = {"random_crop": 0, "weight_decay": 0.0, **about}
    watched = {"watched/weight_norm": 20 * (norm if shown["weight_decay"] else 1)}
    tests = [0.1, end / 2, end + fall, end]
    return [
        {**shown, "epoch": epoch, "train_accuracy": train * epoch / 3, "test_accuracy": test, "seconds": 1.0, **watched,
         "watched/validation_accuracy": [0.1, 0.4, 0.7, 0.6][epoch], "watched/test_accuracy": test,
         "train_loss": 2.3 * (1 - epoch / 3)}
        for epoch, test in enumerate(tests)
    ]  # fmt: skip


def augmented(*, seeds=3, longest=400, slower=True) -> pd.DataFrame:
    """Random labels with 1, 2, 18 and 50 variants of each image: fitted after 10 epochs and eight for each, or not."""
    rows = []
    kinds = [(0, False), (0, True), (1, True), (2, True)]
    for (number, (padding, flip)), seed in product(enumerate(kinds), range(seeds)):
        fit = [18, 26, 154, 410][number if slower else 3 - number] + seed
        about = {"random_crop": padding, "flip": flip, "seed": seed}
        about |= {"run_id": f"{number}{seed}", "group_id": str(number)}
        accuracy = {epoch: min(1.0, 0.1 + 0.9 * epoch / fit) for epoch in (0, 20, 40, 200, longest)}
        rows += [{**about, "epoch": epoch, "train_accuracy": train} for epoch, train in accuracy.items()]
    about = {"data": "made-up data", "n_train": 1000, "precision": "float32", "epochs": 400, "network": "mlp_1x512"}
    told = {"model": "mlp_1x512", "experiment": "augmented_labels", "profile": "colab", "device": "CPU"}
    return pd.DataFrame(rows).assign(**about, **told, test_accuracy=0.1, num_classes=10, seconds=1.0)
