"""The training runs that each chapter plans: one list, which sweeps, estimates and the page on what holds all read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gendyn_lite.config import RunConfig, check_range

Plan = Callable[[str, Mapping[str, Any]], list[RunConfig]]
CELLS, TABLE, COMMAND = "the chapter's cells", "its published table alone", "a command of its own"
MOST_SEEDS = 200


class Group(NamedTuple):
    """Runs that a chapter plans together, in the order in which it asks for them.

    Attributes:
        chapter: Name of the chapter's file.
        asked_by: What asks for them: `CELLS`, `TABLE` or `COMMAND`.
        plan: The runs, given a profile and the chapter's parameters.
    """

    chapter: str
    asked_by: str
    plan: Plan


def seeds_of(given: int, planned: int) -> range:
    """The seeds of a plan: as many as were asked for, 0 for the plan's own number.

    Raises:
        UserError: Fewer than 0, or more than 200.

    >>> list(seeds_of(2, 5)), len(seeds_of(0, 5))
    ([0, 1], 5)
    """
    check_range("seeds", given, 0, MOST_SEEDS, True)
    return range(given or planned)


def _random_labels(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    from gendyn_lite.experiments import random_labels

    return random_labels.plan(profile, **values)


def _regularizers(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    """The rows of a table: the chapter's parameters `networks` and `corruptions` are of the other runs."""
    from gendyn_lite.experiments import regularizers

    return regularizers.plan(profile, **_without(values, "networks", "corruptions"))


def _imagenet(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    from gendyn_lite.experiments import imagenet

    return imagenet.plan()


def _imagenet_mask(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    from gendyn_lite.experiments import imagenet_mask

    return imagenet_mask.plan()


def _paths(kind: str) -> Plan:
    def plan(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
        from gendyn_lite.experiments import path_functions

        return path_functions.plan(kind, profile, **values)

    return plan


def _fisher_mask(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    from gendyn_lite.experiments import fisher_mask

    return fisher_mask.plan(profile, **values)


def _stiffness(kind: str, *, planar: bool = False) -> Plan:
    """One kind of chapter 4, whose parameter `dataset` names a set of points; the runs on images keep theirs."""

    def plan(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
        from gendyn_lite.experiments import stiffness

        return stiffness.plan(kind, profile, **(values if planar else _without(values, "dataset")))

    return plan


def _generalization_intervals(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    from gendyn_lite.experiments import generalization_intervals

    return generalization_intervals.plan(profile, **values)


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


GROUPS = (
    Group("01_random_labels", CELLS, _random_labels),
    Group("01_random_labels", CELLS, _regularizers),
    Group("01_random_labels", COMMAND, _imagenet),
    Group("02_path_functions", CELLS, _paths("networks")),
    Group("02_path_functions", CELLS, _paths("unseen")),
    Group("02_path_functions", TABLE, _paths("deep")),
    Group("02_path_functions", CELLS, _paths("ratio")),
    Group("02_path_functions", COMMAND, _paths("imagenet")),
    Group("03_fisher_mask", CELLS, _fisher_mask),
    Group("03_fisher_mask", COMMAND, _imagenet_mask),
    Group("04_stiffness", CELLS, _stiffness("maps", planar=True)),
    Group("04_stiffness", CELLS, _stiffness("layers", planar=True)),
    Group("04_stiffness", CELLS, _stiffness("training")),
    Group("04_stiffness", TABLE, _stiffness("deep")),
    Group("05_generalization_intervals", CELLS, _generalization_intervals),
)
CHAPTERS = tuple(dict.fromkeys(group.chapter for group in GROUPS))


def planned(chapter: str, asked_by: str, profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    """The runs that something asks for in a chapter, in order; some of them may be there twice.

    Args:
        chapter: One of `CHAPTERS`.
        asked_by: `CELLS`, `TABLE` or `COMMAND`.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        values: Parameters of the chapter.

    >>> sorted({run.experiment for run in planned("02_path_functions", TABLE, "smoke", {})})
    ['path_deep']
    """
    wanted = [group for group in GROUPS if (group.chapter, group.asked_by) == (chapter, asked_by)]
    return [config for group in wanted for config in group.plan(profile, values)]
