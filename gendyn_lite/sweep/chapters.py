"""The training runs of each chapter as a sweep takes them: which they are at a size, and how one is run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gendyn_lite import notebooks
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.experiments.chapters import CELLS, CHAPTERS, TABLE, Plan, planned
from gendyn_lite.results.runs import Run


class Runs(NamedTuple):
    """What a chapter trains.

    Attributes:
        plan: The runs that its cells ask for, given a profile and the chapter's parameters.
        more: Runs of its experiments that only its published tables show.
        run: The complete run of one of them: loaded, resumed or trained. Takes profile and root by name.
    """

    plan: Plan
    more: Plan
    run: Callable[..., Run]


def runs_of(chapter: str) -> Runs | None:
    """The runs of a chapter; None for one that trains nothing that can be run alone.

    >>> runs_of("00_data") is None
    True
    """
    name = Path(chapter).stem
    if name not in CHAPTERS:
        return None
    return Runs(partial(planned, name, CELLS), partial(planned, name, TABLE), _run_of(name))


def _run_of(chapter: str) -> Callable[..., Run]:
    """How one run of a chapter is done, with its probes."""
    from gendyn_lite.experiments import fisher_mask, generalization_intervals, path_functions, runner, stiffness

    return {
        "01_random_labels": runner.load_or_run,
        "02_path_functions": path_functions.run,
        "03_fisher_mask": fisher_mask.run,
        "04_stiffness": stiffness.run,
        "05_generalization_intervals": generalization_intervals.run,
    }[chapter]


def swept(chapter: str) -> Runs:
    """The runs of a chapter that has some.

    Raises:
        UserError: There is no such chapter, or it trains nothing.
    """
    notebooks.chapter_path(chapter)
    found = runs_of(chapter)
    if found is None:
        others = [name for name in notebooks.chapters() if name in CHAPTERS]
        raise UserError(f"chapter {chapter!r} trains nothing to sweep: take one of {', '.join(others)}")
    return found


def unique(configs: list[RunConfig]) -> list[RunConfig]:
    """Each configuration once, in order: chapters share some of their runs.

    >>> len(unique([RunConfig(experiment="a"), RunConfig(experiment="a"), RunConfig(experiment="b")]))
    2
    """
    return list({str(config.as_dict()): config for config in configs}.values())
