"""Sections of claims, their tables together, and the correction for testing many. Knows no chapter by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from gendyn_lite.claims.verdicts import VERDICTS
from gendyn_lite.errors import UserError
from gendyn_lite.results.published import published, published_experiments

LEVEL = 0.025  # one-sided, as the verdicts' two-sided 95 % intervals
PUBLISHED = "published-results"  # the section of most pages


class Section(NamedTuple):
    """Claims that come from the same published tables and stand in the same section of a page.

    Attributes:
        paper: Author and year, or short title.
        anchor: The section's anchor on its page.
        tables: Published experiments; the claims are given all their rows together.
        claims: Tidy table → table of claims.
    """

    paper: str
    anchor: str
    tables: tuple[str, ...]
    claims: Callable[[pd.DataFrame], pd.DataFrame]


def all_claims(sections: Iterable[tuple[str, Section]], *, folder: Path | None = None) -> pd.DataFrame:
    """Every claim that the published tables speak of, with its paper and where its figure stands.

    Args:
        sections: Which claims: pairs of the page's name and a section of it.
        folder: Folder of the published tables.

    Returns:
        The columns of `gendyn_lite.claims.Claim`, then ``paper``, ``chapter``, ``section`` and ``p_holm``: the p value
        after Holm's correction over all tested claims of the paper (missing where a claim has no test).

    Raises:
        UserError: Nothing is published, or a table was edited by hand.
    """
    there = set(published_experiments(folder=folder))
    frames = []
    for chapter, section in sections:
        if not there.issuperset(section.tables):
            continue
        runs = pd.concat([published(name, folder=folder) for name in section.tables], ignore_index=True)
        frames.append(section.claims(runs).assign(paper=section.paper, chapter=chapter, section=section.anchor))
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
    tested = p_values.dropna().sort_values(kind="stable")
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
