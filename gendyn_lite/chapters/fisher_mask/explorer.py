"""The live explorer of chapter 3: whose predictions move when one example has its step."""

from __future__ import annotations

import ipywidgets as widgets

from gendyn_lite.chapters import live
from gendyn_lite.chapters.fisher_mask import charts, demo


class InfluenceExplorer:
    """Choose an example, a step size, the share of weights that may move, and the units; see whose predictions move.

    The static twin is `charts.moved` of this chapter over the table of `demo.steps`.

    Attributes:
        panel: What to display.
    """

    def __init__(self) -> None:
        self.example = widgets.BoundedIntText(value=0, min=0, max=299, description="example")
        self.eps = widgets.FloatLogSlider(value=0.03, base=10, min=-4, max=0.5, step=0.1, description="step size ε")
        self.keep = widgets.FloatSlider(value=1.0, min=0.05, max=1, step=0.05, description="keep")
        self.units = widgets.Dropdown(options=["tanh", "relu"], description="units")
        self.panel, self.status = live.panel([self.example, self.eps, self.keep, self.units], self._show)

    def _show(self) -> live.Shown:
        eps, keep = float(self.eps.value or 0), float(self.keep.value or 0)
        rows = demo.step(example=int(self.example.value), eps=eps, keep=keep, activation=str(self.units.value))
        kl, form = float(rows["kl"].mean()), float(rows["quadratic"].mean())
        means = rows.groupby("pair")["kl"].mean()
        said = ", ".join(f"{name} {value:.1e}" for name, value in means.items())
        said = f"mean KL {kl:.2e}, quadratic form {form:.2e} (ratio {kl / form:.2f}); {said}"
        return said, charts.moved(rows), "300 of scikit-learn's handwritten digits; trained here."
