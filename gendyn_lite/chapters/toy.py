"""The toy of the pages: embedded digits for a network that the reader trains, and what the library makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from gendyn_lite import data, models, train
from gendyn_lite.charts import toy
from gendyn_lite.config import RunConfig

WIDTH, SEED = 256, 0
SETTINGS: dict[str, Any] = {"train_size": 500, "batch_size": 50, "learning_rate": 0.1, "momentum": 0.9, "epochs": 150}
CONSTANT = {"schedule": "constant", "standardize": "per_channel", "stop_when_fitted": True}
OPENS = {"labels": "1", "rate": str(SETTINGS["learning_rate"]), "width": str(WIDTH), "seed": str(SEED)}
LABELS = {
    "0": "true",
    "0.25": "a quarter random",
    "0.5": "half random",
    "0.75": "three quarters random",
    "1": "all random",
}
CONTROLS: dict[str, tuple[str, Sequence[tuple[str, str]]]] = {
    "labels": ("labels", tuple(LABELS.items())),
    "rate": ("step size", [(stop, stop) for stop in ("0.01", "0.03", "0.1", "0.3", "1", "3", "10")]),
    "width": ("hidden units", [(stop, stop) for stop in ("4", "16", "64", "256", "512")]),
    "seed": ("seed", [(stop, stop) for stop in "0123456789"]),
}
RECORDED = ("0", "0.5", "1")  # labels of the runs that stand there without JavaScript
HEADS = ("labels", "hidden units", "epochs to fit", "training accuracy", "accuracy on unseen digits")
TOY = "This is a toy with few digits and one seed; the recorded charts are the evidence."


def config(corruption: float, width: int = WIDTH) -> RunConfig:
    """The settings of the page as those of a run.

    Args:
        corruption: Fraction of the labels that is drawn at random.
        width: Hidden units.

    >>> config(1.0).batch_size, config(1.0).model_options["widths"]
    (50, [256])
    """
    options = {"widths": [width], "init": "he_normal"}
    return RunConfig(
        experiment="toy", model="mlp", model_options=options, label_corruption=corruption, **SETTINGS, **CONSTANT
    )


def given() -> dict[str, Any]:
    """What a page gets: digits, labels for each fraction that is drawn at random, and the settings of training.

    Returns:
        Plain values, fit for JSON.

    >>> found = given()
    >>> len(found["train"]["pixels"]) // 64, len(found["labels"]["1"]), found["settings"]["width"]
    (500, 500, '256')
    """
    loaded = data.load("digits", train_size=SETTINGS["train_size"], seed=SEED)
    sets = {
        name: {"pixels": toy.letters(part.x.numpy()), "classes": part.y.tolist()}
        for name, part in (("train", loaded.train), ("test", loaded.test))
    }
    labels = {text: data.load_for_run(config(float(text)))[0].train.y.tolist() for text in LABELS}
    how = {"batch": SETTINGS["batch_size"], "momentum": SETTINGS["momentum"], "settings": dict(OPENS)}
    return {
        **sets,
        "labels": labels,
        **how,
        "classes": loaded.num_classes,
        "mean": loaded.mean[0],
        "std": loaded.std[0],
    }


@cache
def recorded(corruption: float, width: int = WIDTH) -> tuple[str, str, str]:
    """Epochs to fit, training accuracy and accuracy on unseen digits of a run of the library with the page's settings.

    Args:
        corruption: As for `config`.
        width: Likewise.
    """
    settings = config(corruption, width)
    loaded, _ = data.load_for_run(settings)
    model = models.build("mlp", num_classes=10, in_shape=loaded.in_shape, seed=SEED, **settings.model_options)
    last = train.fit(model, loaded, settings, device="cpu").rows[-1]
    epochs = str(last["epoch"]) if last["train_accuracy"] == 1 else f"not in {last['epoch']}"
    return epochs, f"{last['train_accuracy']:.0%}", f"{last['test_accuracy']:.0%}"


def show(
    title: str, caption: str, *, controls: Sequence[str] = ("labels", "rate", "seed"), ask: Sequence[str] = toy.ASKS
) -> None:
    """Display a network that the reader trains in the page.

    Args:
        title: Title of the figure.
        caption: What to do with it, in a sentence.
        controls: What can be set, of `CONTROLS`.
        ask: What the trained network is asked: as for `gendyn_lite.charts.toy.show`.
    """
    widths = (16, WIDTH) if "width" in controls else (WIDTH,)
    rows = [(LABELS[text], width, *recorded(float(text), width)) for width in widths for text in RECORDED]
    toy.show(
        given(),
        title=title,
        caption=f"{caption} {TOY}",
        controls={key: CONTROLS[key] for key in controls},
        recorded=(HEADS, rows, "500 digits to learn, 355 unseen; the settings with which the page opens; one seed."),
        ask=ask,
    )
