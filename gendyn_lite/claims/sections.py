"""Judging the claims of all pages: network by network, and over all networks. This module names no chapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gendyn_lite.claims import Entry, Record
from gendyn_lite.claims.inference import VERDICTS, Estimate, all_of, first, mean_of, p_values
from gendyn_lite.errors import UserError
from gendyn_lite.results.published import published, published_experiments

PUBLISHED = "published-results"  # the section of most pages


class Section(NamedTuple):
    """Claims that are judged by the same published tables and shown in the same section of a page.

    Attributes:
        record: The record that they are in.
        anchor: The section's anchor on its page.
        tables: Published experiments, whose rows are judged together.
        claims: Judges a tidy table, and returns a table of claims.
        only: Ids of the claims that the section shows; empty for all.
    """

    record: Record
    anchor: str
    tables: tuple[str, ...]
    claims: Callable[[pd.DataFrame], pd.DataFrame]
    only: tuple[str, ...] = ()


def all_claims(sections: Iterable[tuple[str, Section]], *, folder: Path | None = None) -> pd.DataFrame:
    """Judge claims on every network and data set in the published tables.

    Args:
        sections: The claims, as pairs of a page's name and one of its sections.
        folder: Folder of the published tables.

    Returns:
        The columns of `gendyn_lite.claims.Claim`, then ``paper``, ``chapter``, ``section``, and ``prior``: whether the
        criterion was on record before all of the claim's runs.

    Raises:
        UserError: Nothing is published, or a table was edited by hand.
    """
    frames = list(by_section(sections, folder=folder))
    if not frames:
        raise UserError("there is no published table to take claims from: gendyn results publish EXPERIMENT")
    return pd.concat(frames, ignore_index=True)


def by_section(sections: Iterable[tuple[str, Section]], *, folder: Path | None = None) -> Iterator[pd.DataFrame]:
    """Yield the claims of each section whose tables are published: the result of `all_claims` in parts.

    Args:
        sections: As for `all_claims`.
        folder: Folder of the published tables.
    """
    there = set(published_experiments(folder=folder))
    judged: dict[Any, pd.DataFrame] = {}  # sections with the same function and tables are judged once
    read = cache(partial(published, folder=folder))
    for chapter, section in sections:
        if not there.issuperset(section.tables):
            continue
        asked = section.tables, section.claims
        if asked not in judged:
            judged[asked] = _judged(section, read)
        found = judged[asked].assign(paper=section.record.paper, chapter=chapter, section=section.anchor)
        found["prior"] = found.pop("prior")  # the last column
        yield found[found["id"].isin(section.only or list(section.record.entries))]


def _judged(section: Section, read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Judge a section's tables, and add the column ``prior``; this includes claims that other sections show."""
    runs = pd.concat([read(name) for name in section.tables], ignore_index=True)
    found = section.claims(runs)
    prior = {name: on_record_before(section.record.entries[name], runs) for name in found["id"].unique()}
    return found.assign(prior=found["id"].map(prior).astype(bool))


def on_record_before(entry: Entry, runs: pd.DataFrame) -> bool:
    """Whether each of these runs records the claim's present fingerprint, so that the criterion came before the runs.

    Args:
        entry: The claim.
        runs: A tidy table with the column ``criteria`` of `gendyn_lite.results.published`.
    """
    used = entry.of(runs[["experiment", "criteria", *entry.only]])  # only the needed columns, since tables are wide
    mark = f"{entry.id}:{entry.fingerprint()}"
    return len(used) > 0 and all(mark in str(marks).split() for marks in used["criteria"].unique())


class _Pooled(NamedTuple):
    """A claim over all its networks: its row in the table, its entry, and its tests."""

    row: dict[str, Any]
    entry: Entry
    tests: Mapping[str, float] | None
    n: int


def statements(claims: pd.DataFrame, records: Iterable[Record]) -> pd.DataFrame:
    """Judge each claim over all networks and data sets, with Holm's correction for multiple testing.

    Networks with fewer seeds than the claim needs do not count. On the others the claim must hold on every one, or in
    the mean, as is on record. The p values of each verdict are corrected together over all primary claims of a paper,
    so that the probability of any false "holds" is at most 2.5 % for each paper. Other claims are not corrected.

    Args:
        claims: A table of `all_claims`.
        records: The records that the claims are in.

    Returns:
        A row per claim, with the columns ``paper``, ``id``, ``statement``, ``source``, ``paper_value``, ``criterion``,
        ``needed`` (its threshold), ``type``, ``statistic``, ``compared``, ``pooled``, ``primary``, ``unit``, ``prior``,
        ``chapter``, ``section``; ``networks``, the number of networks that decide, and ``others``, the number with too
        few seeds; ``subject``, ``value``, ``low`` and ``high`` of the network that is furthest from holding (or of the
        mean); ``lowest`` and ``highest`` value and the smallest ``n_seeds`` of the networks that decide (if none does,
        of all networks, with the largest ``n_seeds``); ``each``, the verdicts on those networks; ``alone``, the verdict
        without the correction; ``verdict``; and ``why`` it is undecided, if it is.
    """
    found: list[_Pooled] = []
    for record in records:
        for name, entry in record.entries.items():
            rows = claims[(claims["paper"] == record.paper) & (claims["id"] == name)]
            groups = [group for _, group in rows.groupby("statement", sort=False)] or [rows]
            found += [_pooled(entry, record.paper, group) for group in groups]
    table = pd.DataFrame([one.row for one in found]).assign(verdict=lambda rows: rows["alone"])
    families: dict[str, dict[int, Mapping[str, float]]] = {}
    for number, one in enumerate(found):
        if one.tests is not None and one.entry.primary:
            families.setdefault(one.row["paper"], {})[number] = one.tests
    for family in families.values():
        for number, tests in zip(family, corrected(list(family.values())), strict=True):
            table.loc[number, "verdict"] = first(tests, n=found[number].n, needed=found[number].entry.seeds)
    return table.assign(why=[_why(row) for row in table.to_dict("records")])


