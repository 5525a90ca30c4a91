"""Claims of Zhang et al. (2017), Sec. 5: kernels that interpolate, and generalize without any regularization."""

from __future__ import annotations

import math

import pandas as pd

from gendyn_lite.claims.sections import Section
from gendyn_lite.claims.verdicts import VERDICTS, AtLeast, Below, Claim, Near, judge, table

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


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on kernel regressions, on the largest training set of a tidy table that each has seeds for.

    Args:
        runs: A tidy table of experiment ``"kernel_regression"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`; errors are fractions. The
        paper's test errors can be tested on the whole training set only: on less, the verdict says so.
    """
    features = runs["model_options"].str.extract(r'"features": "(\w+)"')[0]
    filters = runs["model_options"].str.extract(r'"filters": (\d+)')[0].astype(float)
    rows = runs.assign(features=features, filters=filters, error=1 - runs["test_accuracy"])
    found: list[Claim] = []
    for _, group in rows.groupby("data", sort=False):
        found += _claims_of(group)
    return table(found)


def _claims_of(group: pd.DataFrame) -> list[Claim]:
    data = str(group["data"].iloc[0])
    random = _largest(group[(group["label_corruption"] == 1) & (group["weight_decay"] == 0)])
    true = group[group["label_corruption"] == 0]
    plain = true[true["weight_decay"] == 0]
    found = [_paper_error(plain[plain["features"] == name], data, name) for name in plain["features"].unique()]
    if len(random):
        found.append(
            judge(
                random["train_accuracy"],
                AtLeast(0.99, weak=0.9),
                source="Sec. 5",
                statement="The same kernel fits completely random labels",
                paper_value="fits any labels",
                quantity="train accuracy at q = 1",
                subject=_subject(random, data),
                opposite=1 / random["num_classes"].iloc[0],
            )
        )
    for name in plain["features"].unique():
        found += _ridge(plain, true[true["features"] == name], data, name)
        if name in LOWER:
            found += _lower(plain, data, name)
    return found


def _ridge(plain: pd.DataFrame, true: pd.DataFrame, data: str, features: str) -> list[Claim]:
    """What a ridge does: nothing on MNIST and on pixels, according to the paper; something on random filters."""
    ridge = _largest(true[true["weight_decay"] > 0])
    if ridge.empty:
        return []
    gain = _same_size(plain, ridge, features) - ridge.set_index("seed")["error"]
    helps = features == "random_conv"
    return [
        judge(
            gain,
            AtLeast(MARGIN, weak=0.0) if helps else Below(MARGIN),
            source="Sec. 5",
            statement="A ridge lowers the error on random filters" if helps else "A ridge does not improve the error",
            paper_value="0.02 (0.17 to 0.15)" if helps else "no improvement (MNIST)",
            quantity="test error without ridge minus that with it",
            subject=_subject(ridge, data),
            opposite=0.0 if helps else MARGIN,
        )
    ]


def _lower(plain: pd.DataFrame, data: str, features: str) -> list[Claim]:
    """Features that see shapes have a smaller error than pixels."""
    both = plain.groupby("n_train").filter(lambda part: {"pixels", features} <= set(part["features"]))
    rows = _largest(both[both["features"] == features].groupby("n_train").filter(lambda part: len(part) > 1))
    if rows.empty:
        return []
    paper = PAPER.get((_original(data), features))
    base = PAPER.get((_original(data), "pixels"))
    value = "–" if paper is None or base is None else f"{paper / base:.2g} ({paper:g} of {base:g})"
    return [
        judge(
            rows.set_index("seed")["error"] / _same_size(plain, rows, "pixels"),
            Below(1),
            source="Sec. 5",
            statement=LOWER[features],
            paper_value=value,
            quantity="test error over that on pixels",
            subject=_subject(rows, data),
            opposite=1.0,
        )
    ]


def _paper_error(rows: pd.DataFrame, data: str, features: str) -> Claim:
    """Test error beside the paper's value, at the largest size that was run; with all examples one run is the mean."""
    largest = _largest(rows)
    paper = paper_errors(data).get(features)
    claim = judge(
        largest["error"],
        Near(paper if paper is not None else 0.0, margin=MARGIN),
        statement=f"A regression that interpolates generalizes ({features.replace('random_conv', 'random filters')})",
        source="Sec. 5",
        paper_value="–" if paper is None else f"{paper:g} (test error)",
        quantity="test error",
        subject=_subject(largest, data),
        opposite=1 - 1 / largest["num_classes"].iloc[0],
    )
    n = int(largest["n_train"].iloc[0])
    whole = WHOLE.get(_original(data), n)
    words = f"{claim.criterion}, with all {whole:,} original examples"
    changes = {"criterion": words, "verdict": VERDICTS[3], "p_value": math.nan}
    if paper is not None and n == whole and data == _original(data):
        # Nothing is random with the whole set and an exact solution: the value is the interval.
        changes["verdict"] = Near(paper, margin=MARGIN).verdict(claim.value, claim.value, claim.value)
    if paper is None:
        changes["criterion"] = "the paper has no value for this data"
    return Claim(**{**claim.__dict__, **changes})


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


def _subject(rows: pd.DataFrame, data: str) -> str:
    filters = rows["filters"].iloc[0]
    kind = "Gaussian kernel" if pd.isna(filters) else f"{filters:,.0f} random filters"
    return f"{kind} on {data}, n = {int(rows['n_train'].iloc[0]):,}"


SECTIONS = (Section("Zhang et al. (2017)", "kernels", ("kernel_regression",), claims),)
