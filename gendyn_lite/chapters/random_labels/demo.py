"""Chapter 1: bugs that make memorization look impossible, switched on one by one."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from torch import nn

from gendyn_lite import data, models, train
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData

CONFIG = RunConfig(
    experiment="traps",
    model="mlp_1x512",
    label_corruption=1.0,
    train_size=200,
    epochs=40,
    batch_size=20,
    learning_rate=0.05,
    decay=0.99,
    eval_every=40,
)


def memorization_traps(config: RunConfig = CONFIG) -> pd.DataFrame:
    """Train one network on random labels of digits, once as it should be and once with each of two bugs.

    Args:
        config: The run without a bug.

    Returns:
        A row each: ``labels`` and ``augmentation`` as they were, ``train_accuracy`` on the labels of the last epoch.
    """
    loaded, _ = data.load_for_run(config)
    augmented = config.replace(random_crop=2, flip=True)
    rows = [
        ("drawn once", "off", _fitted(loaded, config)),
        ("redrawn every epoch", "off", _redrawn(loaded, config)),
        ("drawn once", "on, unnoticed", _fitted(loaded, augmented)),
    ]
    return pd.DataFrame(rows, columns=pd.Index(["labels", "augmentation", "train_accuracy"]))


def _fitted(loaded: ImageData, config: RunConfig) -> float:
    return train.fit(_network(loaded, config), loaded, config, device="cpu").last["train_accuracy"]


def _redrawn(loaded: ImageData, config: RunConfig) -> float:
    """The mistake on purpose: random labels drawn where an epoch begins, as a transform of the data would."""
    network, last = _network(loaded, config), 0.0
    for epoch in range(1, config.epochs + 1):
        rate = train.learning_rate(config, epoch)
        one = config.replace(epochs=1, eval_every=1, learning_rate=rate, schedule="constant", seed=config.seed + epoch)
        labels, _ = data.corrupt_labels(loaded.train.y, 1.0, num_classes=loaded.num_classes, seed=one.seed)
        given = replace(loaded, train=loaded.train._replace(y=labels))
        last = train.fit(network, given, one, device="cpu").last["train_accuracy"]
    return last


def _network(loaded: ImageData, config: RunConfig) -> nn.Module:
    return models.build(config.model, num_classes=loaded.num_classes, in_shape=loaded.in_shape, seed=config.seed)
