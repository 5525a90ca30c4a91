"""Claims of Jiang, 'Gradient mask and neural network generalization', and the controls that the paper lacks.

They are on record in `claims.toml`; here is the statistic of each, by its id.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.fisher_mask.tables import NONE, best, influences, log_ratio
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import PUBLISHED, Section

FORM = "influence/quadratic_true"


def _by_seed(rows: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> pd.Series:
    """One number for each run, by seed; epochs in order."""
    found = {seed: measure(run.sort_values("epoch")) for seed, run in rows.groupby("seed")}
    return pd.Series(found, dtype=float)


def _mean_log(rows: pd.DataFrame, above: str, below: str) -> pd.Series:
    """Mean over epochs of the decimal logarithm of one column over another, by seed."""
    return _by_seed(rows, lambda run: float(pd.Series(list(map(log_ratio, run[above], run[below]))).mean()))


def _fall(rows: pd.DataFrame, keep: float) -> pd.Series:
    """Decimal logarithm of the last influence over the largest, with a share of the weights kept, by seed."""
    return _by_seed(rows[rows["kept"] == keep], lambda run: log_ratio(run.iloc[-1][FORM], run[FORM].max()))


def _slower(rows: pd.DataFrame, keep: float) -> pd.Series | None:
    """How much less far influence falls with a mask than without."""
    falls = _fall(rows, keep)
    return falls - _fall(rows, 1.0) if len(falls) else None


def _values(runs: pd.DataFrame, way: str, keep: float, column: str) -> pd.Series:
    return runs[(runs["way"] == way) & (runs["kept"] == keep)].set_index("seed")[column]


def _gain(runs: pd.DataFrame, keep: float, over: str = NONE, column: str = "best") -> pd.Series | None:
    """What a mask by Fisher information adds to a column, over no mask or over another one of the same size."""
    masked = _values(runs, "Fisher", keep, column)
    return None if masked.empty else masked - _values(runs, over, 1.0 if over == NONE else keep, column)


OF_COURSE = {
    "influence_falls": lambda runs: _by_seed(runs, lambda run: stats.spearmanr(run["epoch"], run[FORM]).statistic),
}
# Eq. 8 in two readings: epoch by epoch, and where influence is largest.
OF_LABELS = {
    "random_less_by_epoch": lambda pairs: _mean_log(pairs[pairs["epoch"] > 0], f"{FORM}_random", FORM),
    "random_smaller_peak": lambda pairs: _by_seed(
        pairs, lambda run: log_ratio(run[f"{FORM}_random"].max(), run[FORM].max())
    ),
}
OF_FORMS = {
    "diagonal_alone": lambda runs: _mean_log(runs, "influence/quadratic_diagonal", "influence/quadratic_empirical"),
    "step_as_form": lambda runs: _mean_log(runs, "influence/kl", FORM),
}
OF_INFLUENCE = {"slower_influence_70": partial(_slower, keep=0.7), "slower_influence_80": partial(_slower, keep=0.8)}
OF_RUNS = {
    "slower_loss_70": partial(_gain, keep=0.7, column="test_loss"),
    "slower_loss_80": partial(_gain, keep=0.8, column="test_loss"),
    "better_than_none_75": partial(_gain, keep=0.75),
    "better_than_random_75": partial(_gain, keep=0.75, over="random"),
    "better_than_magnitude_75": partial(_gain, keep=0.75, over="magnitude"),
    "better_than_none_25": partial(_gain, keep=0.25),
    "better_than_random_25": partial(_gain, keep=0.25, over="random"),
    "better_than_magnitude_25": partial(_gain, keep=0.25, over="magnitude"),
}
RECORD = on_record(__file__, OF_COURSE, OF_LABELS, OF_FORMS, OF_INFLUENCE, OF_RUNS)


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
        subject = f"{place}, true labels"
        true, random = (rows[rows["labels"] == labels] for labels in ("true labels", "random labels"))
        bare, of_noise = (part[part["way"] == NONE] for part in (true, random))
        if len(bare):
            found += RECORD.judge(subject, OF_COURSE, bare)
            if len(of_noise):
                pairs = bare.merge(of_noise, on=["seed", "epoch"], suffixes=("", "_random"))
                found += RECORD.judge(subject, OF_LABELS, pairs)
            found += RECORD.judge(subject, OF_FORMS, bare)
        found += RECORD.judge(subject, OF_INFLUENCE, true)
    for subject, rows in best(runs).groupby("subject", sort=False):
        if (rows["label_corruption"] < 1).all() and (rows["way"] != NONE).any():
            found += RECORD.judge(str(subject), OF_RUNS, rows)
    return table(sorted(found, key=lambda claim: claim.subject))


SECTIONS = (Section(RECORD, PUBLISHED, ("fisher_mask",), claims),)
