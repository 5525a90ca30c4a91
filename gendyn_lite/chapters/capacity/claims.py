"""Claims of Zhang et al. (2017), Sec. 5: kernels that interpolate, and generalize without any regularization."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from gendyn_lite.claims.sections import Section
from gendyn_lite.claims.verdicts import VERDICTS, AtLeast, Below, Claim, Criterion, Near, judge, table

WHOLE = {"MNIST": 60_000, "CIFAR-10": 50_000}
# Test errors that the paper reports (Sec. 5); of random filters it took 32,000.
PAPER = {
    ("MNIST", "pixels"): 0.012,
    ("MNIST", "gabor"): 0.006,
    ("CIFAR-10", "pixels"): 0.46,
    ("CIFAR-10", "random_conv"): 0.17,
}
MARGIN = 0.003
LOWER = {"gabor": "A Gabor transform lowers the error", "random_conv": "Random convolutional features lower the error"}


def paper_errors(data: str) -> dict[str, float]:
    """The paper's test error by features, for a data set or a copy of it.

    >>> paper_errors("MNIST")
    {'pixels': 0.012, 'gabor': 0.006}
    """
    return {features: error for (name, features), error in PAPER.items() if name == _original(data)}


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


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on kernel regressions, on the largest training set of a tidy table that each has seeds for.

    Args:
        runs: A tidy table of experiment ``"kernel_regression"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`; errors are fractions. The
        paper's test errors can be tested on the whole training set only: on less, the verdict says so.
    """
    groups = with_features(runs).groupby("data", sort=False)
    return table(claim for data, group in groups for claim in _claims_of(group, str(data)))


def _claims_of(group: pd.DataFrame, data: str) -> list[Claim]:
    random = _largest(group[(group["label_corruption"] == 1) & (group["weight_decay"] == 0)])
    true = group[group["label_corruption"] == 0]
    plain = true[true["weight_decay"] == 0]
    names = plain["features"].unique()
    found = [_paper_error(_largest(plain[plain["features"] == name]), data, name) for name in names]
    if len(random):
        fitted, statement = random["train_accuracy"], "The same kernel fits completely random labels"
        guessing = 1 / random["num_classes"].iloc[0]
        fits = fitted.rename("train accuracy at q = 1")
        found.append(_claim(random, statement, "fits any labels", fits, AtLeast(0.99, weak=0.9), null_value=guessing))
    for name in names:
        found += _ridge(plain, _largest(true[(true["weight_decay"] > 0) & (true["features"] == name)]), name)
        if name in LOWER:
            found += _lower(plain, data, name)
    return found


def _claim(
    rows: pd.DataFrame, statement: str, paper: str, values: pd.Series, criterion: Criterion, *, null_value: float
) -> Claim:
    """`judge` of some regressions; the values are named by their quantity."""
    first = rows.iloc[0]
    kind = "Gaussian kernel" if pd.isna(first["filters"]) else f"{first['filters']:,.0f} random filters"
    subject = f"{kind} on {first['data']}, n = {int(first['n_train']):,}"
    words = {"statement": statement, "paper_value": paper, "quantity": str(values.name), "subject": subject}
    return judge(values, criterion, source="Sec. 5", null_value=null_value, **words)


def _ridge(plain: pd.DataFrame, ridge: pd.DataFrame, features: str) -> list[Claim]:
    """What a ridge does: nothing on MNIST and on pixels, according to the paper; something on random filters."""
    if ridge.empty:
        return []
    gain = _same_size(plain, ridge, features) - ridge.set_index("seed")["error"]
    gain = gain.rename("test error without ridge minus that with it")
    if features == "random_conv":
        statement, helps = "A ridge lowers the error on random filters", AtLeast(MARGIN, weak=0.0)
        return [_claim(ridge, statement, "0.02 (0.17 to 0.15)", gain, helps, null_value=0.0)]
    statement, paper = "A ridge does not improve the error", "no improvement (MNIST)"
    return [_claim(ridge, statement, paper, gain, Below(MARGIN), null_value=MARGIN)]


def _lower(plain: pd.DataFrame, data: str, features: str) -> list[Claim]:
    """Features that see shapes have a smaller error than pixels."""
    both = plain.groupby("n_train").filter(lambda part: {"pixels", features} <= set(part["features"]))
    rows = _largest(both[both["features"] == features].groupby("n_train").filter(lambda part: len(part) > 1))
    if rows.empty:
        return []
    paper, base = (paper_errors(data).get(name) for name in (features, "pixels"))
    value = "–" if paper is None or base is None else f"{paper / base:.2g} ({paper:g} of {base:g})"
    ratio = rows.set_index("seed")["error"] / _same_size(plain, rows, "pixels")
    ratio = ratio.rename("test error over that on pixels")
    return [_claim(rows, LOWER[features], value, ratio, Below(1), null_value=1.0)]


def _paper_error(rows: pd.DataFrame, data: str, features: str) -> Claim:
    """Test error beside the paper's value, at the largest size that was run; with all examples one run is the mean."""
    paper = paper_errors(data).get(features)
    near = Near(0.0 if paper is None else paper, margin=MARGIN)
    statement = f"A regression that interpolates generalizes ({features.replace('random_conv', 'random filters')})"
    value, guessing = "–" if paper is None else f"{paper:g} (test error)", 1 - 1 / rows["num_classes"].iloc[0]
    claim = _claim(rows, statement, value, rows["error"].rename("test error"), near, null_value=guessing)
    claim = replace(claim, verdict=VERDICTS[3], p_value=math.nan)
    if paper is None:
        return replace(claim, criterion="the paper has no value for this data")
    n = int(rows["n_train"].iloc[0])
    whole = WHOLE.get(_original(data), n)
    if n == whole and data == _original(data):
        # Nothing is random with the whole set and an exact solution: the value is the interval.
        claim = replace(claim, verdict=near.verdict(claim.value, claim.value, claim.value))
    return replace(claim, criterion=f"{claim.criterion}, with all {whole:,} original examples")


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


SECTIONS = (Section("Zhang et al. (2017)", "kernels", ("kernel_regression",), claims),)
