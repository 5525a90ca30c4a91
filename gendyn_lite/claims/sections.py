"""Claims on record, the sections of pages that show them, the correction for testing many. Knows no chapter by name.

Each chapter's claims are on record in a file, `claims.toml`; what the chapter computes is one statistic for each.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gendyn_lite.claims import VERDICTS, AtLeast, Below, Claim, Criterion, Estimate, Near, judge
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.published import published, published_experiments

LEVEL = 0.025  # one-sided, as the verdicts' two-sided 95 % intervals
PUBLISHED = "published-results"  # the section of most pages
CRITERIA: dict[tuple[str, ...], Callable[..., Criterion]] = {
    ("at_least", "weak"): AtLeast,
    ("below",): Below,
    ("near", "margin"): Near,
}
NUMBER = (int, float, str)  # or what the runs tell under that name
TEXTS = ("id", "statement", "source", "paper_value", "statistic")
KINDS = {**dict.fromkeys(TEXTS, (str,)), "criterion": (dict,), "null_value": NUMBER}  # the fields of an entry
EXPECTED = {(str,): "text", (dict,): "a table such as { below = 0.5 }", NUMBER: "a number, or the name of one"}
# Id of a claim → runs to one value a seed, or None where the claim says nothing of these runs.
Statistics = Mapping[str, Callable[..., "pd.Series | Estimate | None"]]


@dataclass(frozen=True)
class Entry:
    """A claim as it is on record. Words and numbers may name what only the runs tell, such as ``"chance"``.

    Attributes:
        id: A short name that stays, in snake_case.
        statement: The claim, in our words; ``{name}`` stands for a word that the runs tell, here and in `paper_value`.
        source: Figure, table or section of the paper.
        paper_value: The paper's figure as text, or what it says in words.
        statistic: What is measured, one value a seed, in words.
        criterion: What the mean and its interval must satisfy, one of ``at_least`` (the smallest effect that matters)
            and ``weak``, ``below``, ``near`` and ``margin``.
        null_value: What the opposite of the claim predicts; the effect is measured from it.
    """

    id: str
    statement: str
    source: str
    paper_value: str
    statistic: str
    criterion: Mapping[str, float | str]
    null_value: float | str

    def judge(self, values: pd.Series | Estimate, subject: str, known: Mapping[str, Any]) -> Claim:
        """The claim with its verdict on some values.

        Args:
            values: One value a seed, or an estimate that brings its own interval.
            subject: Network and data.
            known: What the runs tell, by name.

        Raises:
            UserError: The claim names what is not known.

        >>> about = {"id": "fits", "statement": "They fit {what}", "source": "Fig. 1", "paper_value": "1.0"}
        >>> held = {"statistic": "accuracy", "criterion": {"at_least": 0.9, "weak": 0.5}, "null_value": "chance"}
        >>> known = {"what": "labels", "chance": 0.1}
        >>> claim = Entry(**about, **held).judge(pd.Series([1.0] * 3), "mlp", known)
        >>> claim.statement, claim.verdict, claim.effect
        ('They fit labels', 'holds', 0.9)
        """
        names = _names(self.criterion)
        try:
            criterion = CRITERIA[names](*(_number(self.criterion[name], known) for name in names))
            null_value = _number(self.null_value, known)
            statement, paper_value = (text.format_map(known) for text in (self.statement, self.paper_value))
        except KeyError as name:
            raise UserError(f"claim {self.id!r} names {name}, which its runs do not tell") from None
        about = {"statement": statement, "source": self.source, "paper_value": paper_value, "subject": subject}
        return judge(values, criterion, quantity=self.statistic, null_value=null_value, **about)


def _names(criterion: Mapping[str, Any]) -> tuple[str, ...]:
    """The numbers of a criterion in their order, none if there is no such criterion."""
    return next((names for names in CRITERIA if set(names) == set(criterion)), ())


def _number(value: float | str, known: Mapping[str, Any]) -> float:
    """A number of the record, or what the runs tell under that name."""
    return known[value] if isinstance(value, str) else value


@dataclass(frozen=True)
class Record:
    """The claims of one file.

    Attributes:
        paper: Author and year, or short title.
        entries: The claims by id, in the order of the file.
    """

    paper: str
    entries: Mapping[str, Entry]

    def judge(self, subject: str, statistics: Statistics, *runs: Any, **known: Any) -> list[Claim]:
        """Some of the claims with their verdicts, in the order of the statistics.

        Args:
            subject: Network and data.
            statistics: The statistic of each of these claims, by id.
            *runs: What each statistic is computed from.
            **known: What the runs tell, for claims that name it.

        Returns:
            One claim for each statistic that is not None.

        Raises:
            UserError: A claim names what is not known.
        """
        found = ((self.entries[name], statistic(*runs)) for name, statistic in statistics.items())
        return [entry.judge(values, subject, known) for entry, values in found if values is not None]


def on_record(path: str | Path, *statistics: Statistics) -> Record:
    """The claims of a file, each of which has its statistic.

    Args:
        path: A file of claims, or the module beside it that computes their statistics.
        *statistics: Groups of statistics by the ids of their claims: together one for every claim of the file.

    Raises:
        UserError: The file cannot be read, an entry lacks a field or has another, an id is there twice, a criterion is
            unknown, or a claim has no statistic, or a statistic no claim.
    """
    path = Path(path).with_suffix(".toml")
    place = f"{path.parent.name}/{path.name}"
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: {error}") from None
    rows, paper = content.get("claims", []), content.get("paper")
    if not isinstance(paper, str) or not rows:
        raise UserError(f'{place}: expected the paper\'s name as paper = "…" and its claims as [[claims]]')
    for row in rows:
        if problem := _problem(row):
            raise UserError(f"{place}: claim {row.get('id', row.get('statement'))!r} {problem}")
    ids, computed = [row["id"] for row in rows], [name for group in statistics for name in group]
    problems = {
        "is there twice": [name for name in ids if ids.count(name) > 1],
        "has no statistic": [name for name in ids if name not in computed],
        "has a statistic and no entry": [name for name in computed if name not in ids],
    }
    for problem, names in problems.items():
        if names:
            raise UserError(f"{place}: claim {names[0]!r} {problem}")
    return Record(paper, {row["id"]: Entry(**row) for row in rows})


def _problem(row: Mapping[str, Any]) -> str:
    """What is wrong with an entry of a file, in words; nothing if it is one."""
    for name in row:
        if name not in KINDS:
            return f"has an {unknown_name('field', name, KINDS)}"
    for name, kind in KINDS.items():
        if name not in row:
            return f"has no {name}"
        if not isinstance(row[name], kind):
            return f"has the {name} {row[name]!r}, expected {EXPECTED[kind]}"
    criterion = row["criterion"]
    if not _names(criterion):
        valid = "; ".join(" and ".join(names) for names in CRITERIA)
        return f"has the unknown criterion {' and '.join(criterion) or '{}'}, expected {valid}"
    wrong = [value for value in criterion.values() if not isinstance(value, NUMBER)]
    return f"has {wrong[0]!r} in its criterion, expected {EXPECTED[NUMBER]}" if wrong else ""


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
