"""Claims of Salman et al. (2019), 'Towards Quantifying Intrinsic Generalization of Deep ReLU Networks'.

The claims are on record in `claims.toml`; this module computes the statistic of each, by its id.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.generalization_intervals.tables import counts, described, ends, main_network, middles
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import Section
from gendyn_lite.results.tables import with_sizes


def _networks(runs: pd.DataFrame) -> str:
    first = runs.iloc[0]
    return f"networks on {first['data']}, n = {first['n_train']:,}{first['rest']}"


def _by_seed(runs: pd.DataFrame, name: str, corruption: float) -> pd.Series:
    """Return a recorded value by seed, at one label corruption; empty if it was not measured."""
    if f"intervals/{name}" not in runs:
        return pd.Series(dtype=float)
    rows = runs.loc[runs["label_corruption"] == corruption, ["seed", f"intervals/{name}"]]
    return rows.set_index("seed")[f"intervals/{name}"]


def _measured(runs: pd.DataFrame, name: str) -> bool:
    return bool(runs.get(f"intervals/{name}", pd.Series(dtype=float)).notna().any())


def _distances(runs: pd.DataFrame) -> pd.Series:
    """Return the Wasserstein distance between the lengths on true and on random labels, by seed."""
    at, found = middles("pair"), {}
    for seed, part in runs.groupby("seed"):
        both = [counts(row, "pair") for _, row in part.sort_values("label_corruption", kind="stable").iterrows()]
        if len(both) == 2 and all(each.any() for each in both):
            found[seed] = stats.wasserstein_distance(at, at, *both)
    return pd.Series(found, dtype=float)


def _shortened(runs: pd.DataFrame, kind: str) -> pd.Series | None:
    """Subtract the mean length on random labels from that on true labels, by seed."""
    if not _measured(runs, f"{kind}_mean"):
        return None
    return _by_seed(runs, f"{kind}_mean", 0.0) - _by_seed(runs, f"{kind}_mean", 1.0)


def _over(runs: pd.DataFrame, first: str, second: str, corruption: float = 0.0) -> pd.Series | None:
    """Subtract the mean length along the second kind of direction from that along the first, by seed."""
    if not all(_measured(runs, f"{kind}_mean") for kind in (first, second)):
        return None
    return _by_seed(runs, f"{first}_mean", corruption) - _by_seed(runs, f"{second}_mean", corruption)


def _on_true_labels(runs: pd.DataFrame, name: str) -> pd.Series | None:
    return _by_seed(runs, name, 0.0) if _measured(runs, name) else None


def _lengthened(group: pd.DataFrame, corruption: float) -> pd.Series | None:
    """Subtract the mean length on whole images from that on the most down-sampled ones, by seed."""
    if group["downsample"].nunique() == 1:
        return None
    main = main_network(group)
    small, whole = (main[main["downsample"] == side] for side in (main["downsample"].max(), 1))
    return _by_seed(small, "pair_mean", corruption) - _by_seed(whole, "pair_mean", corruption)


def _over_depths(group: pd.DataFrame) -> pd.Series | None:
    """Subtract the shortest mean length of the fully connected networks from the longest, on true labels, by seed."""
    dense = group[(group["downsample"] == 1) & (group["model"] == "mlp")]
    if dense["widths"].nunique() <= 1:
        return None
    lengths = dense[dense["label_corruption"] == 0].groupby("seed")["intervals/pair_mean"]
    return lengths.max() - lengths.min()


def _correlation(runs: pd.DataFrame, lengths: pd.Series) -> pd.Series:
    """Return the rank correlation of interval length with test accuracy over the epochs of each run, by seed."""
    by_seed = runs.assign(length=lengths).groupby("seed")[["length", "test_accuracy"]]
    return by_seed.apply(lambda part: stats.spearmanr(part["length"], part["test_accuracy"]).statistic)


OF_NETWORK = {
    "moons_shorter": partial(_shortened, kind="pair"),
    "pairs_alike": partial(_shortened, kind="pair"),
    "distributions_alike": _distances,
    "midlines_shorter": partial(_shortened, kind="midline"),
    "principal_over_means": partial(_over, first="principal", second="means"),
    "principal_over_minor": partial(_over, first="principal", second="minor"),
    "principal_over_random": partial(_over, first="principal", second="random"),
    "principal_over_varying": partial(_over, first="principal", second="varying"),
    "principal_over_span": partial(_over, first="principal", second="span"),
    "pairs_over_random": partial(_over, first="pair", second="random"),
    "pairs_over_span": partial(_over, first="pair", second="span"),
    "pairs_trained": partial(_over, first="pair", second="untrained_pair"),
    "midlines_trained": partial(_over, first="midline", second="untrained_midline"),
    "principal_as_random": partial(_over, first="principal", second="random", corruption=1.0),
    "random_directions_shorter": partial(_shortened, kind="random"),
    "norms_within": partial(_on_true_labels, name="norm_within"),
    "bound_true": partial(_on_true_labels, name="bound_within"),
    "bound_explains": partial(_on_true_labels, name="bound_covered"),
    "conv_pairs_alike": partial(_shortened, kind="pair"),
    "conv_midlines_shorter": partial(_shortened, kind="midline"),
}
OF_SEVERAL = {
    "small_random_shorter": partial(_lengthened, corruption=1.0),
    "small_true_alike": partial(_lengthened, corruption=0.0),
    "depths_alike": _over_depths,
}
OF_TRAINING = {
    "correlates_all": lambda runs: _correlation(runs, runs["intervals/pair_mean"] * runs["intervals/fitted"]),
    "correlates_fitted": lambda runs: _correlation(runs, runs["intervals/pair_mean"]),
}
RECORD = on_record(__file__, OF_NETWORK, OF_SEVERAL, OF_TRAINING)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of the paper on each data set of a tidy table.

    'Do not vary significantly' is read as an equivalence: the whole 95 % interval of the difference must lie within 0.1
    of zero. The distance between the two distributions is judged like the difference of means.

    Args:
        runs: A tidy table of experiment ``"generalization_intervals"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. Lengths are in units of α. A
        claim without runs has a row with n_seeds = 0 and no verdict.
    """
    last, watched = ends(runs), described(runs)
    watched = with_sizes(watched[watched["training"]])
    found: list[Claim] = []
    for data, group in last.groupby("data", sort=False):
        for subject, own in group[group["downsample"] == 1].groupby("subject", sort=False):
            asked = {name: each for name, each in OF_NETWORK.items() if len(RECORD.entries[name].of(own)) == len(own)}
            found += RECORD.judge(str(subject), asked, own)
        for size, main in main_network(group).groupby("size", sort=False):
            # Networks that were run at only one size are compared with each size of the others.
            same = group[group["n_train"].isin(main["n_train"]) & group["size"].isin([size, ""])]
            side = int(main_network(same)["downsample"].max())
            found += RECORD.judge(_networks(main), OF_SEVERAL, same, side=side)
        for _, during in watched[watched["data"] == data].groupby("subject", sort=False):
            found += RECORD.judge(_networks(during), OF_TRAINING, during)
    return table(found)


