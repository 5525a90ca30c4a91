"""Claims of Jiang, 'Gradient mask and neural network generalization', and the controls that the paper lacks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.fisher_mask.tables import NONE, best, influences, log_ratio
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Near, judge, table

FORM = "influence/quadratic_true"
FIG_2 = (0.7, 0.8)
READINGS = {0.75: "the coefficient 0.75 read as the share kept", 0.25: "read as the share masked"}
CONTROLS = ("random", "magnitude")
POSITIVE = AtLeast(0.0, weak=0.0)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims of the paper on each network and data set of a tidy table.

    Args:
        runs: A tidy table of experiment ``"fisher_mask"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. Influence is ½gᵀFg with the true
        Fisher information, in nats per squared step; accuracies in points. A claim whose runs are missing is left out.
    """
    ends, watched = best(runs), influences(runs)
    found: list[Claim] = []
    for place, rows in watched.groupby("place", sort=False):
        found += _of_training(rows[rows["way"] == NONE], str(place))
        found += _of_slower_influence(rows[rows["labels"] == "true labels"], str(place))
    for subject, rows in ends.groupby("subject", sort=False):
        if (rows["label_corruption"] < 1).all() and (rows["way"] != NONE).any():
            found += _of_accuracy(rows, str(subject))
    return table(sorted(found, key=lambda claim: claim.subject))


def _of_training(rows: pd.DataFrame, place: str) -> list[Claim]:
    """Influence over epochs without a mask: its course, true against random labels, and its approximations."""
    true, random = (rows[rows["labels"] == labels] for labels in ("true labels", "random labels"))
    if true.empty:
        return []
    about = partial(judge, subject=f"{place}, true labels")
    found = [
        about(
            _by_seed(true, lambda run: float(stats.spearmanr(run["epoch"], run[FORM]).statistic)),
            Below(0.0),
            statement="Influence falls as training goes on",
            source="Fig. 1",
            paper_value="gradually decreases",
            quantity="rank correlation of influence with the epoch",
            opposite=0.0,
        )
    ]
    if len(random):
        found += _of_labels(true, random, about)
    found.append(
        about(
            _by_seed(true, lambda run: _mean_log(run, "influence/quadratic_diagonal", "influence/quadratic_empirical")),
            Near(0.0, margin=0.3),
            statement="The diagonal alone gives gᵀFg (to a factor of two)",
            source="Eq. 9",
            paper_value="written as equal",
            quantity="log₁₀ of diagonal over whole empirical form, mean over epochs,",
            opposite=0.0,
        )
    )
    found.append(
        about(
            _by_seed(true, lambda run: _mean_log(run, "influence/kl", FORM)),
            Near(0.0, margin=0.1),
            statement="A real step at the learning rate moves predictions as the quadratic form says (to a quarter)",
            source="Theorem 1",
            paper_value="equal for ε → 0",
            quantity="log₁₀ of KL over quadratic form, mean over epochs,",
            opposite=0.0,
        )
    )
    return found


def _of_labels(true: pd.DataFrame, random: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Eq. 8 in two readings: epoch by epoch, and where influence is largest."""
    pairs = true.merge(random, on=["seed", "epoch"], suffixes=("", "_random"))
    largest = {seed: (run[FORM].max(), run[f"{FORM}_random"].max()) for seed, run in pairs.groupby("seed")}
    peaks = pd.Series({seed: log_ratio(high, low) for seed, (low, high) in largest.items()}, dtype=float)
    return [
        about(
            _by_seed(pairs[pairs["epoch"] > 0], lambda run: _mean_log(run, f"{FORM}_random", FORM)),
            Below(0.0),
            statement="While memorizing random labels, steps have less influence, epoch by epoch",
            source="Eq. 8, Fig. 1",
            paper_value="less",
            quantity="log₁₀ of influence on random over that on true labels, mean over epochs,",
            opposite=0.0,
        ),
        about(
            peaks,
            Below(0.0),
            statement="While memorizing random labels, the largest influence during training is smaller",
            source="Eq. 8, Fig. 1",
            paper_value="less",
            quantity="log₁₀ of the largest influence on random over that on true labels",
            opposite=0.0,
        ),
    ]


def _of_slower_influence(rows: pd.DataFrame, place: str) -> list[Claim]:
    """Fig. 2 (a): from its largest value, influence falls less far with a mask."""
    falls = {
        keep: _by_seed(rows[rows["kept"] == keep], lambda run: log_ratio(run.iloc[-1][FORM], run[FORM].max()))
        for keep in (*FIG_2, 1.0)
    }
    return [
        judge(
            falls[keep] - falls[1.0],
            POSITIVE,
            statement=f"With {keep:.0%} of the weights kept, influence falls more slowly".replace("%", " %"),
            source="Fig. 2 (a)",
            paper_value="more slowly",
            quantity="log₁₀ of last over largest influence, with the mask minus without,",
            subject=f"{place}, true labels",
            opposite=0.0,
        )
        for keep in FIG_2
        if len(falls[keep])
    ]


def _of_accuracy(runs: pd.DataFrame, subject: str) -> list[Claim]:
    """Fig. 2 (b) and Table 1, with the controls."""
    about, found = partial(judge, subject=subject), list[Claim]()
    base = _values(runs, NONE, 1.0)
    for keep in FIG_2:
        loss = _values(runs, "Fisher", keep, "test_loss")
        if len(loss):
            found.append(
                about(
                    loss - _values(runs, NONE, 1.0, "test_loss"),
                    Below(0.0),
                    statement=f"With {keep:.0%} of the weights kept, the test loss rises less".replace("%", " %"),
                    source="Fig. 2 (b)",
                    paper_value="considerably slower",
                    quantity="test loss at the end, with the mask minus without,",
                    opposite=0.0,
                )
            )
    for keep, reading in READINGS.items():
        masked = _values(runs, "Fisher", keep)
        if masked.empty:
            continue
        differences = {"no mask": base, **{name: _values(runs, name, keep) for name in CONTROLS}}
        for name, other in differences.items():
            against = "training without a mask" if name == "no mask" else f"a {name} mask of the same size"
            found.append(
                about(
                    masked - other,
                    POSITIVE,
                    statement=f"The mask ({reading}) gives a better best accuracy than {against}",
                    source="Table 1" if name == "no mask" else "our control",
                    paper_value="+2.06 points (ResNet-18, CIFAR-100)" if name == "no mask" else "not compared",
                    quantity=f"best test accuracy, in points, minus that with {name.removesuffix(' mask')} mask",
                    opposite=0.0,
                )
            )
    return found


def _by_seed(rows: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> pd.Series:
    """One number for each run, by seed; epochs in order."""
    return pd.Series(
        {seed: measure(run.sort_values("epoch")) for seed, run in rows.groupby("seed")}, dtype=float
    )  # fmt: skip


def _mean_log(run: pd.DataFrame, above: str, below: str) -> float:
    return float(pd.Series([log_ratio(a, b) for a, b in zip(run[above], run[below], strict=True)]).mean())


def _values(runs: pd.DataFrame, way: str, keep: float, column: str = "best") -> pd.Series:
    chosen = runs[(runs["way"] == way) & (runs["kept"] == keep)]
    return chosen.set_index("seed")[column]


SECTIONS = (Section("Jiang", PUBLISHED, ("fisher_mask",), claims),)
