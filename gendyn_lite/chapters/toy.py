"""The network that readers train in the page: its data and settings, and the library's results with the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from gendyn_lite import data, models, train
from gendyn_lite.charts import toy
from gendyn_lite.config import RunConfig

SEED = 0
WIDTHS = {"digits": "256", "two_moons": "12,12"}  # hidden units, layer by layer
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"train_size": 500, "batch_size": 25, "learning_rate": 0.05, "epochs": 150, "standardize": "per_channel"},
    "two_moons": {"train_size": 200, "batch_size": 20, "learning_rate": 0.01, "epochs": 300, "standardize": "none"},
}
CONSTANT = {"momentum": 0.9, "schedule": "constant", "stop_when_fitted": True}
PLANES: dict[str, dict[str, Any]] = {
    "digits": {"low": [-1, -1], "high": [2, 2], "point": [0.6, 0], "pieces": False},  # 0: the digit; 1: two others
    "two_moons": {
        **{"low": [-1.6, -1.1], "high": [2.6, 1.6], "point": [0.5, 0.2], "pieces": True},
        **{"origin": [0, 0], "right": [1, 0], "up": [0, 1]},
    },
}
CLASSES = {"digits": list("0123456789"), "two_moons": ["●", "■"]}
THINGS = {"digits": "digits", "two_moons": "points"}
LABELS = {
    "0": "true",
    "0.25": "a quarter random",
    "0.5": "half random",
    "0.75": "three quarters random",
    "1": "all random",
}
CONTROLS: dict[str, tuple[str, Sequence[tuple[str, str]]]] = {
    "labels": ("labels", tuple(LABELS.items())),
    "rate": ("step size", [(stop, stop) for stop in ("0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "10")]),
    "width": ("hidden units", [(stop, stop) for stop in ("4", "16", "64", "256", "512")]),
    "seed": ("seed", [(stop, stop) for stop in "0123456789"]),
}
RECORDED = ("0", "0.5", "1")  # label corruptions of the recorded runs, which are shown if JavaScript is off
HEADS = ("labels", "hidden units", "epochs to fit", "training accuracy", "accuracy on unseen")
TOY = "A toy, with little data and one seed: the recorded charts are the evidence."


def config(corruption: float, *, dataset: str = "digits", width: str = "") -> RunConfig:
    """Return the settings of the page as a run configuration.

    Args:
        corruption: Fraction of the labels that are drawn at random.
        dataset: ``"digits"`` or ``"two_moons"``.
        width: Hidden units of each layer, separated by commas; empty for those with which the page opens.

    >>> config(1.0).batch_size, config(1.0, dataset="two_moons").model_options["widths"]
    (25, [12, 12])
    """
    widths = [int(units) for units in (width or WIDTHS[dataset]).split(",")]
    options = {"widths": widths, "init": "he_normal"}
    about = {"experiment": "toy", "dataset": dataset, "label_corruption": corruption}
    return RunConfig(model="mlp", model_options=options, **about, **SETTINGS[dataset], **CONSTANT)


def given(dataset: str = "digits") -> dict[str, Any]:
    """Return what the page's script needs: the data, the labels for each corruption, and the training settings.

    Args:
        dataset: As for `config`.

    Returns:
        Values that can be written as JSON.

    >>> found = given()
    >>> len(found["train"]["pixels"]) // 64, len(found["labels"]["1"]), found["settings"]["width"]
    (500, 500, '256')
    """
    settings = config(0.0, dataset=dataset)
    loaded, _ = data.load_for_run(settings)
    sets = {"train": loaded.train, "test": loaded.test}
    labels = {text: data.load_for_run(config(float(text), dataset=dataset))[0].train.y.tolist() for text in LABELS}
    return {
        **{name: {**_inputs(part.x.numpy()), "classes": part.y.tolist()} for name, part in sets.items()},
        "labels": labels,
        "settings": {
            "labels": "1" if dataset == "digits" else "0",
            "rate": str(settings.learning_rate),
            "width": WIDTHS[dataset],
            "seed": str(SEED),
        },
        "batch": settings.batch_size,
        "momentum": settings.momentum,
        "epochs": settings.epochs,
        "mean": loaded.mean[0],
        "std": loaded.std[0],
        "classes": CLASSES[dataset],
        "things": THINGS[dataset],
        "plane": PLANES[dataset],
    }


def _inputs(x: np.ndarray) -> dict[str, Any]:
    """Encode images as letters, and points as their coordinates."""
    return {"pixels": toy.letters(x)} if x.ndim == 4 else {"points": x.astype(float).round(3).ravel().tolist()}


@cache
def recorded(corruption: float, dataset: str = "digits", width: str = "") -> tuple[str, str, str]:
    """Train with the library and the page's settings.

    Args:
        corruption: As for `config`.
        dataset: As for `config`.
        width: As for `config`.

    Returns:
        As text: epochs to fit, training accuracy, accuracy on unseen data.
    """
    settings = config(corruption, dataset=dataset, width=width)
    loaded, _ = data.load_for_run(settings)
    model = models.build(
        "mlp", num_classes=loaded.num_classes, in_shape=loaded.in_shape, seed=SEED, **settings.model_options
    )
    last = train.fit(model, loaded, settings, device="cpu").rows[-1]
    epochs = str(last["epoch"]) if last["train_accuracy"] == 1 else f"not in {last['epoch']}"
    return epochs, f"{last['train_accuracy']:.0%}", f"{last['test_accuracy']:.0%}"


def show(
    title: str,
    caption: str,
    *,
    dataset: str = "digits",
    controls: Sequence[str] = ("labels", "rate", "seed"),
    ask: Sequence[str] = ("interval", "stiffness"),
) -> None:
    """Display a network that the reader trains in the page.

    Args:
        title: Title of the figure.
        caption: A sentence on what to do with it.
        dataset: ``"digits"`` or ``"two_moons"``.
        controls: The settings that the reader can change, keys of `CONTROLS`.
        ask: The measures that can be asked of the trained network, as for `gendyn_lite.charts.toy.show`.
    """
    widths = ("16", "256") if "width" in controls else (WIDTHS[dataset],)
    rows = [(LABELS[text], width, *recorded(float(text), dataset, width)) for width in widths for text in RECORDED]
    page = given(dataset)
    learnt, unseen = (len(page[part]["classes"]) for part in ("train", "test"))
    about = f"{learnt} {page['things']} to learn, {unseen} unseen; the settings with which the page opens; one seed."
    toy.show(
        page,
        title=title,
        caption=f"{caption} {TOY}",
        controls={key: CONTROLS[key] for key in controls},
        recorded=(HEADS, rows, about),
        ask=ask,
    )
