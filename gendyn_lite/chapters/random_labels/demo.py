"""Chapter 1: labels as they are corrupted, bugs that hide memorization, switched on one by one, a live run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch
from torch import nn

from gendyn_lite import data, results, train
from gendyn_lite.chapters import live, runner
from gendyn_lite.chapters.random_labels import charts, runs
from gendyn_lite.config import RunConfig
from gendyn_lite.data.gallery import data_uri
from gendyn_lite.data.types import ImageData

_SETTINGS = {"train_size": 200, "epochs": 40, "batch_size": 20, "learning_rate": 0.05, "decay": 0.99, "eval_every": 40}
CONFIG = RunConfig(experiment="traps", model="mlp_1x512", label_corruption=1.0, **_SETTINGS)


def corruption_examples(count: int = 24, *, seed: int = 0) -> pd.DataFrame:
    """Digits with their true label, their replacement and the q from which the replacement is used.

    Only embedded data: the pictures travel with the book.

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
        true: Asked for the true labels.
        corrupted: Asked for labels corrupted as the training labels were.
        predicted: (1 − q) · true + q / classes.
    """

    true: float
    corrupted: float
    predicted: float


def corrupted_test_trap(*, fraction: float, seed: int = 0, root: str | None = None) -> Trap:
    """Train on digits with corrupted labels and ask for the true and for corrupted test labels.

    Args:
        fraction: Label corruption q of the training labels, and of the corrupted test labels.
        seed: Seed of the run.
        root: Folder of the runs; the run is loaded if it is there.
    """
    config = runs.plan("smoke", networks="mlp_1x512", corruptions=[fraction], seeds=1)[0]
    config = config.replace(experiment=f"{runs.EXPERIMENT}_trap", seed=seed, eval_every=config.epochs)

    def prepare(loaded: ImageData) -> dict[str, Any]:
        # The mistake on purpose: test labels redrawn, from draws of their own.
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
    """Train one network on random labels of digits, once as it should be and once with each of two bugs.

    Returns:
        A row each: ``labels`` and ``augmentation`` as they were, ``train_accuracy`` on the labels of the last epoch.
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
    """The mistake on purpose: random labels drawn where an epoch begins, as a transform of the data would."""
    network, last = runner.build(CONFIG, loaded), 0.0
    for epoch in range(1, CONFIG.epochs + 1):
        rate = train.learning_rate(CONFIG, epoch)
        one = CONFIG.replace(epochs=1, eval_every=1, learning_rate=rate, schedule="constant", seed=epoch)
        labels, _ = data.corrupt_labels(loaded.train.y, 1.0, num_classes=loaded.num_classes, seed=epoch)
        given = replace(loaded, train=loaded.train._replace(y=labels))
        last = train.fit(network, given, one, device="cpu").last["train_accuracy"]
    return last


WITH_OPTIONS = ("inception_small",)  # networks with dropout and batch-norm to switch on and off


class RandomLabelsExplorer:
    """Choose a network, a fraction q, regularizers and a seed; train it (or load what was trained) and see its curves.

    The static twins are `learning_curves` and the charts of regularizers in `gendyn_lite.chapters.random_labels.charts`
    over the runs of the chapter.

    Args:
        profile: Size of the runs.
        dataset: Data set; empty takes the profile's own.
        root: Folder of the runs.

    Attributes:
        panel: What to display.
    """

    def __init__(self, *, profile: str = "smoke", dataset: str = "", root: str | Path | None = None) -> None:
        self._profile, self._root = profile, root
        self._planned = [*runs.plan(profile, dataset=dataset), *runs.regularizer_plan(profile, dataset=dataset)]
        self._networks: dict[str, RunConfig] = {}
        for config in self._planned:
            self._networks.setdefault(config.model, config)
        self._add_controls()
        self.train = widgets.Button(description="Train", button_style="primary", tooltip="train, or load what is there")
        controls = [self.network, self.corruption, self.seed, self.weight_decay, self.dropout, self.random_crop]
        self.panel, self.status = live.panel([*controls, self.flip, self.batch_norm], self._show, self.train)

    def _add_controls(self) -> None:
        """The controls; dropout and batch-norm are dead for a network that has none."""
        self.network = widgets.Dropdown(options=list(self._networks), description="network")
        self.corruption = widgets.FloatSlider(value=1.0, min=0, max=1, step=0.05, description="q", readout_format=".2f")
        self.seed = widgets.BoundedIntText(value=0, min=0, max=10_000, description="seed")
        self.weight_decay = widgets.Dropdown(options=[0.0, 1e-4, 5e-4, 2e-3, 1e-2], description="weight decay")
        self.dropout = widgets.Dropdown(options=[0.0, 0.25, 0.5], description="dropout")
        self.random_crop = widgets.Checkbox(value=False, description="random crop")
        self.flip = widgets.Checkbox(value=False, description="random flip")
        self.batch_norm = widgets.Checkbox(value=True, description="batch-norm")
        self.network.observe(lambda _: self._match_network(), names="value")
        self._match_network()

    def _match_network(self) -> None:
        for control in (self.dropout, self.batch_norm):
            control.disabled = self.network.value not in WITH_OPTIONS

    def config(self) -> RunConfig:
        """The run that the controls describe: that of the chapter's plan if it is one, else one of the explorer's."""
        base = self._networks[str(self.network.value)]
        options: dict[str, object] = {}
        if not self.batch_norm.disabled:
            options |= {} if self.batch_norm.value else {"batch_norm": False}
            options |= {"dropout": self.dropout.value} if self.dropout.value else {}
        labels = {"label_corruption": round(float(self.corruption.value), 2), "seed": int(self.seed.value)}
        crop = runs.crop_padding(base.center_crop) if self.random_crop.value else 0
        decay, flip = float(self.weight_decay.value or 0), bool(self.flip.value)
        chosen = base.replace(inputs="true", **labels, weight_decay=decay, random_crop=crop, flip=flip)
        chosen = chosen.replace(model_options=options)
        named = [chosen.replace(experiment=name) for name in (runs.EXPERIMENT, runs.REGULARIZERS)]
        known = [each for each in named if each in self._planned]
        # A run of no plan is kept apart, so that it is never published among those of one.
        return known[0] if known else chosen.replace(experiment="explorer")

    def _show(self) -> live.Shown:
        run = runs.run(self.config(), profile=self._profile, root=self._root)
        table = results.load_runs([run])
        last = table.iloc[-1]
        train, test = (f"{part} accuracy {last[f'{part}_accuracy']:.3f}" for part in ("train", "test"))
        said = f"epoch {last['epoch']}: {train}, {test}"
        return said, charts.learning_curves(table), results.provenance_line(table)
