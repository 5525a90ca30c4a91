"""Claims of Jiang, 'Gradient mask and neural network generalization', and the controls that the paper lacks.

The claims are on record in `claims.toml`; this module computes the statistic of each, by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.fisher_mask import tables
from gendyn_lite.chapters.fisher_mask.tables import NONE, WAYS, levels, log_ratio
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import Section

FORM = "influence/quadratic_true"
LEVELS = (1.0, 0.3, 0.1)  # training losses at which influences are compared
FITTED = 0.99  # smallest training accuracy at which true labels count as fitted
CONTROLS = {"fixed": "random_fixed", "random": "random", "magnitude": "magnitude", "shorter": "shorter_steps"}
OVER = {"none": NONE, **{name: WAYS[way] for name, way in CONTROLS.items()}}  # what a mask is compared with
LOSS = {0.75: 0.2, 0.25: 1.2}  # share of the weights kept → training loss at which accuracies are compared
RIGHT = {0.75: 0.9, 0.25: 0.6}  # share kept → share of the right labels fitted, at which wrong ones are counted


def _by_seed(rows: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> pd.Series:
    """Compute one number for each run, by seed; the function gets the rows of a run in order of epochs."""
    found = {seed: measure(run.sort_values("epoch")) for seed, run in rows.groupby("seed")}
    return pd.Series(found, dtype=float)


def _mean_log(rows: pd.DataFrame, above: str, below: str) -> pd.Series:
    """Average log₁₀ of one column over another, over the epochs of each run, by seed."""
    return _by_seed(rows, lambda run: float(pd.Series(list(map(log_ratio, run[above], run[below]))).mean()))


def _late(pairs: pd.DataFrame) -> pd.Series:
    """Average log₁₀ of influence on random over that on true labels, at the epochs at which true labels are fitted."""
    return _mean_log(pairs[pairs["train_accuracy"] >= FITTED], f"{FORM}_random", FORM)


def _at_losses(rows: pd.DataFrame, other: str) -> pd.Series | None:
    """Average log₁₀ of influence on other labels over that on true ones, over several training losses, by seed."""
    logs = rows.assign(log=[log_ratio(value, 1.0) for value in rows[FORM]])
    true, others = (logs[logs["labels"] == labels] for labels in ("true labels", other))
    if true.empty or others.empty:
        return None
    each = [levels(others, "train_loss", at, "log") - levels(true, "train_loss", at, "log") for at in LEVELS]
    return pd.concat(each, axis=1).mean(axis=1, skipna=False)


def _fall(rows: pd.DataFrame, keep: float) -> pd.Series:
    """Return log₁₀ of the last influence over the largest one, for runs that keep a share of the weights, by seed."""
    return _by_seed(rows[rows["kept"] == keep], lambda run: log_ratio(run.iloc[-1][FORM], run[FORM].max()))


def _slower(rows: pd.DataFrame, keep: float) -> pd.Series | None:
    """Return by how much less influence falls with a mask than without, by seed."""
    falls = _fall(rows, keep)
    return falls - _fall(rows, 1.0) if len(falls) else None


def _less(rows: pd.DataFrame, keep: float, over: str, measure: Callable[[pd.DataFrame], pd.Series]) -> pd.Series | None:
    """Subtract a measure of other runs of the same size from that of runs with a Fisher mask, by seed."""
    masked = rows[(rows["way"] == "Fisher") & (rows["kept"] == keep)]
    others = rows[(rows["way"] == OVER[over]) & (rows["kept"] == (1.0 if over == "none" else keep))]
    return None if masked.empty or others.empty else measure(masked) - measure(others)


def _of_runs(column: str) -> Callable[[pd.DataFrame], pd.Series]:
    """Return the function that reads a column of `best`, by seed."""
    return lambda runs: runs.set_index("seed")[column]


def _test_at(loss: float, column: str, scale: float = 1.0) -> Callable[[pd.DataFrame], pd.Series]:
    """Return the function that reads a column at a training loss, by seed."""
    return lambda rows: scale * levels(rows, "train_loss", loss, column)


def _wrong_at(right: float) -> Callable[[pd.DataFrame], pd.Series]:
    """Return the function that reads the share of wrong labels fitted at a share of right ones, by seed."""
    return lambda rows: levels(rows, "fit/right", right, "fit/wrong")


def _below(runs: pd.DataFrame, keep: int) -> pd.Series:
    """Return how much more of wrong labels' gradients than of right ones' lies in weights that a mask would hold."""
    return _by_seed(runs, lambda run: float((run[f"below/wrong_{keep}"] - run[f"below/right_{keep}"]).mean()))


def _direction(runs: pd.DataFrame) -> pd.Series:
    """Average log₁₀ of influence per squared gradient, of steps on wrong labels over steps on right ones."""
    shares = {part: runs[f"{part}/influence"] / runs[f"{part}/gradient"] for part in ("right", "wrong")}
    return _mean_log(runs.assign(**shares), "wrong", "right")


OF_COURSE = {
    "influence_falls": lambda runs: _by_seed(runs, lambda run: stats.spearmanr(run["epoch"], run[FORM]).statistic),
}
# Eq. 8 in several readings: epoch by epoch, late in training, and where influence is largest.
OF_LABELS = {
    "random_less_by_epoch": lambda pairs: _mean_log(pairs[pairs["epoch"] > 0], f"{FORM}_random", FORM),
    "random_less_late": _late,
    "random_smaller_peak": lambda pairs: _by_seed(
        pairs, lambda run: log_ratio(run[f"{FORM}_random"].max(), run[FORM].max())
    ),
}
OF_LOSSES = {
    "random_less_at_loss": partial(_at_losses, other="random labels"),
    "half_less_at_loss": partial(_at_losses, other="50 % redrawn"),
}
OF_LAG = {"lag_inflates": lambda pairs: _mean_log(pairs[pairs["epoch"] > 0], f"{FORM}_running", FORM)}
OF_PARTS = {
    "wrong_less": lambda runs: _mean_log(runs, "wrong/influence", "right/influence"),
    "wrong_less_direction": _direction,
    "wrong_below_75": partial(_below, keep=75),
    "wrong_below_25": partial(_below, keep=25),
}
OF_FORMS = {
    "diagonal_alone": lambda runs: _mean_log(runs, "influence/quadratic_diagonal", "influence/quadratic_empirical"),
    "step_as_form": lambda runs: _mean_log(runs, "influence/kl", FORM),
}
OF_INFLUENCE = {"slower_influence_70": partial(_slower, keep=0.7), "slower_influence_80": partial(_slower, keep=0.8)}
OF_EPOCHS = {
    f"loss_at_loss_{keep:.0f}": partial(_less, keep=keep / 100, over="none", measure=_test_at(0.1, "test_loss"))
    for keep in (70, 80)
} | {
    f"better_at_loss_{over}_{100 * keep:.0f}": partial(
        _less, keep=keep, over=over, measure=_test_at(loss, "test_accuracy", 100)
    )
    for keep, loss in LOSS.items()
    for over in ("none", "fixed", "shorter")
}
OF_FIT = {
    f"wrong_slower_than_{over}_{100 * keep:.0f}": partial(_less, keep=keep, over=over, measure=_wrong_at(right))
    for keep, right in RIGHT.items()
    for over in OVER
} | {"wrong_slower_early_25": partial(_less, keep=0.25, over="fixed", measure=_wrong_at(0.5))}
OF_RUNS = {
    f"slower_loss_{keep:.0f}": partial(_less, keep=keep / 100, over="none", measure=_of_runs("test_loss"))
    for keep in (70, 80)
} | {
    f"better_than_{over}_{100 * keep:.0f}": partial(_less, keep=keep, over=over, measure=_of_runs("best"))
    for keep in LOSS
    for over in OVER
}
RECORD = on_record(
    __file__, OF_COURSE, OF_LABELS, OF_LOSSES, OF_LAG, OF_PARTS, OF_FORMS, OF_INFLUENCE, OF_EPOCHS, OF_FIT, OF_RUNS
)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of the paper on each network and data set of a tidy table.

    Args:
        runs: A tidy table of experiment ``"fisher_mask"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. Influence is ½gᵀFg with the true
        Fisher information, in nats per squared step; accuracies are in points. Claims without runs are left out.
    """
    found: list[Claim] = []
    for place, rows in tables.influences(runs).groupby("place", sort=False):
        subject = f"{place}, true labels"
        true, random, half = (rows[rows["labels"] == name] for name in ("true labels", "random labels", "50 % redrawn"))
        bare, of_noise, of_half = (part[part["way"] == NONE] for part in (true, random, half))
        if len(bare):
            found += RECORD.judge(subject, OF_COURSE, bare)
            if len(of_noise):
                found += RECORD.judge(subject, OF_LABELS, _paired(bare, of_noise, "_random"))
            found += RECORD.judge(subject, OF_LOSSES, rows[rows["way"] == NONE])
            found += RECORD.judge(subject, OF_FORMS, bare)
        if len(of_half) and "wrong/influence" in of_half:
            found += RECORD.judge(f"{place}, 50 % redrawn", OF_PARTS, of_half[of_half["epoch"] > 0])
        found += RECORD.judge(subject, OF_INFLUENCE, true)
    found += _of_lag(runs)
    whole = tables.described(runs)
    for subject, rows in whole.groupby("subject", sort=False):
        if (rows["label_corruption"] < 1).all() and (rows["way"] != NONE).any():
            found += RECORD.judge(str(subject), OF_RUNS, tables.best(runs[whole["subject"] == subject]))
            found += RECORD.judge(str(subject), OF_EPOCHS, rows)
        if "fit/wrong" in rows and rows["fit/wrong"].notna().any():
            found += RECORD.judge(str(subject), OF_FIT, rows)
    return table(sorted(found, key=lambda claim: claim.subject))


