"""The table of 'Which lens?': a row for each network, with all its measures. No torch."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

LENS, RIVAL, CHEAT, NOTHING = "lens", "rival", "sees test labels", "no look at the network"
AXES = ("width", "depth", "batch_size", "learning_rate", "weight_decay", "augmented", "train_size", "label_corruption")
SETTINGS, CHANCE, WIDE = "settings", "chance", "wide"  # stand-ins for measures, which look at no network
TARGETS = {"error": "test error", "gap": "generalization gap"}


class Measure(NamedTuple):
    """A measure of a network.

    Attributes:
        label: Its name in charts.
        column: Its column in the table of runs.
        better: 1 if larger values are said to go with better generalization, −1 if smaller ones are.
        kind: `LENS`, `RIVAL`, `CHEAT` or `NOTHING`.
        seconds: The lens (group of measures) whose processor time it has; empty if none.
    """

    label: str
    column: str
    better: int
    kind: str
    seconds: str = ""


def _of(lens: str, kind: str, **rows: tuple[str, int]) -> dict[str, Measure]:
    return {name: Measure(label, f"lens/{lens}:{name}", better, kind, lens) for name, (label, better) in rows.items()}


# The direction is that of the source, or else of the usual argument. Only that of `WIDE` was chosen by our runs: it is
# a rule made up after seeing them, to show what can be predicted without looking at a network.
MEASURES: dict[str, Measure] = {
    "epoch": Measure("epochs to fit", "epoch", -1, LENS),
    **_of(
        "paths",
        LENS,
        early_to_mid=("paths: early over mid", -1),
        mean=("paths: epoch to epoch", -1),
        last=("paths: the last epoch", -1),
        kept=("paths: kept from the start", 1),
    ),
    **_of(
        "fisher",
        LENS,
        influence=("Fisher: influence", 1),
        trace=("Fisher: trace", -1),
        share=("Fisher: share of weights", -1),
    ),
    **_of(
        "stiffness",
        LENS,
        within=("stiffness within classes", 1),
        between=("stiffness between classes", 1),
        critical_length=("critical length", 1),
    ),
    **_of(
        "intervals",
        LENS,
        pair=("intervals to its class", 1),
        random=("intervals at random", 1),
        adversarial=("intervals along gradient", 1),
    ),
    **_of(
        "norms",
        RIVAL,
        parameters=("number of weights", -1),
        frobenius=("Frobenius norm", -1),
        distance=("distance from the start", -1),
        path_norm=("path norm", -1),
        spectral=("spectral norms", -1),
    ),
    **_of(
        "margins",
        RIVAL,
        margin=("margin", 1),
        spectral_over_margin=("spectral over margin", -1),
        path_over_margin=("path norm over margin", -1),
    ),
    **_of("flatness", RIVAL, sharpness=("sharpness", -1), gradient_noise=("gradient noise", -1)),
    CHANCE: Measure("a random number", CHANCE, 1, NOTHING),
    WIDE: Measure("wider and shallower", WIDE, 1, NOTHING),
    "rate": Measure("rate over batch size", "rate", 1, NOTHING),
    "train_loss": Measure("training loss", "train_loss", -1, NOTHING),
    "test_within": Measure("stiffness with test images", "lens/stiffness:test_within", 1, CHEAT),
    "validation_accuracy": Measure("validation accuracy", "lens/test:validation_accuracy", 1, CHEAT),
}


def networks(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each network: its settings, whether it reached the training loss, targets and measures.

    Args:
        runs: Runs of experiment ``"which_lens"``.

    Returns:
        The columns data, family, those of `AXES`, seed, setting (text that identifies the setting), reached, epoch,
        train_accuracy, held_accuracy, error, gap, n_held and those of `MEASURES`; NaN for refused measures.
    """
    last = runs.sort_values("epoch", kind="stable").groupby("run_id", sort=False).tail(1).reset_index(drop=True)
    widths = [_widths(options) for options in last["model_options"]]
    found = last[["run_id", "data", "seed", "epoch", "train_loss", "train_accuracy"]].copy()
    found["family"] = np.where(last["model"] == "mlp", "fully connected", "convolutional")
    found["width"] = [max(each, default=0) for each in widths]
    found["depth"] = [len(each) for each in widths]
    found["augmented"] = (last["random_crop"] > 0) | last["flip"].astype(bool)
    for name in ("batch_size", "learning_rate", "weight_decay", "train_size", "label_corruption"):
        found[name] = last[name]
    found["rate"] = found["learning_rate"] / found["batch_size"]
    found["setting"] = found[["data", "family", *AXES]].astype(str).agg(" ".join, axis=1)
    found["reached"] = last["train_loss"] <= last["stop_at_loss"]
    found["held_accuracy"] = last["lens/test:held_accuracy"]
    found["n_held"] = last["lens/test:n_held"]
    found["error"] = 1 - found["held_accuracy"]
    found["gap"] = found["train_accuracy"] - found["held_accuracy"]
    for name, measure in MEASURES.items():
        if name not in {CHANCE, WIDE} and name not in found:
            found[name] = last.get(measure.column, np.nan)
    found[CHANCE] = [np.random.default_rng(int(run_id, 16)).random() for run_id in found["run_id"]]
    found[WIDE] = np.log2(found["width"].where(found["width"] > 0)) - found["depth"]
    seconds = {measure.seconds for measure in MEASURES.values()} - {""}
    return found.assign(**{f"{lens}_seconds": last[f"lens/{lens}:seconds"] for lens in sorted(seconds)})


def _widths(options: Any) -> list[int]:
    """Return the widths of a network's layers from its options (or their JSON text); empty if convolutional."""
    return (json.loads(options) if isinstance(options, str) else options).get("widths", [])


def completion(table: pd.DataFrame) -> pd.DataFrame:
    """Count the networks, and the share that reached the loss, for each data set, family and value of an axis.

    Args:
        table: A table of `networks`.
    """
    rows = [
        {"data": data, "family": family, "axis": axis, "value": value, "networks": len(some), "reached": reached}
        for axis in AXES
        for (data, family, value), some in table.groupby(["data", "family", axis], sort=True)
        for reached in (float(some["reached"].mean()),)
    ]
    return pd.DataFrame(rows)
