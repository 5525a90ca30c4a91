"""Demonstrations of chapter 1: how labels are corrupted, and bugs that hide memorization, switched on one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.random_labels import runs
from gendyn_lite.config import RunConfig
from gendyn_lite.data.gallery import data_uri
from gendyn_lite.data.types import ImageData

_SETTINGS = {"train_size": 200, "epochs": 40, "batch_size": 20, "learning_rate": 0.05, "decay": 0.99, "eval_every": 40}
CONFIG = RunConfig(experiment="traps", model="mlp_1x512", label_corruption=1.0, **_SETTINGS)


def corruption_examples(count: int = 24, *, seed: int = 0) -> pd.DataFrame:
    """Return digits with their true label, the label that replaces it, and the q above which it is replaced.

    The digits are embedded data, so that their pictures can be published with the book.

    Args:
        count: Number of images.
        seed: Seed of the label corruption, as in a run.

    Returns:
        Columns image (data URI of a PNG), true, redrawn and threshold (in steps of 0.05, at least one step).

    >>> corruption_examples(4)["true"].tolist()
    [0, 1, 2, 3]
    """
    x, y = data.load("digits").train
    first = [int((y == label).nonzero()[turn]) for turn in range(3) for label in range(10)][:count]
    q = np.linspace(0, 1, 21).round(2)
    changes = [data.corrupt_labels(y, float(f), num_classes=10, seed=seed) for f in q]
    when = np.stack([redrawn[first].numpy() for _, redrawn in changes]).argmax(0)
    large = (255 - x).repeat_interleave(4, 2).repeat_interleave(4, 3)  # dark on light
    found = {"image": [data_uri(large[i]) for i in first], "true": y[first], "redrawn": changes[-1][0][first]}
    return pd.DataFrame({**found, "threshold": (q[when] - 0.025).round(3)})


class Trap(NamedTuple):
    """Accuracies of one network on the same test images, in [0, 1].

    Attributes:
        true: Accuracy on the true labels.
        corrupted: Accuracy on labels that were corrupted like the training labels.
        predicted: What `corrupted` should be: (1 − q) · true + q / classes.
    """

    true: float
    corrupted: float
    predicted: float


def corrupted_test_trap(*, fraction: float, seed: int = 0, root: str | None = None) -> Trap:
    """Train on digits with corrupted labels, and evaluate on true and on corrupted test labels.

    Args:
        fraction: Label corruption q of the training labels and of the corrupted test labels.
        seed: Seed of the run.
        root: Folder of the runs; the run is loaded if it exists.
    """
    config = runs.plan("smoke", networks="mlp_1x512", corruptions=[fraction], seeds=1)[0]
    config = config.replace(experiment=f"{runs.EXPERIMENT}_trap", seed=seed, eval_every=config.epochs)

    def prepare(loaded: ImageData) -> dict[str, Any]:
        # The deliberate mistake: test labels are corrupted too, with random numbers of their own.
        wrong, _ = data.corrupt_labels(loaded.test.y, fraction, num_classes=10, seed=seed + 1)
        inputs = torch.cat([x for x, _ in data.batcher(loaded, config, split="test").epoch(0)])

        def probe(model: nn.Module, epoch: int) -> dict[str, float]:
            with torch.no_grad():
                predicted = model(inputs.to(next(model.parameters()).device)).argmax(1).cpu()
            return {"corrupted_test_accuracy": float((predicted == wrong).float().mean())}

        return {"probes": {"trap": probe}}

    last = runner.load_or_run(config, profile="smoke", root=root, prepare=prepare).rows()[-1]
    true, corrupted = last["test_accuracy"], last["trap/corrupted_test_accuracy"]
    return Trap(true, corrupted, predicted=(1 - fraction) * true + fraction / 10)


def memorization_traps() -> pd.DataFrame:
    """Train a network on random labels of digits, once correctly and once with each of two bugs.

    Returns:
        A row for each training: ``labels`` and ``augmentation``, how they were handled, and ``train_accuracy`` on the
        labels of the last epoch.
    """
    loaded, _ = data.load_for_run(CONFIG)

    def fitted(config: RunConfig) -> float:
        network = runner.build(config, loaded)
        return train.fit(network, loaded, config, device="cpu").last["train_accuracy"]

    rows = [
        ("drawn once", "off", fitted(CONFIG)),
        ("redrawn every epoch", "off", _redrawn(loaded)),
        ("drawn once", "on, unnoticed", fitted(CONFIG.replace(random_crop=2, flip=True))),
    ]
    return pd.DataFrame(rows, columns=pd.Index(["labels", "augmentation", "train_accuracy"]))


def _redrawn(loaded: ImageData) -> float:
    """Train with a deliberate mistake: random labels are redrawn every epoch, as a data transform would do."""
    network, last = runner.build(CONFIG, loaded), 0.0
    for epoch in range(1, CONFIG.epochs + 1):
        rate = train.learning_rate(CONFIG, epoch)
        one = CONFIG.replace(epochs=1, eval_every=1, learning_rate=rate, schedule="constant", seed=epoch)
        labels, _ = data.corrupt_labels(loaded.train.y, 1.0, num_classes=loaded.num_classes, seed=epoch)
        given = replace(loaded, train=loaded.train._replace(y=labels))
        last = train.fit(network, given, one, device="cpu").last["train_accuracy"]
    return last
