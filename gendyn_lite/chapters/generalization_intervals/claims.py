"""Claims of Salman et al. (2019), 'Towards Quantifying Intrinsic Generalization of Deep ReLU Networks'."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from gendyn_lite.chapters.generalization_intervals.tables import BINS, SPANS, counts, described, ends, main_network
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Near, judge, table
from gendyn_lite.results.tables import with_sizes

SAME = 0.1  # lengths that differ by less, of at most 3, 'do not vary significantly'


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims of the paper on each data set of a tidy table.

    'Do not vary significantly' is read as an equivalence: the whole 95 % interval of the difference lies within 0.1 of
    zero. Beside the difference of means stands the distance between the two distributions.

    Args:
        runs: A tidy table of experiment ``"generalization_intervals"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. Lengths are in units of α. A
        claim whose runs are missing is there, with n_seeds = 0 and no verdict.
    """
    last, watched = ends(runs), described(runs)
    watched = with_sizes(watched[watched["training"]])
    found: list[Claim] = []
    for data, group in last.groupby("data", sort=False):
        for subject, own in group[group["downsample"] == 1].groupby("subject", sort=False):
            found += _of_network(own, str(subject))
        for size, main in main_network(group).groupby("size", sort=False):
            same = group[group["n_train"].isin(main["n_train"]) & group["size"].isin([size, ""])]
            found += _of_several(same, f"networks on {data}, n = {main['n_train'].iloc[0]:,}{main['rest'].iloc[0]}")
        for _, during in watched[watched["data"] == data].groupby("subject", sort=False):
            about = f"networks on {data}, n = {during['n_train'].iloc[0]:,}{during['rest'].iloc[0]}"
            found += _of_training(during, about)
    return table(found)


def _of_several(group: pd.DataFrame, about: str) -> list[Claim]:
    """Claims on several networks of one size; one that was run at a single size stands beside each of the others."""
    found: list[Claim] = []
    whole = group[(group["downsample"] == 1) & (group["model"] == "mlp")]
    if group["downsample"].nunique() > 1:
        found += _of_resolution(main_network(group), about)
    if whole["widths"].nunique() > 1:
        found.append(_of_depth(whole, about))
    return found


def _of_network(runs: pd.DataFrame, subject: str) -> list[Claim]:
    """Claims on one network and data set, true against random labels."""
    about = partial(judge, subject=subject)
    found = _of_pairs(runs, about)
    found.append(
        about(
            _by_seed(runs, "midline_mean", 0.0) - _by_seed(runs, "midline_mean", 1.0),
            AtLeast(0.5, weak=0.1),
            statement="Along midlines of triangles, random labels make intervals much shorter",
            source="Fig. 5",
            paper_value="a significant change",
            quantity="mean length on true labels minus that on random labels",
            opposite=0.0,
        )
    )
    if "intervals/principal_mean" in runs and runs["intervals/principal_mean"].notna().any():
        found += _tangents(runs, about)
    if "intervals/norm_within" in runs and runs["intervals/norm_within"].notna().any():
        found.append(
            about(
                runs[runs["label_corruption"] == 0].set_index("seed")["intervals/norm_within"],
                AtLeast(0.99, weak=0.9),
                statement="Nearly all linear regions have a norm no larger than that of the weights without ReLUs",
                source="App. A",
                paper_value="assumed: 99 %",
                quantity="share of regions on true labels",
                opposite=0.5,
            )
        )
    return found


