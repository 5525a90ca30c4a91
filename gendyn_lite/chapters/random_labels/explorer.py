"""The live explorer of chapter 1: train a network on labels of any corruption, with or without regularizers."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets

from gendyn_lite import results
from gendyn_lite.chapters import live
from gendyn_lite.chapters.random_labels import charts, runs
from gendyn_lite.config import RunConfig

WITH_OPTIONS = ("inception_small",)  # networks with dropout and batch-norm to switch on and off


class RandomLabelsExplorer:
    """Choose a network, a fraction q, regularizers and a seed; train it (or load a finished run) and see its curves.

    On the static page `learning_curves` and the charts of regularizers in `gendyn_lite.chapters.random_labels.charts`
    show the runs of the chapter instead.

    Args:
        profile: Size of the runs.
        dataset: Data set; empty for the profile's default.
        root: Folder of the runs.

    Attributes:
        panel: The widget to display.
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
        """Make the controls; dropout and batch-norm are disabled for networks without them."""
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
        """Return the run that the controls describe: one of the chapter's plan, or else one of the explorer's own."""
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
        # Runs outside the plan get an experiment of their own, so that they are never published with the planned ones.
        return known[0] if known else chosen.replace(experiment="explorer")

    def _show(self) -> live.Shown:
        run = runs.run(self.config(), profile=self._profile, root=self._root)
        table = results.load_runs([run])
        last = table.iloc[-1]
        train, test = (f"{part} accuracy {last[f'{part}_accuracy']:.3f}" for part in ("train", "test"))
        said = f"epoch {last['epoch']}: {train}, {test}"
        return said, charts.learning_curves(table), results.provenance_line(table)
