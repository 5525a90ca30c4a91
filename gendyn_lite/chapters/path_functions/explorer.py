"""The live explorer of chapter 2: the images whose paths overlap most with an image's, by layer and epoch."""

from __future__ import annotations

import ipywidgets as widgets
import pandas as pd

from gendyn_lite.chapters import live
from gendyn_lite.chapters.path_functions import charts_demo, demo
from gendyn_lite.chapters.path_functions.probes_pairs import NEAREST
from gendyn_lite.errors import UserError
from gendyn_lite.measures import relu_paths


def nearest(image: int, layer: str, epoch: int, *, corruption: float = 0.0) -> pd.DataFrame:
    """Find the images whose paths overlap most with that of an image, at one epoch.

    Args:
        image: Number of a followed image.
        layer: Name of a layer with gates.
        epoch: A recorded epoch.
        corruption: 0 for the network trained on true labels, 1 for the one on random labels.

    Returns:
        Columns place (0 is the image itself), image, digit, share (of the units on for the image, those on for both)
        and picture.

    Raises:
        UserError: The image, layer or epoch does not exist.

    >>> nearest(0, "relu4", 0).columns.tolist()
    ['place', 'image', 'digit', 'share', 'picture']
    """
    found = demo.trained(corruption)
    if not 0 <= image < len(found.x):
        raise UserError(f"image is {image}, expected a number from 0 to {len(found.x) - 1}")
    gram = relu_paths.path_gram(found.recording.packed(epoch, layer)[layer])
    order = relu_paths.neighbour_ranks(gram, [image])[0].argsort()[: NEAREST + 1].tolist()
    own = max(int(gram[image, image]), 1)
    rows = [
        (place, each, int(found.digits[each]), round(float(gram[image, each]) / own, 3), found.pictures[each])
        for place, each in enumerate(order)
    ]
    return pd.DataFrame(rows, columns=pd.Index(["place", "image", "digit", "share", "picture"]))


class PathExplorer:
    """Choose labels, an image, a layer and an epoch; see the images whose paths overlap most with its own.

    On the static page `charts_demo.ranks` shows the table of `demo.neighbours` instead.

    Attributes:
        panel: The widget to display.
    """

    def __init__(self) -> None:
        found = demo.trained()
        layers, epochs = list(found.recording.layers), found.recording.epochs
        self.labels = widgets.Dropdown(options=[("true labels", 0.0), ("random labels", 1.0)], description="labels")
        self.image = widgets.BoundedIntText(value=5, min=0, max=len(found.x) - 1, description="image")
        self.layer = widgets.Dropdown(options=layers, value=layers[-1], description="layer")
        self.epoch = widgets.IntSlider(value=epochs[-1], min=epochs[0], max=epochs[-1], description="epoch")
        self.panel, self.status = live.panel([self.labels, self.image, self.layer, self.epoch], self._show)

    def nearest(self) -> pd.DataFrame:
        """Return the table of `nearest` for the chosen image."""
        image, epoch, corruption = int(self.image.value), int(self.epoch.value), float(self.labels.value or 0)
        return nearest(image, str(self.layer.value), epoch, corruption=corruption)

    def _show(self) -> live.Shown:
        rows = self.nearest()
        own, others = int(rows["digit"].iloc[0]), rows.iloc[1:]
        same = int((others["digit"] == own).sum())
        said = f"a {own}; of its {len(others)} nearest by path, {same} show the same digit"
        return said, charts_demo.nearest(rows), "scikit-learn's digits; the chapter's network, seed 0."
