"""The live explorer of chapter 5: logits along a line from an image of your choice, and its interval."""

from __future__ import annotations

import ipywidgets as widgets

from gendyn_lite.chapters import live
from gendyn_lite.chapters.generalization_intervals import charts, demo

WIDTHS = {"3x128": (128, 128, 128), "1x512": (512,), "2x256": (256, 256), "4x128": (128,) * 4}


class IntervalExplorer:
    """Choose a network, labels, an image and a direction; see the logits along the line, its knots and its interval.

    The static twin is `charts.paths` of this chapter over the tables of `demo.paths`.

    Attributes:
        panel: What to display.
    """

    def __init__(self) -> None:
        self.network = widgets.Dropdown(options=list(WIDTHS), description="network")
        self.labels = widgets.Dropdown(options=["true labels", "random labels"], description="labels")
        self.image = widgets.BoundedIntText(value=0, min=0, max=299, description="image")
        kinds = [(words, kind) for kind, words in demo.KINDS.items()]
        self.towards = widgets.Dropdown(options=kinds, description="direction")
        self.panel, self.status = live.panel([self.network, self.labels, self.image, self.towards], self._show)

    def _show(self) -> live.Shown:
        corruption = float(self.labels.value == "random labels")
        network = {"corruption": corruption, "widths": WIDTHS[str(self.network.value)]}
        tables = demo.one_line(str(self.towards.value), image=int(self.image.value), **network)
        return "", charts.paths(*tables), "A digit of scikit-learn; exact at every knot."
