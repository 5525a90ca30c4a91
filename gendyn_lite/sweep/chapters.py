"""The training runs of each chapter: which they are at a size, and how one is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gendyn_lite import notebooks
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import Run

Plan = Callable[[str, Mapping[str, Any]], list[RunConfig]]


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
    found = _CHAPTERS.get(Path(chapter).stem)
    return found() if found else None


def swept(chapter: str) -> Runs:
    """The runs of a chapter that has some.

    Raises:
        UserError: There is no such chapter, or it trains nothing.
    """
    notebooks.chapter_path(chapter)
    found = runs_of(chapter)
    if found is None:
        others = [name for name in notebooks.chapters() if name in _CHAPTERS]
        raise UserError(f"chapter {chapter!r} trains nothing to sweep: take one of {', '.join(others)}")
    return found


def unique(configs: list[RunConfig]) -> list[RunConfig]:
    """Each configuration once, in order: chapters share some of their runs.

    >>> len(unique([RunConfig(experiment="a"), RunConfig(experiment="a"), RunConfig(experiment="b")]))
    2
    """
    return list({str(config.as_dict()): config for config in configs}.values())


def _random_labels() -> Runs:
    from gendyn_lite.experiments import random_labels, regularizers, runner

    def plan(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
        switches = {name: value for name, value in values.items() if name not in ("networks", "corruptions")}
        return [*random_labels.plan(profile, **values), *regularizers.plan(profile, **switches)]

    return Runs(plan, _nothing, runner.load_or_run)


def _path_functions() -> Runs:
    from gendyn_lite.experiments import path_functions

    def plan(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
        return [run for kind in ("networks", "unseen", "ratio") for run in path_functions.plan(kind, profile, **values)]

    def more(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
        return path_functions.plan("deep", profile, **values)

    return Runs(plan, more, path_functions.run)


def _fisher_mask() -> Runs:
    from gendyn_lite.experiments import fisher_mask

    def plan(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
        return fisher_mask.plan(profile, **values)

    return Runs(plan, _nothing, fisher_mask.run)


def _stiffness() -> Runs:
    from gendyn_lite.experiments import stiffness

    def plan(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
        points = [run for kind in ("maps", "layers") for run in stiffness.plan(kind, profile, **values)]
        return points + stiffness.plan("training", profile, **_without_dataset(values))

    def more(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
        return stiffness.plan("deep", profile, **_without_dataset(values))

    return Runs(plan, more, stiffness.run)


def _generalization_intervals() -> Runs:
    from gendyn_lite.experiments import generalization_intervals as intervals

    def plan(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
        return intervals.plan(profile, **values)

    def run(config: RunConfig, **options: Any) -> Run:
        return intervals.run_all([config], **options)[0]

    return Runs(plan, _nothing, run)


def _nothing(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    return []


def _without_dataset(values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameter `dataset` of the chapter on stiffness names a set of points; the other runs keep theirs."""
    return {name: value for name, value in values.items() if name != "dataset"}


_CHAPTERS: dict[str, Callable[[], Runs]] = {
    "01_random_labels": _random_labels,
    "02_path_functions": _path_functions,
    "03_fisher_mask": _fisher_mask,
    "04_stiffness": _stiffness,
    "05_generalization_intervals": _generalization_intervals,
}