def _of_lag(runs: pd.DataFrame) -> list[Claim]:
    """Judge the effect of running statistics on influence, on each network with batch-norm and true labels."""
    lags, right = (
        rows[(rows["labels"] == "true labels") & (rows["way"] == NONE)]
        for rows in (tables.lagging(runs), tables.influences(runs))
    )
    found: list[Claim] = []
    for name, rows in lags.groupby("model"):
        same = right[(right["model"] == name) & right["data"].isin(rows["data"])]
        if len(same):
            found += RECORD.judge(f"{same['place'].iloc[0]}, true labels", OF_LAG, _paired(same, rows, "_running"))
    return found


def _paired(rows: pd.DataFrame, others: pd.DataFrame, suffix: str) -> pd.DataFrame:
    """Join the rows of two kinds of runs by seed and epoch; columns of the second kind get a suffix."""
    return rows.merge(others, on=["seed", "epoch"], suffixes=("", suffix))


OF_ACCURACY = tuple(name for name in (*OF_RUNS, *OF_EPOCHS) if name.startswith("better"))
OF_FIG_2 = (*OF_INFLUENCE, *(name for name in (*OF_RUNS, *OF_EPOCHS) if name not in OF_ACCURACY))
# The claims in short, for the box at the top of the page.
IN_SHORT = {
    "influence_falls": "Influence falls as training goes on",
    "random_less_by_epoch": "Less influence on random labels, epoch by epoch",
    "random_smaller_peak": "Its peak is lower on random labels",
    "wrong_less": "Wrong labels move other predictions less",
    "slower_influence_70": "Mask, 70 % kept: influence falls more slowly",
    "slower_loss_70": "Mask, 70 % kept: test loss rises less",
    "wrong_slower_than_none_75": "Mask, 75 % kept: fewer wrong labels learnt",
    "wrong_slower_than_none_25": "Mask, 25 % kept: fewer wrong labels learnt",
    "better_than_none_75": "Mask, 75 % kept: higher best accuracy",
    "better_than_none_25": "Mask, 25 % kept: higher best accuracy",
    "diagonal_alone": "The diagonal stands for the whole form",
}
# Section of the page → the claims that it shows.
QUESTIONS: dict[str, Iterable[str]] = {
    "is-influence-less-on-random-labels": (*OF_COURSE, *OF_LABELS, *OF_LOSSES, *OF_LAG),
    "do-wrong-labels-move-others-less": OF_PARTS,
    "what-the-approximations-keep": OF_FORMS,
    "does-a-mask-slow-overfitting": OF_FIG_2,
    "does-it-keep-wrong-labels-from-being-learnt": OF_FIT,
    "does-it-generalize-better": OF_ACCURACY,
}


SECTIONS = tuple(Section(RECORD, anchor, ("fisher_mask",), claims, tuple(names)) for anchor, names in QUESTIONS.items())
