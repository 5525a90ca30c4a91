"""Claims of Zhang et al. (2017), Sec. 5: kernels that interpolate, and generalize without any regularization.

They are on record in `claims.toml`; here is the statistic of each, by its id.
"""

from __future__ import annotations

import pandas as pd

from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import Section

WHOLE = {"MNIST": 60_000, "CIFAR-10": 50_000}
# Test errors that the paper reports (Sec. 5); of random filters it took 32,000.
PAPER = {"MNIST": {"pixels": 0.012, "gabor": 0.006}, "CIFAR-10": {"pixels": 0.46, "random_conv": 0.17}}


def paper_errors(data: str) -> dict[str, float]:
    """The paper's test error by features, for a data set or a copy of it.

    >>> paper_errors("MNIST")
    {'pixels': 0.012, 'gabor': 0.006}
    """
    return PAPER.get(_original(data), {})


def _original(data: str) -> str:
    """The name of the set that a copy was made from: 'CIFAR-10 (JPEG q75)' is one of CIFAR-10."""
    return data.split(" (", maxsplit=1)[0]


def with_features(runs: pd.DataFrame) -> pd.DataFrame:
    """The regressions with their features, their number of random filters (missing for a kernel) and their test error.

    >>> runs = {"model_options": ['{"features": "random_conv", "filters": 200}'], "test_accuracy": 0.75}
    >>> with_features(pd.DataFrame(runs))[["features", "filters", "error"]].to_dict("records")
    [{'features': 'random_conv', 'filters': 200.0, 'error': 0.25}]
    """
    options = runs["model_options"].str
    features, filters = options.extract(r'"features": "(\w+)"')[0], options.extract(r'"filters": (\d+)')[0]
    return runs.assign(features=features, filters=filters.astype(float), error=1 - runs["test_accuracy"])


def _largest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the largest size; of random filters, those of the largest number that has a row there."""
    largest = rows[rows["n_train"] == rows["n_train"].max()]
    return largest[largest["filters"].isna() | (largest["filters"] == largest["filters"].max())]


def _same_size(plain: pd.DataFrame, other: pd.DataFrame, features: str) -> pd.Series:
    """Test error by seed of the plain regressions of the same size."""
    same = plain[(plain["features"] == features) & (plain["n_train"] == other["n_train"].iloc[0])]
    if features == "random_conv":
        same = same[same["filters"] == other["filters"].iloc[0]]
    return same.set_index("seed")["error"]


OF_ERROR = {"interpolating_generalizes": lambda error: error}
OF_RANDOM_LABELS = {"kernel_fits_random": lambda rows: rows["train_accuracy"]}
# What a ridge does: nothing on MNIST and on pixels, according to the paper; something on random filters.
OF_RIDGE = {
    "ridge_no_help": lambda gain, features: gain if features != "random_conv" else None,
    "ridge_helps_filters": lambda gain, features: gain if features == "random_conv" else None,
}
# Features that see shapes have a smaller error than pixels.
OF_FEATURES = {
    "gabor_lowers": lambda ratio, features: ratio if features == "gabor" else None,
    "filters_lower": lambda ratio, features: ratio if features == "random_conv" else None,
}
RECORD = on_record(__file__, OF_ERROR, OF_RANDOM_LABELS, OF_RIDGE, OF_FEATURES)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on kernel regressions, on the largest training set of a tidy table that each has seeds for.

    Args:
        runs: A tidy table of experiment ``"kernel_regression"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`; errors are fractions.
    """
    groups = with_features(runs).groupby("data", sort=False)
    return table(claim for data, group in groups for claim in _claims_of(group, str(data)))


def _claims_of(group: pd.DataFrame, data: str) -> list[Claim]:
    random = _largest(group[(group["label_corruption"] == 1) & (group["weight_decay"] == 0)])
    true = group[group["label_corruption"] == 0]
    plain = true[true["weight_decay"] == 0]
    names = plain["features"].unique()
    found = [claim for name in names for claim in _paper_error(_largest(plain[plain["features"] == name]), data, name)]
    if len(random):
        found += RECORD.judge(_subject(random), OF_RANDOM_LABELS, random, chance=1 / random["num_classes"].iloc[0])
    for name in names:
        ridge = _largest(true[(true["weight_decay"] > 0) & (true["features"] == name)])
        if len(ridge):
            gain = _same_size(plain, ridge, name) - ridge.set_index("seed")["error"]
            found += RECORD.judge(_subject(ridge), OF_RIDGE, gain, name)
        rows = _beside_pixels(plain, name)
        if len(rows):
            ratio = rows.set_index("seed")["error"] / _same_size(plain, rows, "pixels")
            paper, base = (paper_errors(data).get(each) for each in (name, "pixels"))
            value = "–" if paper is None or base is None else f"{paper / base:.2g} ({paper:g} of {base:g})"
            found += RECORD.judge(_subject(rows), OF_FEATURES, ratio, name, value=value)
    return found


def _subject(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    kind = "Gaussian kernel" if pd.isna(first["filters"]) else f"{first['filters']:,.0f} random filters"
    return f"{kind} on {first['data']}, n = {int(first['n_train']):,}"


def _beside_pixels(plain: pd.DataFrame, features: str) -> pd.DataFrame:
    """The rows of some features at the largest size at which pixels were run too, and with more than one seed."""
    both = plain.groupby("n_train").filter(lambda part: {"pixels", features} <= set(part["features"]))
    return _largest(both[both["features"] == features].groupby("n_train").filter(lambda part: len(part) > 1))


def _paper_error(rows: pd.DataFrame, data: str, features: str) -> list[Claim]:
    """Test error at the largest size that was run, beside the paper's value, which is that of the whole set."""
    paper = paper_errors(data).get(features)
    value = "–" if paper is None else f"{paper:g} (test error, all {WHOLE[_original(data)]:,} images)"
    features = features.replace("random_conv", "random filters")
    return RECORD.judge(_subject(rows), OF_ERROR, rows["error"], features=features, value=value)


SECTIONS = (Section(RECORD, "kernels", ("kernel_regression",), claims),)
