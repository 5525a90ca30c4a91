"""The live explorer of chapter 4: stiffness over the plane, by layer, and of two examples."""

from __future__ import annotations

import ipywidgets as widgets
import pandas as pd
import torch
from torch import nn

from gendyn_lite import data
from gendyn_lite.chapters import live, runner
from gendyn_lite.chapters.stiffness import charts_maps
from gendyn_lite.chapters.stiffness.probes import RADIUS, corners, map_probe
from gendyn_lite.chapters.stiffness.runs import PLANAR, plan
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import stiffness
from gendyn_lite.models.build import ACTIVATIONS

ALL = "all layers"


class StiffnessExplorer:
    """Choose points, activation and epochs; train; see the map of one layer or all, and the stiffness of two examples.

    On the static page `gendyn_lite.chapters.stiffness.charts_maps.neighbourhood_maps` shows the runs of the chapter
    instead.

    Attributes:
        panel: The widget to display.
    """

    def __init__(self) -> None:
        base = plan("maps", "colab", seeds=1)[0]
        self._base, self._trained = base, dict[str, tuple[nn.Module, ImageData]]()
        depth = len(base.model_options["widths"])
        self.dataset = widgets.Dropdown(options=PLANAR, description="points")
        self.activation = widgets.Dropdown(options=list(ACTIVATIONS), description="activation")
        self.epochs = widgets.IntSlider(value=50, min=1, max=200, description="epochs")
        self.layer = widgets.Dropdown(options=[ALL, *(f"fc{i}" for i in range(1, depth + 2))], description="layer")
        self.radius = widgets.FloatSlider(value=RADIUS, min=0.1, max=0.6, step=0.05, description="radius")
        self.first = widgets.BoundedIntText(value=0, min=0, max=299, description="example")
        self.second = widgets.BoundedIntText(value=2, min=0, max=299, description="another")
        tip = "train, or take what was trained"
        self.show = widgets.Button(description="Show", button_style="primary", tooltip=tip)
        controls = [self.dataset, self.activation, self.epochs, self.layer, self.radius, self.first, self.second]
        self.panel, self.status = live.panel(controls, self._show, self.show)

    def config(self) -> RunConfig:
        """Return the training run that the controls describe."""
        options = {**self._base.model_options, "activation": str(self.activation.value)}
        often = dict.fromkeys(("epochs", "eval_every"), int(self.epochs.value))
        return self._base.replace(dataset=str(self.dataset.value), model_options=options, **often)

    def network(self) -> tuple[nn.Module, ImageData]:
        """Return the trained network in float64, and its data; each configuration is trained once."""
        config = self.config()
        loaded, _ = data.load_for_run(config)
        key = config.run_id(loaded.fingerprint)
        if key not in self._trained:
            self._trained[key] = runner.trained(config, loaded).double(), loaded
        return self._trained[key]

    def pair(self) -> float:
        """Return the cosine stiffness of the two chosen training examples in the chosen layer."""
        model, loaded = self.network()
        chosen = torch.tensor([int(self.first.value), int(self.second.value)])
        x, y = loaded.train.x[chosen].double(), loaded.train.y[chosen]
        gram = stiffness.gradient_gram(model, x, y, groups={"chosen": self._layers(model)})
        assert isinstance(gram, dict)
        return float(stiffness.cosine(gram["chosen"])[0, 1])

    def map(self) -> pd.DataFrame:
        """Return the map of the chosen layer as a table of runs with one row."""
        (model, loaded), epoch = self.network(), int(self.epochs.value)
        probe = map_probe(loaded, keep=True, radius=float(self.radius.value), layers=self._layers(model))
        found = {f"map/{name}": value for name, value in probe(model, epoch).items()}
        with torch.no_grad():
            right = float((model(loaded.train.x.double()).argmax(1) == loaded.train.y).double().mean())
        about = {"dataset": loaded.name, "data": loaded.description, "n_train": len(loaded.train.y)}
        return pd.DataFrame([{**about, "epoch": epoch, "train_accuracy": right, **found}])

    def _layers(self, model: nn.Module) -> tuple[str, ...]:
        return stiffness.layer_names(model) if self.layer.value == ALL else (str(self.layer.value),)

    def _show(self) -> live.Shown:
        table, loaded = self.map(), self.network()[1]
        y = loaded.train.y
        classes = "one class" if y[int(self.first.value)] == y[int(self.second.value)] else "two classes"
        said = f"train accuracy {table['train_accuracy'].iloc[0]:.2f}; examples {self.first.value} and "
        said += f"{self.second.value}, of {classes}: cosine stiffness {self.pair():.2f} in {self.layer.value}"
        chart = charts_maps.neighbourhood_maps(table, {str(self.dataset.value): corners(loaded)})
        return said, chart, f"{self.layer.value}, trained here"