def _why(row: Mapping[Hashable, Any]) -> str:
    """Say why a claim is undecided: too few seeds, networks that differ, or an unclear result; else empty."""
    if row["verdict"] != "undecided":
        return ""
    if not row["networks"]:
        return "too few seeds"
    return "networks differ" if row["alone"] == "undecided" and len({*row["each"]}) > 1 else "not clear"


def corrected(each: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Apply Holm's correction to several claims, for each verdict separately.

    Args:
        each: The p values of each claim by verdict, as from `gendyn_lite.claims.inference.places`. Differences and
            equivalences test 'holds' differently, but are corrected together.

    >>> corrected([{"holds": 0.01, "holds, small": 0.001}, {"holds": 0.02, "reversed": 0.9}])
    [{'holds': 0.02, 'holds, small': 0.001}, {'holds': 0.02, 'reversed': 0.9}]
    """
    adjusted = pd.DataFrame([dict(tests) for tests in each], dtype=float).apply(holm)
    return [{name: float(adjusted[name].iloc[number]) for name in tests} for number, tests in enumerate(each)]


def _pooled(entry: Entry, paper: str, rows: pd.DataFrame) -> _Pooled:
    """Judge a claim over the networks of some rows of `all_claims`; there are no rows if it was not run."""
    run = rows[rows["n_seeds"] > 0]
    enough = run[run["n_seeds"] >= entry.seeds]
    kept = ("id", "source", "type", "compared", "pooled", "primary", "statistic", "unit")
    about = {name: getattr(entry, name) for name in kept}
    words = {"statement": entry.statement, "paper_value": entry.paper_value, "criterion": entry.statistic}
    words |= {} if len(rows) or "{" not in entry.paper_value else {"paper_value": "–"}  # its names need runs
    words |= {"chapter": "", "section": ""}
    about |= {name: rows[name].iloc[0] if len(rows) else word for name, word in words.items()}
    about["needed"] = str(about["criterion"]).removeprefix(f"{entry.statistic} is ")
    about["prior"] = bool(len(rows) and rows["prior"].all())
    about |= {"paper": paper, "networks": len(enough), "others": len(run) - len(enough)}
    about["each"] = tuple(enough["verdict"])
    told = enough if len(enough) else run
    about |= {"lowest": told["value"].min(), "highest": told["value"].max()}
    about["n_seeds"] = int(told["n_seeds"].agg("min" if len(enough) else "max")) if len(run) else 0
    about |= {"subject": "", "value": math.nan, "low": math.nan, "high": math.nan}
    untested = entry.type in ("existence", "computed")
    if len(enough) and not untested:
        return _tested(entry, about, enough)
    alone = "undecided" if len(run) else "not run"
    if len(run) and untested:
        least = run.sort_values("value").iloc[0]
        about |= {"subject": least["subject"], "value": least["value"]}
        alone = least["verdict"] if run["verdict"].nunique() == 1 else "undecided"
    return _Pooled({**about, "alone": alone}, entry, None, 0)


def _tested(entry: Entry, about: dict[str, Any], rows: pd.DataFrame) -> _Pooled:
    """Judge a claim over networks with enough seeds."""
    numbers = zip(rows["center"], rows["error"], rows["freedom"], rows["n_seeds"], strict=True)
    each = [Estimate(center, error, freedom, entry.scale, n) for center, error, freedom, n in numbers]
    tests = [
        p_values(one, delta=delta, null=null, sign=entry.sign)
        for one, delta, null in zip(each, rows["delta"], rows["null"], strict=True)
    ]
    if entry.pooled == "mean":
        mean, (low, high) = mean_of(each), entry.interval(mean_of(each))
        p = p_values(mean, delta=rows["delta"].iloc[0], null=rows["null"].iloc[0], sign=entry.sign)
        about |= {"subject": "mean of all", "value": mean.value, "low": low, "high": high}
    else:
        p = all_of(tests)
        decisive = [next(iter(entry.places(one).values())) for one in tests]
        weakest = rows.iloc[int(np.argmax(np.nan_to_num(decisive, nan=np.inf)))]
        about |= {name: weakest[name] for name in ("subject", "value", "low", "high")}
    allowed, n = entry.places(p), int(rows["n_seeds"].min())
    return _Pooled({**about, "alone": first(allowed, n=n, needed=entry.seeds)}, entry, allowed, n)


def holm(p_values: pd.Series) -> pd.Series:
    """Apply Holm's step-down correction, which bounds the probability of any false claim by the level.

    Args:
        p_values: A p value for each claim; NaN stands for no test, and stays.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.

    >>> holm(pd.Series([0.01, 0.04, float("nan"), 0.03])).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    tested = p_values.dropna().sort_values(kind="stable")
    factors = range(len(tested), 0, -1)
    adjusted = (tested * list(factors)).cummax().clip(upper=1.0)
    return adjusted.reindex(p_values.index)


def counts(statements: pd.DataFrame) -> dict[str, int]:
    """Count the claims with each verdict, in the order of `VERDICTS`; verdicts without claims are left out.

    Args:
        statements: A table of `statements`.

    >>> counts(pd.DataFrame({"verdict": ["undecided", "holds", "undecided"]}))
    {'holds': 1, 'undecided': 2}
    """
    found = statements["verdict"].value_counts()
    return {name: int(found[name]) for name in VERDICTS if name in found}