# The claims of the paper in short, for the box at the top of the page.
IN_SHORT = {
    "pairs_alike": "Between two images, labels do not matter",
    "distributions_alike": "The two distributions are almost identical",
    "midlines_shorter": "Along midlines, random labels shorten",
    "principal_over_means": "Longer along the class than to another's mean",
    "principal_over_minor": "Longer along the class than across it",
    "principal_over_random": "Longer along the class than at random",
    "principal_over_varying": "Longer along it than as pixels vary",
    "principal_over_span": "Longer along it than at random in its span",
    "pairs_over_random": "Longer towards its images than at random",
    "pairs_over_span": "Longer towards them than at random in the span",
    "principal_as_random": "On random labels no direction is special",
    "random_directions_shorter": "Random labels shorten random directions",
    "small_random_shorter": "Fewer pixels: shorter on random labels",
    "small_true_alike": "Fewer pixels: no change on true labels",
    "depths_alike": "Depth does not matter",
    "moons_shorter": "In the plane, random labels shorten",
    "correlates_all": "Over 150 epochs lengths go with accuracy (unfitted: 0)",
    "correlates_fitted": "Over 150 epochs lengths go with accuracy (fitted only)",
    "norms_within": "Regions have norms below that of the weights",
    "bound_true": "The bound that follows is true",
    "bound_explains": "The bound explains the class of new images",
}
QUESTIONS = {  # section of the page → the claims that it shows
    "do-labels-matter-between-two-images-of-a-class": ("pairs_alike", "distributions_alike"),
    "and-where-no-training-image-lies": ("midlines_shorter",),
    "does-the-class-last-along-the-class": (
        "principal_over_means",
        "principal_over_minor",
        "principal_over_random",
        "principal_over_varying",
        "principal_over_span",
        "pairs_over_random",
        "pairs_over_span",
        "principal_as_random",
        "random_directions_shorter",
    ),
    "do-resolution-and-depth-matter": ("small_random_shorter", "small_true_alike", "depths_alike", "moons_shorter"),
    "do-intervals-tell-how-well-a-network-generalizes": (
        "correlates_all",
        "correlates_fitted",
        "pairs_trained",
        "midlines_trained",
    ),
    "does-the-bound-of-the-appendix-explain-it": ("norms_within", "bound_true", "bound_explains"),
    "and-in-convolutional-networks": ("conv_pairs_alike", "conv_midlines_shorter"),
}


SECTIONS = tuple(
    Section(RECORD, anchor, ("generalization_intervals",), claims, names) for anchor, names in QUESTIONS.items()
)
