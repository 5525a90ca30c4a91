"""Claims of Zhang et al. (2017), Sec. 5: kernels that interpolate, and generalize without any regularization."""

from __future__ import annotations

from functools import partial

import pandas as pd

from gendyn_lite.claims.verdicts import VERDICTS, AtLeast, Below, Claim, Near, judge, table

WHOLE = {"MNIST": 60_000}
PAPER = {("MNIST", "pixels"): 0.012, ("MNIST", "gabor"): 0.006}
MARGIN = 0.003


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on kernel regressions, on the largest training set of a tidy table that each has seeds for.

    Args:
        runs: A tidy table of experiment ``"kernel_regression"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`; errors are fractions. The
        paper's test errors can be tested on the whole training set only: on less, the verdict says so.
    """
    features = runs["model_options"].str.extract(r'"features": "(\w+)"')[0]
    rows = runs.assign(features=features, error=1 - runs["test_accuracy"])
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
    about = partial(judge, source="Sec. 5")
    if len(random):
        found.append(
            about(
                random["train_accuracy"],
                AtLeast(0.99, weak=0.9),
                statement="The same kernel fits completely random labels",
                paper_value="fits any labels",
                quantity="train accuracy at q = 1",
                subject=_subject(random, data),
                opposite=1 / random["num_classes"].iloc[0],
            )
        )
    ridge = _largest(true[(true["weight_decay"] > 0) & (true["features"] == "pixels")])
    if len(ridge):
        gain = _same_size(plain, ridge, "pixels") - ridge.set_index("seed")["error"]
        found.append(
            about(
                gain,
                Below(MARGIN),
                statement="Regularization does not improve the error",
                paper_value="no improvement (MNIST)",
                quantity="test error without ridge minus that with it",
                subject=_subject(ridge, data),
                opposite=MARGIN,
            )
        )
    gabor = _largest(plain[plain["features"] == "gabor"].groupby("n_train").filter(lambda part: len(part) > 1))
    if len(gabor):
        found.append(
            about(
                gabor.set_index("seed")["error"] / _same_size(plain, gabor, "pixels"),
                Below(1),
                statement="A Gabor transform lowers the error of the kernel",
                paper_value="0.5 (0.006 of 0.012)",
                quantity="test error over that on pixels",
                subject=_subject(gabor, data),
                opposite=1.0,
            )
        )
    return found


def _paper_error(rows: pd.DataFrame, data: str, features: str) -> Claim:
    """Test error beside the paper's value, at the largest size that was run; with all examples one run is the mean."""
    largest = _largest(rows)
    paper = PAPER.get((data, features))
    claim = judge(
        largest["error"],
        Near(paper if paper is not None else 0.0, margin=MARGIN),
        statement=f"A kernel that interpolates generalizes ({features}, no ridge)",
        source="Sec. 5",
        paper_value="–" if paper is None else f"{paper} (test error)",
        quantity="test error",
        subject=_subject(largest, data),
        opposite=1 - 1 / largest["num_classes"].iloc[0],
    )
    n = int(largest["n_train"].iloc[0])
    changes = {"criterion": f"{claim.criterion}, with all {WHOLE.get(data, n):,} examples", "verdict": VERDICTS[3]}
    if paper is not None and n == WHOLE[data]:
        # Nothing is random with the whole set and an exact solution: the value is the interval.
        changes["verdict"] = Near(paper, margin=MARGIN).verdict(claim.value, claim.value, claim.value)
    if paper is None:
        changes["criterion"] = "the paper has no value for this data"
    return Claim(**{**claim.__dict__, **changes})


def _largest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["n_train"] == rows["n_train"].max()]


def _same_size(plain: pd.DataFrame, other: pd.DataFrame, features: str) -> pd.Series:
    """Test error by seed of the plain regressions of the same size."""
    same = plain[(plain["features"] == features) & (plain["n_train"] == other["n_train"].iloc[0])]
    return same.set_index("seed")["error"]


def _subject(rows: pd.DataFrame, data: str) -> str:
    return f"Gaussian kernel on {data}, n = {int(rows['n_train'].iloc[0]):,}"
