"""The live explorer of chapter 2: whose path overlaps most with that of an image, layer by layer and epoch by epoch."""

from __future__ import annotations

import ipywidgets as widgets
import pandas as pd

from gendyn_lite.chapters import explorer as live
from gendyn_lite.chapters.path_functions import charts_demo, demo


class PathExplorer:
    """Choose labels, an image, a layer and an epoch; see the images whose paths overlap most with its own.

    The static twin is `charts_demo.ranks` of this chapter over `demo.neighbours`.

    Attributes:
        panel: What to display.
    """

    def __init__(self) -> None:
        found = demo.trained()
        layers, epochs = list(found.recording.layers), found.recording.epochs
        self.labels = widgets.Dropdown(options=[("true labels", 0.0), ("random labels", 1.0)], description="labels")
        self.image = widgets.BoundedIntText(value=5, min=0, max=len(found.x) - 1, description="image")
        self.layer = widgets.Dropdown(options=layers, value=layers[-1], description="layer")
        self.epoch = widgets.IntSlider(value=epochs[-1], min=epochs[0], max=epochs[-1], description="epoch")
        self.status = widgets.HTML()
        self.output = widgets.Output()
        controls = [self.labels, self.image, self.layer, self.epoch]
        self.panel = live.panel(controls, [self.status, self.output], self._draw)

    def nearest(self) -> pd.DataFrame:
        """The image that is chosen and those whose paths are nearest; see `demo.nearest`."""
        image, epoch, corruption = int(self.image.value), int(self.epoch.value), float(self.labels.value or 0)
        return demo.nearest(image, str(self.layer.value), epoch, corruption=corruption)

    def _draw(self) -> None:
        with live.told(self.status):
            rows = self.nearest()
            own, others = int(rows["digit"].iloc[0]), rows.iloc[1:]
            same = int((others["digit"] == own).sum())
            live.say(self.status, f"a {own}; of its {len(others)} nearest by path, {same} show the same digit")
            live.draw(self.output, charts_demo.nearest(rows), "scikit-learn's digits; the chapter's network, seed 0.")
