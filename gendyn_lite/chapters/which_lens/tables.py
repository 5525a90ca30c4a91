"""Tables of 'Which lens?': a row a network, and how every measure ranks them. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn_lite.chapters.which_lens import ranking, ranking_choice

LENS, RIVAL, CHEAT, NOTHING = "lens", "rival", "sees test labels", "no look at the network"
AXES = ("width", "depth", "batch_size", "learning_rate", "weight_decay", "augmented", "train_size", "label_corruption")
GIVEN = ("label_corruption", "epoch")  # held fixed by the partial correlation: what is learned, and for how long
SETTINGS, CHANCE = "settings", "random"  # rivals that are no measurement
# Pairs of unseen settings that are chosen from, and what the two share: the seed draws the training images.
CHOICES: dict[str, tuple[str, ...]] = {"better of two": (), "better of two alike": ("train_size", "augmented", "seed")}
MOST_MISSING = 0.1  # share of the networks that lack a measure which is judged all the same
FEWEST = 20  # settings from which anything is ranked
TARGETS = {"error": "test error", "gap": "generalization gap"}


class Measure(NamedTuple):
    """A measure of a network.

    Attributes:
        label: What it is called.
        column: Of the run's table.
        better: 1 where more of it is said to go with better generalization, −1 where less is.
        kind: `LENS`, `RIVAL`, `CHEAT` or `NOTHING`.
        seconds: The lens whose time it takes.
    """

    label: str
    column: str
    better: int
    kind: str
    seconds: str = ""


def _of(lens: str, kind: str, **rows: tuple[str, int]) -> dict[str, Measure]:
    return {name: Measure(label, f"lens/{lens}:{name}", better, kind, lens) for name, (label, better) in rows.items()}


# The direction is the source's; where the source gives none, that of the usual argument. None was chosen by our runs.
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
    "train_loss": Measure("training loss", "train_loss", -1, NOTHING),
    "test_within": Measure("stiffness with test images", "lens/stiffness:test_within", 1, CHEAT),
    "validation_accuracy": Measure("validation accuracy", "lens/test:validation_accuracy", 1, CHEAT),
}


def networks(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a network: its settings, whether it reached the loss, what is to be predicted, and every measure.

    Args:
        runs: Runs of experiment ``"which_lens"``.

    Returns:
        The columns data, family, `AXES`, seed, setting (a text that the seeds of one setting share), reached, epoch,
        train_accuracy, held_accuracy, error, gap, n_held and those of `MEASURES`; what was refused is missing.
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
    found["setting"] = found[["data", "family", *AXES]].astype(str).agg(" ".join, axis=1)
    found["reached"] = last["train_loss"] <= last["stop_at_loss"]
    found["held_accuracy"] = last["lens/test:held_accuracy"]
    found["n_held"] = last["lens/test:n_held"]
    found["error"] = 1 - found["held_accuracy"]
    found["gap"] = found["train_accuracy"] - found["held_accuracy"]
    for name, measure in MEASURES.items():
        if name != CHANCE and name not in found:
            found[name] = last.get(measure.column, np.nan)
    found[CHANCE] = [np.random.default_rng(int(run_id, 16)).random() for run_id in found["run_id"]]
    seconds = {measure.seconds for measure in MEASURES.values()} - {""}
    return found.assign(**{f"{lens}_seconds": last[f"lens/{lens}:seconds"] for lens in sorted(seconds)})


def _widths(options: Any) -> list[int]:
    """The widths of a network's layers, from its options or their text; none of a convolutional one."""
    return (json.loads(options) if isinstance(options, str) else options).get("widths", [])


def completion(table: pd.DataFrame) -> pd.DataFrame:
    """Of every data set, family and value of an axis: how many networks there are, and the share that reached the loss.

    Args:
        table: Of `networks`.
    """
    rows = [
        {"data": data, "family": family, "axis": axis, "value": value, "networks": len(some), "reached": reached}
        for axis in AXES
        for (data, family, value), some in table.groupby(["data", "family", axis], sort=True)
        for reached in (float(some["reached"].mean()),)
    ]
    return pd.DataFrame(rows)


def judged(table: pd.DataFrame, *, target: str = "error", resamples: int = ranking.RESAMPLES) -> pd.DataFrame:
    """How every measure ranks the networks of each data set and family, by `ranking`; on all labels and true ones.

    A measure is turned so that a positive number says: better, as its source has it, goes with less of the target. The
    choice of the better of two networks alone learns the direction, from other networks.

    Args:
        table: Of `networks`; networks that did not reach the loss are left out.
        target: ``"error"`` or ``"gap"``.
        resamples: Of the intervals.

    Returns:
        The columns data, family, labels, measure, kind, statistic (overall, partial, an axis, granulated, worst axis,
        those of `CHOICES`), value, low, high, p, n and settings.
    """
    rows: list[dict[str, Any]] = []
    for about, some in analyses(table[table["reached"]]):
        for measure, statistic, found in Judge(some, target=target, resamples=resamples).ranked():
            kind = MEASURES[measure].kind if measure in MEASURES else NOTHING
            rows.append({**about, "measure": measure, "kind": kind, "statistic": statistic, **found._asdict()})
    return pd.DataFrame(rows)


