"""Claims of Zhang et al. (2017), 'Understanding deep learning requires rethinking generalization'."""

from __future__ import annotations

from functools import partial

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.random_labels import claims_regularizers
from gendyn_lite.chapters.random_labels.claims_regularizers import FITTED
from gendyn_lite.chapters.random_labels.zhang2017 import table_1_row
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Near, judge, table
from gendyn_lite.results.tables import summarize, with_sizes

SMALL_FACTOR = Below(10)  # our reading of "a small constant factor": less than an order of magnitude
CHANCE_MARGIN = 0.02
INPUTS = {
    "shuffled_pixels": "images with shuffled pixels",
    "random_pixels": "images with random pixels",
    "gaussian": "Gaussian inputs",
}
PAPER = "Zhang et al. (2017)"


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims of the paper on each network and data set of a tidy table.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`, experiment ``"random_labels"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. Accuracies, errors and gaps
        are fractions. A claim whose runs are missing is there, with n_seeds = 0 and no verdict.
    """
    found: list[Claim] = []
    for _, group in with_sizes(summarize(runs)).groupby("subject", sort=False):
        found += _claims_of(group)
    return table(found)


def _claims_of(group: pd.DataFrame) -> list[Claim]:
    """Every claim on one network at one size and one data set; `group` has a row per run."""
    first = group.iloc[0]
    network = str(first["network"])
    chance = 1 / first["num_classes"]
    about = partial(judge, subject=str(first["subject"]))
    found = [*_of_random_labels(group, network, about, chance), *_of_more_corruption(group, about)]
    for kind in (kind for kind in INPUTS if (group["inputs"] == kind).any()):
        found += _about_inputs(group, kind, about, chance)
    return found


def _of_random_labels(group: pd.DataFrame, network: str, about: partial[Claim], chance: float) -> list[Claim]:
    """Completely random labels: fitted, to no use, at the price of a large gap."""
    return [
        about(
            _by_seed(group, "train_accuracy", q=1.0),
            FITTED,
            statement="Networks fit completely random labels",
            source="Fig. 1a, Table 1",
            paper_value=_paper(network, "train_random"),
            quantity="train accuracy at q = 1",
            opposite=chance,
        ),
        about(
            _by_seed(group, "test_accuracy", q=1.0),
            Near(chance, margin=CHANCE_MARGIN),
            statement="After fitting random labels, test accuracy is at chance",
            source="Fig. 1c, Table 1",
            paper_value=_paper(network, "test_random"),
            quantity="test accuracy at q = 1",
            opposite=chance,
        ),
        about(
            _by_seed(group, "gap", q=1.0) - _by_seed(group, "gap", q=0.0),
            AtLeast(0.1, weak=0.05),
            statement="Randomizing the labels alone makes the generalization error jump",
            source="Sec. 1.1, Table 1",
            paper_value=_paper(network, "jump"),
            quantity="generalization gap at q = 1 minus that at q = 0",
            opposite=0.0,
        ),
    ]


def _of_more_corruption(group: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """What changes with the fraction of corrupted labels: the time to fit them, and the test error."""
    return [
        about(
            _by_seed(group, "fit_epoch", q=1.0) / _by_seed(group, "fit_epoch", q=0.0),
            SMALL_FACTOR,
            statement="Random labels take longer to fit than true labels only by a small constant factor",
            source="Fig. 1b",
            paper_value="a small constant factor",
            quantity="epochs to fit at q = 1 over those at q = 0",
            opposite=SMALL_FACTOR.bound,
        ),
        about(
            _rank_correlations(group),
            AtLeast(0.9, weak=0.5),
            statement="Test error rises steadily with the fraction of corrupted labels",
            source="Fig. 1c",
            paper_value="a steady rise to 0.9",
            quantity="rank correlation of test error with q",
            opposite=0.0,
        ),
    ]


def _about_inputs(group: pd.DataFrame, kind: str, about: partial[Claim], chance: float) -> list[Claim]:
    """The claims on inputs without structure, trained with the true labels."""
    words = INPUTS[kind]
    fits = about(
        _by_seed(group, "train_accuracy", q=0.0, inputs=kind),
        FITTED,
        statement=f"Networks fit the labels of {words}",
        source="Fig. 1a",
        paper_value="loss falls to 0",
        quantity="train accuracy",
        opposite=chance,
    )
    if kind == "shuffled_pixels":
        return [fits]
    sooner = about(
        _by_seed(group, "fit_epoch", q=0.0, inputs=kind) / _by_seed(group, "fit_epoch", q=1.0),
        Below(1),
        statement=f"{words[0].upper()}{words[1:]} are fitted sooner than random labels",
        source="Fig. 1a",
        paper_value="sooner",
        quantity="epochs to fit over those for random labels",
        opposite=1.0,
    )
    return [fits, sooner]


def _by_seed(group: pd.DataFrame, column: str, *, q: float, inputs: str = "true") -> pd.Series:
    """A measured column by seed, of the runs with one label corruption and one kind of inputs."""
    chosen = group[(group["label_corruption"] == q) & (group["inputs"] == inputs)]
    return chosen.assign(gap=chosen["train_accuracy"] - chosen["test_accuracy"]).set_index("seed")[column]


def _rank_correlations(group: pd.DataFrame) -> list[float]:
    """Spearman correlation of test error with q, one per seed with at least three levels of q."""
    true_inputs = group[group["inputs"] == "true"]
    return [
        float(stats.spearmanr(runs["label_corruption"], runs["test_error"]).statistic)
        for _, runs in true_inputs.groupby("seed")
        if runs["label_corruption"].nunique() >= 3
    ]


def _paper(network: str, what: str) -> str:
    """A value of the paper's as a fraction, or a dash where Table 1 does not have the network."""
    true, random = (table_1_row(network, random_labels=random) for random in (False, True))
    if true is None or random is None:
        return "–"
    percent = {
        "train_random": random.train,
        "test_random": random.test,
        "jump": (random.train - random.test) - (true.train - true.test),
    }[what]
    return f"{percent / 100:.3f} (CIFAR-10)"


def _regularizers(runs: pd.DataFrame) -> pd.DataFrame:
    """Only the data on which something was regularized: other runs have no comparison."""
    return claims_regularizers.claims(runs[runs["data"].isin(runs.loc[runs["experiment"] == "regularizers", "data"])])


SECTIONS = (
    Section(PAPER, PUBLISHED, ("random_labels",), claims),
    Section(PAPER, "regularizers-on-cifar-10", ("random_labels", "regularizers"), _regularizers),
)
