"""What has been published, whether it is what the runs say, and whether the book's figures are what the tables say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import nbformat
import pandas as pd

from gendyn_lite.errors import UserError
from gendyn_lite.results.published import (
    benchmark,
    benchmark_names,
    opened,
    published,
    published_experiments,
    published_root,
)
from gendyn_lite.results.publishing import as_text, difference
from gendyn_lite.results.runs import read_run, runs_root
from gendyn_lite.results.tables import summarize

SHOWN = 3  # networks that a row names


def status(*, folder: Path | None = None) -> pd.DataFrame:
    """One row for each published experiment, data set, profile and device.

    Args:
        folder: Folder of the published tables.

    Returns:
        ``experiment``, ``data``, ``profile``, ``device``, ``networks`` (names, or how many), ``examples`` (training
        examples, smallest to largest), ``runs``, ``seeds`` (fewest of any setting), ``rows`` (of the published table)
        and ``hours`` of training, summed over runs.

    Raises:
        UserError: A table was edited by hand.
    """
    found = []
    for name in published_experiments(folder=folder):
        table = published(name, folder=folder)
        for keys, rows in table.groupby(["data", "profile", "device"], sort=False):
            runs = summarize(rows)
            networks, examples = runs["network"].unique(), {int(runs["n_train"].min()), int(runs["n_train"].max())}
            found.append(
                {
                    "experiment": name,
                    **dict(zip(("data", "profile", "device"), keys, strict=True)),
                    "networks": ", ".join(networks) if len(networks) <= SHOWN else f"{len(networks)} networks",
                    "examples": " to ".join(f"{count:,}" for count in sorted(examples)),
                    "runs": len(runs),
                    "seeds": int(runs.groupby("group_id")["seed"].nunique().min()),
                    "rows": len(rows),
                    "hours": round(float(runs["seconds"].sum()) / 3600, 2),
                }
            )
    return pd.DataFrame(found)


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
    paths = (runs_root(root) / experiment / run_id for run_id in sorted(then.records))
    runs = [run for run in (read_run(path) for path in paths if path.exists()) if run.whole()]
    for run in runs:
        found = difference(then, as_text([run]), run.run_id)
        if found:
            raise UserError(f"{(folder or published_root()) / experiment}: {found}: publish it again with --replace")
    return Verified(experiment, len(then.records), len(table), len(runs))


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