def analyses(table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """What is judged apart: data set, family, and true labels alone (the primary analysis) or all.

    Args:
        table: Of `networks`, those that reached the loss.

    Returns:
        Pairs of data, family, labels and number of settings, and the networks; none with fewer than `FEWEST` settings.
    """
    for (data, family), some in table.groupby(["data", "family"], sort=True):
        for labels, chosen in (("true labels", some[some["label_corruption"] == 0]), ("all", some)):
            settings = chosen["setting"].nunique()
            if settings >= FEWEST:
                yield {"data": data, "family": family, "labels": labels, "settings": settings}, chosen


class Judge:
    """Networks that are judged together, and how measures order them.

    A measure that few of the networks lack (`MOST_MISSING`) is judged on the others; one that more lack is not.

    Args:
        table: Of `networks`, those that reached the loss.
        target: ``"error"`` or ``"gap"``.
        resamples: Of the intervals.
    """

    def __init__(self, table: pd.DataFrame, *, target: str = "error", resamples: int = ranking.RESAMPLES) -> None:
        self.table, self.goal = table, -table[target].to_numpy()
        pairs = ranking.pairs_along(table, AXES)
        self.sure = pairs.only(self._sure(pairs.first, pairs.second))
        self.weights = ranking.draws(table["setting"], count=resamples)
        all_of = {
            name: measure.better * table[name].to_numpy(dtype=float)
            for name, measure in MEASURES.items()
            if table[name].isna().mean() <= MOST_MISSING
        }
        self.values: dict[str, NDArray[np.float64]] = all_of

    def _sure(self, i: NDArray[np.intp], j: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether the test accuracies of each two networks differ beyond noise."""
        accuracy, held = (self.table[name].to_numpy() for name in ("held_accuracy", "n_held"))
        return ranking.beyond_noise(accuracy, held, i, j)

    def along_axes(self, measure: str) -> ranking.Axes:
        """How a measure orders networks that differ in one axis, beyond noise."""
        agreeing = ranking.signs(self.values[measure], self.goal, self.sure)
        known = ~np.isnan(agreeing)
        return ranking.along_axes(agreeing[known], self.sure.only(known), self.weights)

    def overall(self, measure: str, *, given: Sequence[str] = ()) -> ranking.Ranked:
        """τ over all networks, with some columns held fixed."""
        values = self.values[measure]
        known = ~np.isnan(values)
        fixed = [self.table.loc[known, name].to_numpy(dtype=float) for name in given]
        return ranking.overall(values[known], self.goal[known], self.weights[:, known], given=fixed)

    def choice(self, *, alike: Sequence[str] = ()) -> ranking_choice.Choice:
        """The choice of the better of two networks: by each measure, by the best `LENS` and `RIVAL` elsewhere.

        Args:
            alike: What the two must share; from such pairs alone it is learnt which measure is best.
        """
        groups = {kind: [name for name in self.values if MEASURES[name].kind == kind] for kind in (LENS, RIVAL)}
        settings, shared = self.table[list(AXES)], self.table[list(alike)].to_numpy()
        given = (-self.goal, self.table["setting"], settings)

        def usable(i: NDArray[np.intp], j: NDArray[np.intp]) -> NDArray[np.bool_]:
            return self._sure(i, j) & (shared[i] == shared[j]).all(axis=1)

        return ranking_choice.chosen_better(self.values, *given, groups=groups, usable=usable)

    def agreement_alike(self, measure: str, better: int) -> tuple[float, ranking.Array] | None:
        """The order by a measure of networks on the same images, augmented alike: share right less one half, resampled.

        Nothing is learnt: the direction is given.

        Args:
            measure: Its name.
            better: 1 where more of it is said to be better, −1 where less is.
        """
        if measure not in self.values:
            return None
        values = better * self.table[measure].to_numpy(dtype=float)
        shared = self.table[list(CHOICES["better of two alike"])].to_numpy()
        i, j = np.triu_indices(len(values), 1)
        kept = (shared[i] == shared[j]).all(axis=1) & self._sure(i, j) & ~np.isnan(values[i] - values[j])
        i, j = i[kept], j[kept]
        agreeing = np.sign(values[i] - values[j]) * np.sign(self.goal[i] - self.goal[j]) / 2
        counts = (self.weights[:, i] * self.weights[:, j]).astype(np.float32)
        return (float(agreeing.mean()), counts @ agreeing / counts.sum(1)) if len(i) else None

    def ranked(self) -> Iterator[tuple[str, str, ranking.Ranked]]:
        """Every statistic of every measure."""
        for name in self.values:
            yield name, "overall", self.overall(name)
            yield name, "partial", self.overall(name, given=GIVEN)
            for axis, found in self.along_axes(name).ranked().items():
                yield name, axis, found
        for statistic, alike in CHOICES.items():
            choice = self.choice(alike=alike)
            for name, (value, drawn) in choice.shares(self.weights).items() if len(choice.first) else ():
                yield name, statistic, ranking.interval(value, drawn, len(choice.first))
