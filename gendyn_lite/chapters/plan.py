"""What a chapter plans to train: parts of runs with common settings, expanded to configurations. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gendyn_lite.config import RunConfig, check_range
from gendyn_lite.errors import unknown_name

PROFILES = ("smoke", "colab", "full")
CELLS, TABLE, COMMAND = "the chapter's cells", "its published table alone", "a command of its own"
MOST_SEEDS = 200


@dataclass(frozen=True)
class Part:
    """Runs that share their settings: every variant with every seed.

    Attributes:
        settings: Fields of `RunConfig` that all of its runs share.
        variants: Fields that change from run to run.
        seeds: Number of seeds.
    """

    settings: Mapping[str, Any]
    variants: tuple[Mapping[str, Any], ...] = ({},)
    seeds: int = 3

    def configs(self, *, seeds: int = 0, **changes: Any) -> list[RunConfig]:
        """The configurations, seeds innermost.

        Args:
            seeds: This many seeds instead of the part's own; 0 keeps them.
            **changes: Fields of `RunConfig` that replace its settings; a variant replaces both.

        >>> part = Part({"model": "mlp_1x512"}, variants=({}, {"label_corruption": 1.0}), seeds=2)
        >>> [(run.label_corruption, run.seed) for run in part.configs(experiment="demo")]
        [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]
        """
        chosen = [RunConfig(**{**self.settings, **changes, **variant}) for variant in self.variants]
        return [config.replace(seed=seed) for config in chosen for seed in seeds_of(seeds, self.seeds)]


class Group(NamedTuple):
    """Runs that a chapter plans together, in the order in which it asks for them.

    Attributes:
        asked_by: What asks for them: `CELLS`, `TABLE` or `COMMAND`.
        plan: The runs, given a profile and the chapter's parameters.
    """

    asked_by: str
    plan: Callable[[str, Mapping[str, Any]], list[RunConfig]]


def check_profile(profile: str) -> None:
    """Refuse a profile that does not exist.

    Raises:
        UserError: The profile is not one of `PROFILES`.
    """
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)


def seeds_of(given: int, planned: int) -> range:
    """The seeds of a plan: as many as were asked for, 0 for the plan's own number.

    Raises:
        UserError: Fewer than 0, or more than 200.

    >>> list(seeds_of(2, 5)), len(seeds_of(0, 5))
    ([0, 1], 5)
    """
    check_range("seeds", given, 0, MOST_SEEDS, True)
    return range(given or planned)


def without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The parameters of a chapter, less some that are not meant for these runs.

    >>> without({"seeds": 2, "dataset": "mnist"}, "dataset")
    {'seeds': 2}
    """
    return {name: value for name, value in values.items() if name not in names}
