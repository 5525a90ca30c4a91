"""Claims of Jiang, 'Gradient mask and neural network generalization', and the controls that the paper lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.fisher_mask.tables import NONE, best, influences, log_ratio
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Evidence, Near, judge_all, table

FORM = "influence/quadratic_true"
FIG_2 = (0.7, 0.8)
READINGS = {0.75: "the coefficient 0.75 read as the share kept", 0.25: "read as the share masked"}
POSITIVE = AtLeast(0.0, weak=0.0)
Rows = Iterator[tuple[str, Evidence]]  # a claim in our words, and what decides it


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims of the paper on each network and data set of a tidy table.

    Args:
        runs: A tidy table of experiment ``"fisher_mask"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. Influence is ½gᵀFg with the true
        Fisher information, in nats per squared step; accuracies in points. A claim whose runs are missing is left out.
    """
    found: list[Claim] = []
    for place, rows in influences(runs).groupby("place", sort=False):
        true, random = (rows[rows["labels"] == labels] for labels in ("true labels", "random labels"))
        bare, of_noise = (part[part["way"] == NONE] for part in (true, random))
        found += judge_all(f"{place}, true labels", [*_of_training(bare, of_noise), *_of_slower_influence(true)])
    for subject, rows in best(runs).groupby("subject", sort=False):
        if (rows["label_corruption"] < 1).all() and (rows["way"] != NONE).any():
            found += judge_all(str(subject), [*_of_loss(rows), *_of_accuracy(rows)])
    return table(sorted(found, key=lambda claim: claim.subject))


def _of_training(true: pd.DataFrame, random: pd.DataFrame) -> Rows:
    """Influence over epochs without a mask: its course, true against random labels, and its approximations."""
    if true.empty:
        return
    course = _by_seed(true, lambda run: float(stats.spearmanr(run["epoch"], run[FORM]).statistic))
    yield (
        "Influence falls as training goes on",
        Evidence(course, Below(0.0), "Fig. 1", "gradually decreases", "rank correlation of influence with the epoch"),
    )
    if len(random):
        yield from _of_labels(true.merge(random, on=["seed", "epoch"], suffixes=("", "_random")))
    yield (
        "The diagonal alone gives gᵀFg (to a factor of two)",
        Evidence(
            _mean_log(true, "influence/quadratic_diagonal", "influence/quadratic_empirical"),
            Near(0.0, margin=0.3),
            "Eq. 9",
            "written as equal",
            "log₁₀ of diagonal over whole empirical form, mean over epochs,",
        ),
    )
    real = "A real step at the learning rate moves predictions as the quadratic form says (to a quarter)"
    ratio = _mean_log(true, "influence/kl", FORM)
    yield (
        real,
        Evidence(
            ratio,
            Near(0.0, margin=0.1),
            "Theorem 1",
            "equal for ε → 0",
            "log₁₀ of KL over quadratic form, mean over epochs,",
        ),
    )


def _of_labels(pairs: pd.DataFrame) -> Rows:
    """Eq. 8 in two readings: epoch by epoch, and where influence is largest."""
    lower = _mean_log(pairs[pairs["epoch"] > 0], f"{FORM}_random", FORM)
    peaks = _by_seed(pairs, lambda run: log_ratio(run[f"{FORM}_random"].max(), run[FORM].max()))
    yield (
        "While memorizing random labels, steps have less influence, epoch by epoch",
        Evidence(
            lower,
            Below(0.0),
            "Eq. 8, Fig. 1",
            "less",
            "log₁₀ of influence on random over that on true labels, mean over epochs,",
        ),
    )
    yield (
        "While memorizing random labels, the largest influence during training is smaller",
        Evidence(
            peaks,
            Below(0.0),
            "Eq. 8, Fig. 1",
            "less",
            "log₁₀ of the largest influence on random over that on true labels",
        ),
    )


def _of_slower_influence(rows: pd.DataFrame) -> Rows:
    """Fig. 2 (a): from its largest value, influence falls less far with a mask."""
    bare, *masked = (
        _by_seed(rows[rows["kept"] == keep], lambda run: log_ratio(run.iloc[-1][FORM], run[FORM].max()))
        for keep in (1.0, *FIG_2)
    )
    quantity = "log₁₀ of last over largest influence, with the mask minus without,"
    for keep, falls in zip(FIG_2, masked, strict=True):
        if len(falls):
            said = f"With {100 * keep:.0f} % of the weights kept, influence falls more slowly"
            yield (said, Evidence(falls - bare, POSITIVE, "Fig. 2 (a)", "more slowly", quantity))


def _of_loss(runs: pd.DataFrame) -> Rows:
    """Fig. 2 (b): the test loss at the end."""
    bare, *masked = (
        _values(runs, way, keep, "test_loss") for way, keep in ((NONE, 1.0), *(("Fisher", k) for k in FIG_2))
    )
    quantity = "test loss at the end, with the mask minus without,"
    for keep, loss in zip(FIG_2, masked, strict=True):
        if len(loss):
            said = f"With {100 * keep:.0f} % of the weights kept, the test loss rises less"
            yield (said, Evidence(loss - bare, Below(0.0), "Fig. 2 (b)", "considerably slower", quantity))


def _of_accuracy(runs: pd.DataFrame) -> Rows:
    """Table 1 in both readings of its coefficient, and against controls of the same size."""
    for keep, reading in READINGS.items():
        masked = _values(runs, "Fisher", keep)
        if masked.empty:
            continue
        better = f"The mask ({reading}) gives a better best accuracy than"
        quantity = "best test accuracy, in points, minus that with {} mask"
        yield (
            f"{better} training without a mask",
            Evidence(
                masked - _values(runs, NONE, 1.0),
                POSITIVE,
                "Table 1",
                "+2.06 points (ResNet-18, CIFAR-100)",
                quantity.format("no"),
            ),
        )
        for way in ("random", "magnitude"):
            yield (
                f"{better} a {way} mask of the same size",
                Evidence(
                    masked - _values(runs, way, keep), POSITIVE, "our control", "not compared", quantity.format(way)
                ),
            )


def _by_seed(rows: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> pd.Series:
    """One number for each run, by seed; epochs in order."""
    found = {seed: measure(run.sort_values("epoch")) for seed, run in rows.groupby("seed")}
    return pd.Series(found, dtype=float)


def _mean_log(rows: pd.DataFrame, above: str, below: str) -> pd.Series:
    """Mean over epochs of the decimal logarithm of one column over another, by seed."""
    return _by_seed(rows, lambda run: float(pd.Series(list(map(log_ratio, run[above], run[below]))).mean()))


def _values(runs: pd.DataFrame, way: str, keep: float, column: str = "best") -> pd.Series:
    return runs[(runs["way"] == way) & (runs["kept"] == keep)].set_index("seed")[column]


SECTIONS = (Section("Jiang", PUBLISHED, ("fisher_mask",), claims),)
