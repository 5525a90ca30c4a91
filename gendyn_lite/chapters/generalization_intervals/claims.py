"""Claims of Salman et al. (2019), 'Towards Quantifying Intrinsic Generalization of Deep ReLU Networks'."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.generalization_intervals.tables import counts, described, ends, main_network, middles
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Evidence, Near, judge_all, table
from gendyn_lite.results.tables import with_sizes

SAME = 0.1  # lengths that differ by less, of at most 3, 'do not vary significantly'
LONGER = "mean length on true labels minus that on random labels"
NORMAL = {
    "means": "towards another class's mean (made orthogonal to it)",
    "minor": "along the last principal component",
}


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims of the paper on each data set of a tidy table.

    'Do not vary significantly' is read as an equivalence: the whole 95 % interval of the difference lies within 0.1 of
    zero. The distance between the two distributions follows the difference of means.

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
            # A network that was run at a single size is compared with each size of the others.
            same = group[group["n_train"].isin(main["n_train"]) & group["size"].isin([size, ""])]
            found += _of_several(same, _networks(main))
        for _, during in watched[watched["data"] == data].groupby("subject", sort=False):
            found += _of_training(during, _networks(during))
    return table(found)


def _networks(runs: pd.DataFrame) -> str:
    first = runs.iloc[0]
    return f"networks on {first['data']}, n = {first['n_train']:,}{first['rest']}"


def _by_seed(runs: pd.DataFrame, name: str, corruption: float) -> pd.Series:
    """A recorded value by seed, at one label corruption; nothing where it was not measured."""
    rows = runs[runs["label_corruption"] == corruption].set_index("seed")
    return rows.get(f"intervals/{name}", pd.Series(dtype=float))


def _measured(runs: pd.DataFrame, name: str) -> bool:
    return bool(runs.get(f"intervals/{name}", pd.Series(dtype=float)).notna().any())


def _of_network(runs: pd.DataFrame, subject: str) -> list[Claim]:
    """Claims on one network and data set: true against random labels, directions, and norms of regions."""
    pairs, midlines = (
        _by_seed(runs, f"{kind}_mean", 0.0) - _by_seed(runs, f"{kind}_mean", 1.0) for kind in ("pair", "midline")
    )
    if (runs["dataset"] == "two_moons").all():
        rows = {
            "In two dimensions, random labels make pairwise intervals dramatically shorter": Evidence(
                pairs, AtLeast(0.5, weak=0.1), "Fig. 8", "changes dramatically", LONGER
            )
        }
    else:
        rows = {
            "Pairwise intervals do not vary significantly between true and random labels": Evidence(
                pairs, Near(0, margin=SAME), "Fig. 4 (left), Fig. 7", "no significant difference", LONGER
            ),
            "The two distributions of pairwise intervals are almost identical": Evidence(
                _distances(runs),
                Below(SAME),
                "Sec. 1, Fig. 4 (left)",
                "almost identical",
                "Wasserstein distance between them",
                SAME,
            ),
        }
    rows["Along midlines of triangles, random labels make intervals much shorter"] = Evidence(
        midlines, AtLeast(0.5, weak=0.1), "Fig. 5", "a significant change", LONGER
    )
    principal = _by_seed(runs, "principal_mean", 0.0)
    for kind, words in NORMAL.items() if _measured(runs, "principal_mean") else ():
        if _measured(runs, f"{kind}_mean"):
            lengths = principal - _by_seed(runs, f"{kind}_mean", 0.0)
            rows[f"On true labels the class lasts longer along the first principal component than {words}"] = Evidence(
                lengths, AtLeast(0.1, weak=0.0), "Fig. 2", "stable against changing", "difference of mean lengths"
            )
    if _measured(runs, "norm_within"):
        within = _by_seed(runs, "norm_within", 0.0)
        rows["Nearly all linear regions have a norm no larger than that of the weights without ReLUs"] = Evidence(
            within, AtLeast(0.99, weak=0.9), "App. A", "assumed: 99 %", "share of regions on true labels", 0.5
        )
    return judge_all(subject, rows.items())


def _distances(runs: pd.DataFrame) -> pd.Series:
    """Wasserstein distance between true and random labels, by seed."""
    at, found = middles("pair"), {}
    for seed, part in runs.groupby("seed"):
        both = [counts(row, "pair") for _, row in part.sort_values("label_corruption", kind="stable").iterrows()]
        if len(both) == 2 and all(each.any() for each in both):
            found[seed] = stats.wasserstein_distance(at, at, *both)
    return pd.Series(found, dtype=float)


def _of_several(group: pd.DataFrame, subject: str) -> list[Claim]:
    """Claims on several networks of one size: down-sampled images against whole ones, and depths."""
    rows = {}
    main = main_network(group)
    smallest = int(main["downsample"].max())
    if group["downsample"].nunique() > 1:
        small, whole = (main[main["downsample"] == side] for side in (smallest, 1))
        true, random = (_by_seed(small, "pair_mean", q) - _by_seed(whole, "pair_mean", q) for q in (0.0, 1.0))
        start = f"With 1/{smallest} of the side, pairwise intervals on"
        quantity = "mean length minus that on whole images"
        rows |= {
            f"{start} random labels get shorter": Evidence(random, Below(-SAME), "Fig. 4", "lower", quantity),
            f"{start} true labels do not change": Evidence(
                true, Near(0, margin=SAME), "Fig. 4", "no significant change", quantity
            ),
        }
    dense = group[(group["downsample"] == 1) & (group["model"] == "mlp")]
    if dense["widths"].nunique() > 1:
        lengths = dense[dense["label_corruption"] == 0].groupby("seed")["intervals/pair_mean"]
        quantity = "longest mean length minus shortest, on true labels"
        rows["Networks of one to four hidden layers have pairwise intervals of about the same length"] = Evidence(
            lengths.max() - lengths.min(), Below(0.2), "Fig. 6", "roughly the same", quantity, 0.2
        )
    return judge_all(subject, rows.items())


def _of_training(runs: pd.DataFrame, subject: str) -> list[Claim]:
    """Rank correlation of interval length with test accuracy over the epochs of each run, in both readings."""
    lengths = runs["intervals/pair_mean"]
    readings = {
        "of all training points, 0 where one is not fitted,": lengths * runs["intervals/fitted"],
        "of the points that are fitted": lengths,
    }
    rows = {}
    for words, values in readings.items():
        by_seed = runs.assign(length=values).groupby("seed")[["length", "test_accuracy"]]
        correlation = by_seed.apply(lambda part: stats.spearmanr(part["length"], part["test_accuracy"]).statistic)
        rows[f"During training, pairwise intervals {words} correlate very well with validation accuracy"] = Evidence(
            correlation, AtLeast(0.8, weak=0.5), "Fig. 9", "very well", "rank correlation over epochs"
        )
    return judge_all(subject, rows.items())


SECTIONS = (Section("Salman et al. (2019)", PUBLISHED, ("generalization_intervals",), claims),)