def _of_pairs(runs: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Intervals between points of one class: alike on images, according to the paper, and unlike in the plane."""
    difference = _by_seed(runs, "pair_mean", 0.0) - _by_seed(runs, "pair_mean", 1.0)
    if (runs["dataset"] != "two_moons").any():
        return _pairs_alike(runs, difference, about)
    shorter = about(
        difference,
        AtLeast(0.5, weak=0.1),
        statement="In two dimensions, random labels make pairwise intervals dramatically shorter",
        source="Fig. 8",
        paper_value="changes dramatically",
        quantity="mean length on true labels minus that on random labels",
        opposite=0.0,
    )
    return [shorter]


def _pairs_alike(runs: pd.DataFrame, difference: pd.Series, about: partial[Claim]) -> list[Claim]:
    alike = about(
        difference,
        Near(0, margin=SAME),
        statement="Pairwise intervals do not vary significantly between true and random labels",
        source="Fig. 4 (left), Fig. 7",
        paper_value="no significant difference",
        quantity="mean length on true labels minus that on random labels",
        opposite=0.0,
    )
    distance = about(
        _distances(runs),
        Below(SAME),
        statement="The two distributions of pairwise intervals are almost identical",
        source="Sec. 1, Fig. 4 (left)",
        paper_value="almost identical",
        quantity="Wasserstein distance between them",
        opposite=SAME,
    )
    return [alike, distance]


def _distances(runs: pd.DataFrame) -> pd.Series:
    """Wasserstein distance between true and random labels, by seed."""
    low, high = SPANS["pair"]
    middles = (np.arange(BINS) + 0.5) * (high - low) / BINS
    found = {}
    for seed, part in runs.groupby("seed"):
        both = [counts(row, "pair") for _, row in part.sort_values("label_corruption").iterrows()]
        if len(both) == 2 and all(each.sum() for each in both):
            found[seed] = stats.wasserstein_distance(middles, middles, both[0], both[1])
    return pd.Series(found, dtype=float)


def _tangents(runs: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Tangent directions against normal ones, on true labels."""
    principal = _by_seed(runs, "principal_mean", 0.0)
    rows = [
        ("means", "towards another class's mean (made orthogonal to it)"),
        ("minor", "along the last principal component"),
    ]
    return [
        about(
            principal - _by_seed(runs, f"{kind}_mean", 0.0),
            AtLeast(0.1, weak=0.0),
            statement=f"On true labels the class lasts longer along the first principal component than {words}",
            source="Fig. 2",
            paper_value="stable against changing",
            quantity="difference of mean lengths",
            opposite=0.0,
        )
        for kind, words in rows
        if runs[f"intervals/{kind}_mean"].notna().any()
    ]


def _of_resolution(runs: pd.DataFrame, subject: str) -> list[Claim]:
    """Down-sampled images against whole ones."""
    about = partial(judge, subject=subject)
    smallest = int(runs["downsample"].max())
    small, whole = (runs[runs["downsample"] == side] for side in (smallest, 1))
    changes = {q: _by_seed(small, "pair_mean", q) - _by_seed(whole, "pair_mean", q) for q in (0.0, 1.0)}
    return [
        about(
            changes[1.0],
            Below(-SAME),
            statement=f"With 1/{smallest} of the side, pairwise intervals on random labels get shorter",
            source="Fig. 4",
            paper_value="lower",
            quantity="mean length minus that on whole images",
            opposite=0.0,
        ),
        about(
            changes[0.0],
            Near(0, margin=SAME),
            statement=f"With 1/{smallest} of the side, pairwise intervals on true labels do not change",
            source="Fig. 4",
            paper_value="no significant change",
            quantity="mean length minus that on whole images",
            opposite=0.0,
        ),
    ]


def _of_depth(runs: pd.DataFrame, subject: str) -> Claim:
    """Networks of several depths against each other, on true labels."""
    true = runs[runs["label_corruption"] == 0]
    spread = true.groupby("seed")["intervals/pair_mean"].agg(lambda values: values.max() - values.min())
    return judge(
        spread,
        Below(0.2),
        statement="Networks of one to four hidden layers have pairwise intervals of about the same length",
        source="Fig. 6",
        paper_value="roughly the same",
        quantity="longest mean length minus shortest, on true labels",
        opposite=0.2,
        subject=subject,
    )


def _of_training(runs: pd.DataFrame, subject: str) -> list[Claim]:
    """Rank correlation of interval length with test accuracy over the epochs of each run, in both readings."""
    readings = {
        "pairwise intervals of all training points, 0 where one is not fitted,": "intervals/pair_all",
        "pairwise intervals of the points that are fitted": "intervals/pair_mean",
    }
    rows = runs.assign(**{"intervals/pair_all": runs["intervals/pair_mean"] * runs["intervals/fitted"]})
    found = []
    for words, column in readings.items():
        values = {
            seed: float(stats.spearmanr(part[column], part["test_accuracy"]).statistic)
            for seed, part in rows.groupby("seed")
        }
        found.append(
            judge(
                pd.Series(values, dtype=float),
                AtLeast(0.8, weak=0.5),
                statement=f"During training, {words} correlate very well with validation accuracy",
                source="Fig. 9",
                paper_value="very well",
                quantity="rank correlation over epochs",
                opposite=0.0,
                subject=subject,
            )
        )
    return found


def _by_seed(runs: pd.DataFrame, name: str, corruption: float) -> pd.Series:
    """A recorded mean by seed, at one label corruption."""
    rows = runs[runs["label_corruption"] == corruption]
    column = f"intervals/{name}"
    return rows.set_index("seed")[column] if column in rows else pd.Series(dtype=float)


SECTIONS = (Section("Salman et al. (2019)", PUBLISHED, ("generalization_intervals",), claims),)
