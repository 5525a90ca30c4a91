"""Reads the claims on record in a file; mistakes are reported in one line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from gendyn_lite.claims import COMPARED, Entry, Record, Statistics
from gendyn_lite.claims.inference import FEWEST, SCALES
from gendyn_lite.errors import UserError, unknown_name

# Type of claim → the possible sets of keys of its criterion, in the order of the file.
CRITERIA = {
    "existence": (("at_least",),),
    "difference": (("more_than", "delta"), ("less_than", "delta")),
    "association": (("more_than", "delta"), ("less_than", "delta")),
    "equivalence": (("equal_to", "delta"),),
    "computed": ((),),
}
POOLED = ("every", "mean")
NUMBER = (int, float, str)  # a number, or the name of a value that the runs provide
# Type of a field of `Entry` → the types of its value in a file, and words for them.
KINDS = {
    "str": ((str,), "text"),
    "tuple[str, ...]": ((list,), "a list"),
    "Mapping[str, float | str]": ((dict,), "a table such as { more_than = 0, delta = 0.1 }"),
    "Mapping[str, list[str]]": ((dict,), 'a table such as { model = ["mlp"] }'),
    "int": ((int,), "a whole number"),
    "bool": ((bool,), "true or false"),
    "float": ((int, float), "a number"),
    "float | str": (NUMBER, "a number, or the name of one"),
}
FIELDS = {field.name: KINDS[str(field.type)] for field in fields(Entry)}
REQUIRED = [field.name for field in fields(Entry) if field.default is field.default_factory is MISSING]


def on_record(path: str | Path, *statistics: Statistics) -> Record:
    """Read the claims of a file, and check that each has a statistic.

    Args:
        path: A file of claims, or the module beside it that computes their statistics.
        *statistics: Groups of statistics by the ids of their claims; together one for every claim of the file.

    Raises:
        UserError: As for `read`; or a claim has no statistic, or a statistic has no claim.
    """
    path = Path(path).with_suffix(".toml")
    record = read(path)
    computed = [name for group in statistics for name in group]
    for name in record.entries:
        if name not in computed:
            raise UserError(f"{_place(path)}: claim {name!r} has no statistic")
    for name in computed:
        if name not in record.entries:
            raise UserError(f"{_place(path)}: claim {name!r} has a statistic and no entry")
    return record


def read(path: Path) -> Record:
    """Read the claims of a file.

    Args:
        path: The file.

    Raises:
        UserError: The file cannot be read, an entry lacks a field or has an unknown one, a value or a criterion is
            invalid, or an id is duplicated.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{_place(path)}: {error}") from None
    rows, paper = content.get("claims", []), content.get("paper")
    if not isinstance(paper, str) or not rows:
        raise UserError(f'{_place(path)}: expected the paper\'s name as paper = "…" and its claims as [[claims]]')
    entries: dict[str, Entry] = {}
    for row in rows:
        problem = _problem(row) or ("is there twice" if row["id"] in entries else "")
        if problem:
            raise UserError(f"{_place(path)}: claim {row.get('id', row.get('statement'))!r} {problem}")
        entries[row["id"]] = Entry(**{**row, "experiments": tuple(row["experiments"])})
    return Record(paper, entries)


def _place(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _problem(row: Mapping[str, Any]) -> str:
    """Say what is wrong with an entry of a file; empty if nothing is."""
    for name, value in row.items():
        if name not in FIELDS:
            return f"has an {unknown_name('field', name, FIELDS)}"
        kinds, expected = FIELDS[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            return f"has the {name} {value!r}, expected {expected}"
        if value == "":
            return f"has an empty {name}"
    for name in REQUIRED:
        if name not in row:
            return f"has no {name}"
    choices = {"type": CRITERIA, "scale": SCALES, "pooled": POOLED, "compared": COMPARED}
    for name, known in choices.items():
        if name in row and row[name] not in known:
            return f"has an {unknown_name(name, row[name], known)}"
    return _criterion_problem(row)


def _criterion_problem(row: Mapping[str, Any]) -> str:
    """Say what is wrong with the criterion of an entry whose fields are valid; empty if nothing is."""
    kind, criterion, tested = row["type"], row["criterion"], row["type"] not in ("existence", "computed")
    if tuple(criterion) not in CRITERIA[kind]:
        valid = "; ".join(" and ".join(names) or "{}" for names in CRITERIA[kind])
        return f"has the criterion {' and '.join(criterion) or '{}'}, expected of type {kind}: {valid}"
    wrong = [value for value in criterion.values() if not isinstance(value, NUMBER)]
    if wrong:
        return f"has {wrong[0]!r} in its criterion, expected {KINDS['float | str'][1]}"
    if tested and not (isinstance(criterion["delta"], str) or criterion["delta"] > 0):
        return f"has the delta {criterion['delta']!r}, expected the smallest effect that matters, above 0"
    null, range_ = next(iter(criterion.values()), ""), SCALES[row["scale"]]
    if tested and not (isinstance(null, str) or range_.low < null < range_.high):
        return f"has {null!r} as no effect, expected it between {range_.low:g} and {range_.high:g} ({row['scale']})"
    if tested and row["seeds"] < FEWEST:
        return f"needs {row['seeds']} seeds, expected at least {FEWEST} of type {kind}"
    return "compares runs and does not say what is equal (compared)" if tested and "compared" not in row else ""
