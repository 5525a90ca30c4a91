"""Whether the published tables are what the runs say, and the book's figures are what the tables say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import nbformat

from gendyn_lite.errors import UserError
from gendyn_lite.results.benchmarks import benchmark, benchmark_names
from gendyn_lite.results.published import opened, published, published_experiments, published_root
from gendyn_lite.results.publishing import as_text, difference
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
        recomputed: Runs that were at hand, and give the published rows to the digit (but for their seconds and machine,
            where a run was made again).
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
    then = opened(experiment, folder=folder)
    runs = _at_hand(runs_root(root) / experiment, then.records)
    for run in runs:
        found = difference(then, as_text([run]), run.run_id)
        if found:
            raise UserError(f"{(folder or published_root()) / experiment}: {found}: publish it again with --replace")
    return Verified(experiment, len(then.records), len(table), len(runs))


def _at_hand(place: Path, ids: Iterable[str]) -> list[Run]:
    """The published runs that lie, complete, in a folder of runs."""
    paths = (place / run_id for run_id in sorted(ids))
    runs = [read_run(path) for path in paths if path.exists()]
    return [run for run in runs if run.whole()]


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
    try:
        cells = nbformat.read(path, as_version=4).cells
    except (ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        raise UserError(f"{path} is no notebook ({str(error).splitlines()[0]}): restore it") from None
    for cell in cells:
        for output in cell.get("outputs", []):
            html = str(output.get("data", {}).get("text/html", ""))
            found += [groups for _, demo, groups in _CAPTION.findall(html) if not demo]
    return found
