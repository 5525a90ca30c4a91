"""Explorers for a live kernel, one a chapter; each has a static twin in the chapter, over the same run folders."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets
from IPython.display import clear_output

from gendyn_lite import charts, results
from gendyn_lite.charts import random_labels as drawn
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.experiments import random_labels, runner


class RandomLabelsExplorer:
    """Choose a network, a fraction q and a seed; train it (or load it, if it was trained before) and see its curves.

    The static twin is `gendyn_lite.charts.random_labels.learning_curves` over the runs of the chapter.

    Args:
        profile: Size of the runs.
        dataset: Data set; empty takes the profile's own.
        root: Folder of the runs.

    Attributes:
        panel: What to display.
    """

    def __init__(self, *, profile: str = "smoke", dataset: str = "", root: str | Path | None = None) -> None:
        self._profile, self._dataset, self._root = profile, dataset, root
        planned = random_labels.plan(profile, dataset=dataset)
        self._networks = {config.model: config for config in reversed(planned)}
        names = sorted(self._networks)
        self.network = widgets.Dropdown(options=names, description="network")
        self.corruption = widgets.FloatSlider(value=1.0, min=0, max=1, step=0.05, description="q", readout_format=".2f")
        self.seed = widgets.BoundedIntText(value=0, min=0, max=10_000, description="seed")
        self.weight_decay = widgets.Dropdown(options=[0.0, 1e-4, 1e-3, 1e-2], description="weight decay")
        self.train = widgets.Button(description="Train", button_style="primary", tooltip="train, or load what is there")
        self.status = widgets.HTML("Choose, then press Train.")
        self.output = widgets.Output()
        self.train.on_click(lambda _: self._train())
        choices = widgets.VBox([self.network, self.corruption, self.seed, self.weight_decay, self.train])
        self.panel = widgets.VBox([choices, self.status, self.output])

    def config(self) -> RunConfig:
        """The run that the controls describe."""
        base = self._networks[str(self.network.value)]
        return base.replace(
            inputs="true",
            label_corruption=round(float(self.corruption.value), 2),
            seed=int(self.seed.value),
            weight_decay=float(self.weight_decay.value or 0),
        )

    def _train(self) -> None:
        self.train.disabled = True
        self.status.value = "Training …"
        try:
            run = runner.load_or_run(self.config(), profile=self._profile, root=self._root)
            table = results.load_runs([run])
            last = table.iloc[-1]
            self.status.value = (
                f"epoch {last['epoch']}: train accuracy {last['train_accuracy']:.3f}, "
                f"test accuracy {last['test_accuracy']:.3f}"
            )
            with self.output:
                clear_output(wait=True)
                charts.show(drawn.learning_curves(table), caption=results.provenance_line(table))
        except UserError as error:
            self.status.value = str(error)
        finally:
            self.train.disabled = False
