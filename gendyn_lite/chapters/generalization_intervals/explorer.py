"""The live explorer of chapter 5: logits along a line from an image of your choice, and its interval."""

from __future__ import annotations

import ipywidgets as widgets

from gendyn_lite.chapters import explorer as live
from gendyn_lite.chapters.generalization_intervals import charts as drawn
from gendyn_lite.chapters.generalization_intervals import demo as interval_lines

WIDTHS = {"3x128": (128, 128, 128), "1x512": (512,), "2x256": (256, 256), "4x128": (128,) * 4}


class IntervalExplorer:
    """Choose a network, labels, an image and a direction; see the logits along the line, its knots and its interval.

    The static twin is `gendyn_lite.chapters.generalization_intervals.charts.paths` over the tables of
    `gendyn_lite.chapters.generalization_intervals.demo.paths`.

    Attributes:
        panel: What to display.
    """

    def __init__(self) -> None:
        self.network = widgets.Dropdown(options=list(WIDTHS), description="network")
        self.labels = widgets.Dropdown(options=["true labels", "random labels"], description="labels")
        self.image = widgets.BoundedIntText(value=0, min=0, max=299, description="image")
        self.towards = widgets.Dropdown(
            options=[(words, kind) for kind, words in interval_lines.KINDS.items()], description="direction"
        )
        self.status = widgets.HTML()
        self.output = widgets.Output()
        controls = [self.network, self.labels, self.image, self.towards]
        self.panel = live.panel(controls, [self.status, self.output], self._draw)

    def _draw(self) -> None:
        with live.told(self.status):
            tables = interval_lines.one_line(
                str(self.towards.value),
                image=int(self.image.value),
                corruption=float(self.labels.value == "random labels"),
                widths=WIDTHS[str(self.network.value)],
            )
            live.say(self.status, "")
            live.draw(self.output, drawn.paths(*tables), "A digit of scikit-learn; exact at every knot.")
