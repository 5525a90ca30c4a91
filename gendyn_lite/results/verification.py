"""Whether the published tables are what the runs say, and the book's figures are what the tables say."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import nbformat
import pandas as pd

from gendyn_lite.errors import UserError
from gendyn_lite.results.benchmarks import benchmark, benchmark_names
from gendyn_lite.results.published import as_published, published, published_experiments, published_root
from gendyn_lite.results.runs import Run, read_run, runs_root

# A caption of `gendyn_lite.results.provenance_line`: the profile, and groups of runs by the beginning of their id.
_CAPTION = re.compile(r"profile ([a-z]+(?: and [a-z]+)*)(: method demo)?[^;]*; [^;]*; groups ([^.]*)")
_GROUP = re.compile(r"\b[0-9a-f]{8}\b")


class Verified(NamedTuple):
    """What was checked of one published experiment.

    Attributes:
        experiment: Its name.
        runs: Published runs.
        rows: Published rows.
        recomputed: Runs that were at hand, and give the published rows to the digit.
    """

    experiment: str
    runs: int
    rows: int
    recomputed: int


def verify_experiment(experiment: str, *, root: str | Path | None = None, folder: Path | None = None) -> Verified:
    """Check one published experiment, and compute its rows again from the runs that are at hand.

    Args:
        experiment: Name of the experiment.
        root: Folder of the runs.
        folder: Folder of the published tables.

    Raises:
        UserError: As `gendyn_lite.results.verify`; or a run at hand gives other rows than those published (named).
    """
    table = published(experiment, folder=folder)  # verified
    here = (folder or published_root()) / experiment
    runs = _at_hand(experiment, set(table["run_id"]), runs_root(root))
    if runs:
        for name, text in as_published(runs).items():
            _compare(here / name, pd.read_csv(io.StringIO(text), dtype=str), {run.run_id for run in runs})
    return Verified(experiment, table["run_id"].nunique(), len(table), len(runs))


def _at_hand(experiment: str, ids: set[str], root: Path) -> list[Run]:
    """The published runs that lie, complete, in a folder of runs."""
    paths = (root / experiment / run_id for run_id in sorted(ids))
    runs = [read_run(path) for path in paths if (path / "config.json").is_file()]
    return [run for run in runs if run.complete]


def _compare(path: Path, again: pd.DataFrame, ids: set[str]) -> None:
    """Refuse a published file of which a row is not the one that its run gives, digit for digit."""
    then = pd.read_csv(path, dtype=str)
    then = then[then["run_id"].isin(ids)]
    keys = ["run_id", "epoch"] if "epoch" in then else ["run_id"]
    columns = sorted(map(str, then.columns))  # one that only other runs have is empty for these
    one, other = (
        frame.reindex(columns=columns).sort_values(keys).fillna("").to_dict("records") for frame in (then, again)
    )
    if len(one) != len(other):
        raise UserError(f"{path}: {len(one)} rows of runs that have {len(other)}: publish it again")
    for published_row, row in zip(one, other, strict=True):
        name = next((name for name in columns if published_row[name] != row[name]), None)
        if name is not None:
            raise UserError(
                f"{path}: {name} of run {row['run_id']} is {published_row[name]!r}, its run says {row[name]!r}: "
                "publish it again"
            )


def verify_benchmarks(*, folder: Path | None = None) -> int:
    """Check every published benchmark; their number.

    Raises:
        UserError: One was edited by hand.
    """
    names = benchmark_names(folder=folder)
    for name in names:
        benchmark(name, folder=folder)
    return len(names)


def verify_figures(notebooks: Iterable[Path], *, folder: Path | None = None) -> int:
    """Check that every published figure of the notebooks has rows behind it: its caption names groups of runs.

    Args:
        notebooks: Executed notebooks.
        folder: Folder of the published tables.

    Returns:
        The number of captions checked. Those of smoke runs, which are made with the page, are not counted.

    Raises:
        UserError: A caption names a group that no table has (the notebook, the caption).
    """
    known = {
        group[:8]
        for name in published_experiments(folder=folder)
        for group in published(name, folder=folder)["group_id"]
    }
    count = 0
    for path in notebooks:
        for caption in _captions(path):
            unknown = sorted(set(_GROUP.findall(caption)) - known)
            if unknown:
                raise UserError(
                    f"{path.name}: a figure names group {unknown[0]}, which no published table has: publish its runs, "
                    "or execute the chapter again (gendyn refresh)"
                )
            count += 1
    return count


def _captions(path: Path) -> list[str]:
    """The groups that captions of published figures and tables name."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            html = str(output.get("data", {}).get("text/html", ""))
            found += [groups for _, demo, groups in _CAPTION.findall(html) if not demo]
    return found
