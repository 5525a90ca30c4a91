"""Every claim of every paper, from all published tables, with a correction for testing many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from gendyn_lite.claims import (
    fisher_mask,
    generalization_intervals,
    kernels,
    path_functions,
    random_labels,
    regularizers,
    stiffness,
    stiffness_layers,
)
from gendyn_lite.claims.verdicts import VERDICTS
from gendyn_lite.errors import UserError
from gendyn_lite.results.published import published, published_experiments

LEVEL = 0.025  # one-sided, as the verdicts' two-sided 95 % intervals


class Part(NamedTuple):
    """Claims that come from the same published tables and stand in the same section of a chapter.

    Attributes:
        paper: Author and year, or short title.
        chapter: Name of the chapter's file.
        section: The section's anchor on its page.
        tables: Published experiments; the claims are given all their rows together.
        claims: Tidy table → table of claims.
    """

    paper: str
    chapter: str
    section: str
    tables: tuple[str, ...]
    claims: Callable[[pd.DataFrame], pd.DataFrame]


def _regularizers(runs: pd.DataFrame) -> pd.DataFrame:
    """Only the data on which something was regularized: other runs have no comparison."""
    return regularizers.claims(runs[runs["data"].isin(runs.loc[runs["experiment"] == "regularizers", "data"])])


def _relative_height(runs: pd.DataFrame) -> pd.DataFrame:
    """Deep networks beside AlexNet."""
    deep = runs["experiment"] == "path_deep"
    return path_functions.relative_height(runs[deep], runs[~deep])


LABELS, STIFFNESS = "Zhang et al. (2017)", "Fort et al. (2019); Walker"
INTERVALS = "Salman et al. (2019)"
PATHS = "Image functions (anonymous)"
MASK = "Jiang"
PUBLISHED = "published-results"
PARTS = (
    Part(LABELS, "01_random_labels", PUBLISHED, ("random_labels",), random_labels.claims),
    Part(LABELS, "01_random_labels", "regularizers-on-cifar-10", ("random_labels", "regularizers"), _regularizers),
    Part(LABELS, "01_random_labels", "kernels", ("kernel_regression",), kernels.claims),
    Part(PATHS, "02_path_functions", PUBLISHED, ("path_networks",), path_functions.over_training),
    Part(PATHS, "02_path_functions", PUBLISHED, ("path_unseen",), path_functions.unseen),
    Part(PATHS, "02_path_functions", "deeper-networks", ("path_deep",), path_functions.over_training),
    Part(PATHS, "02_path_functions", "deeper-networks", ("path_deep", "path_networks"), _relative_height),
    Part(PATHS, "02_path_functions", "many-networks-published", ("path_ratio",), path_functions.ratio),
    Part(MASK, "03_fisher_mask", PUBLISHED, ("fisher_mask",), fisher_mask.claims),
    Part(STIFFNESS, "04_stiffness", PUBLISHED, ("stiffness_maps",), stiffness.over_the_plane),
    Part(STIFFNESS, "04_stiffness", PUBLISHED, ("stiffness_layers",), stiffness_layers.by_layer),
    Part(STIFFNESS, "04_stiffness", PUBLISHED, ("stiffness_training",), stiffness.during_training),
    Part(STIFFNESS, "04_stiffness", PUBLISHED, ("stiffness_deep",), stiffness_layers.of_deep_networks),
    Part(
        INTERVALS,
        "05_generalization_intervals",
        PUBLISHED,
        ("generalization_intervals",),
        generalization_intervals.claims,
    ),
)


def all_claims(*, folder: Path | None = None, parts: Sequence[Part] = PARTS) -> pd.DataFrame:
    """Every claim that the published tables speak of, with its paper and where its figure stands.

    Args:
        folder: Folder of the published tables.
        parts: Which claims.

    Returns:
        The columns of `gendyn_lite.claims.Claim`, then ``paper``, ``chapter``, ``section`` and ``p_holm``: the p value
        after Holm's correction over all tested claims of the paper (missing where a claim has no test).

    Raises:
        UserError: Nothing is published, or a table was edited by hand.
    """
    there = set(published_experiments(folder=folder))
    frames = []
    for part in parts:
        if not there.issuperset(part.tables):
            continue
        runs = pd.concat([published(name, folder=folder) for name in part.tables], ignore_index=True)
        frames.append(part.claims(runs).assign(paper=part.paper, chapter=part.chapter, section=part.section))
    if not frames:
        raise UserError("there is no published table to take claims from: gendyn results publish EXPERIMENT")
    found = pd.concat(frames, ignore_index=True)
    corrected = [holm(rows["p_value"]) for _, rows in found.groupby("paper", sort=False)]
    return found.assign(p_holm=pd.concat(corrected))


def holm(p_values: pd.Series) -> pd.Series:
    """Holm's step-down correction: the chance of one false claim among all is then at most the level.

    Args:
        p_values: One for each claim; missing ones are no tests and stay missing.

    Source:
        Holm (1979), A simple sequentially rejective multiple test procedure.

    >>> holm(pd.Series([0.01, 0.04, float("nan"), 0.03])).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    tested = p_values.dropna().sort_values()
    factors = range(len(tested), 0, -1)
    corrected = (tested * list(factors)).cummax().clip(upper=1.0)
    return corrected.reindex(p_values.index)


def statements(claims: pd.DataFrame, *, level: float = LEVEL) -> pd.DataFrame:
    """One row per claim of a paper: on how many networks and data sets each verdict was reached.

    Args:
        claims: A table of `all_claims`.
        level: Where a corrected p value still counts.

    Returns:
        ``paper``, ``statement``, ``source``, ``chapter``, ``section``, ``subjects``, one column per verdict, and
        ``certain``: on how many it holds after the correction too.
    """
    keys = ["paper", "statement", "source", "chapter", "section"]
    rows = []
    for values, group in claims.groupby(keys, sort=False):
        counts = {verdict: int((group["verdict"] == verdict).sum()) for verdict in VERDICTS}
        certain = int(((group["verdict"] == VERDICTS[0]) & (group["p_holm"] <= level)).sum())
        rows.append({**dict(zip(keys, values, strict=True)), "subjects": len(group), **counts, "certain": certain})
    return pd.DataFrame(rows)
