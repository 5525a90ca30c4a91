"""The list of chapters, and the building blocks of their training plans. No torch.

`CHAPTERS` is the single list from which plans, sweeps, estimates and the page 'What holds' are made. A plan consists of
parts, groups of runs with common settings, which are expanded to configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from gendyn_lite.claims import Record
from gendyn_lite.claims.record import read
from gendyn_lite.claims.sections import Section
from gendyn_lite.config import RunConfig, check_range
from gendyn_lite.results.runs import Run

CELLS, TABLE, COMMAND = "the chapter's cells", "its published table alone", "a command of its own"
MOST_SEEDS = 200


@dataclass(frozen=True)
class Part:
    """Runs that share their settings: every variant with every seed.

    Attributes:
        settings: Fields of `RunConfig` that all runs share.
        variants: Fields that differ from run to run.
        seeds: Number of seeds.
        first_seed: The first seed. It is above the seeds of earlier runs where a claim's criterion must be on record
            before the runs that it is judged by.
    """

    settings: Mapping[str, Any]
    variants: tuple[Mapping[str, Any], ...] = ({},)
    seeds: int = 3
    first_seed: int = 0

    def configs(self, *, seeds: int = 0, **changes: Any) -> list[RunConfig]:
        """Return the configurations, seeds innermost.

        Args:
            seeds: Number of seeds instead of the part's own; 0 keeps it.
            **changes: Fields of `RunConfig` that override the settings; variants override both.

        >>> part = Part({"model": "mlp_1x512"}, variants=({}, {"label_corruption": 1.0}), seeds=2)
        >>> [(run.label_corruption, run.seed) for run in part.configs(experiment="demo")]
        [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]
        """
        chosen = [RunConfig(**{**self.settings, **changes, **variant}) for variant in self.variants]
        numbers = [self.first_seed + number for number in seeds_of(seeds, self.seeds)]
        return [config.replace(seed=seed) for config in chosen for seed in numbers]


class Group(NamedTuple):
    """Runs that a chapter plans together.

    Attributes:
        asked_by: What needs these runs: `CELLS`, `TABLE` or `COMMAND`.
        plan: Gives the runs in order, for a profile and the chapter's parameters.
    """

    asked_by: str
    plan: Callable[[str, Mapping[str, Any]], list[RunConfig]]


def seeds_of(given: int, planned: int) -> range:
    """Return the seeds of a plan: the first `given` ones, or the first `planned` ones if `given` is 0.

    Raises:
        UserError: `given` is below 0 or above 200.

    >>> list(seeds_of(2, 5)), len(seeds_of(0, 5))
    ([0, 1], 5)
    """
    check_range("seeds", given, 0, MOST_SEEDS, True)
    return range(given or planned)


def without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the parameters of a chapter without those that do not apply to some of its runs.

    >>> without({"seeds": 2, "dataset": "mnist"}, "dataset")
    {'seeds': 2}
    """
    return {name: value for name, value in values.items() if name not in names}


def parts_for(
    plans: Mapping[tuple[str, str], Sequence[Part]], size: str, dataset: str, own: str
) -> tuple[Sequence[Part], str]:
    """Choose the parts of a plan for a data set, falling back to those for the profile's default data set.

    Args:
        plans: Parts by profile and data set.
        size: The profile.
        dataset: The data set asked for; empty for the default.
        own: The profile's default data set.

    Returns:
        The parts, and the name of the data set to train on.

    >>> parts_for({("smoke", "digits"): (Part({}),)}, "smoke", "mnist", "digits")[1]
    'mnist'
    """
    name = dataset or own
    return plans.get((size, name)) or plans[size, own], name


@dataclass(frozen=True)
class Chapter:
    """A folder of `gendyn_lite.chapters`, and the page that shows it.

    Its ``runs.py`` defines ``GROUPS``, the planned runs, and ``run``, which loads, resumes or trains one of them; its
    ``claims.py`` defines ``SECTIONS``. Both are imported only when needed.

    Attributes:
        name: Name of the folder.
        notebook: Name of the notebook.
        trains: Whether it plans training runs.
    """

    name: str
    notebook: str
    trains: bool = True

    def module(self, name: str) -> ModuleType:
        """Import one of the chapter's modules."""
        return import_module(f"gendyn_lite.chapters.{self.name}.{name}")

    @cached_property
    def record(self) -> Record:
        """The claims in its ``claims.toml``; none if there is no such file."""
        path = Path(__file__).parent / self.name / "claims.toml"
        return read(path) if path.exists() else Record("", {})


CHAPTERS = (
    Chapter("random_labels", "01_random_labels"),
    Chapter("path_functions", "02_path_functions"),
    Chapter("fisher_mask", "03_fisher_mask"),
    Chapter("stiffness", "04_stiffness"),
    Chapter("generalization_intervals", "05_generalization_intervals"),
    Chapter("capacity", "06_capacity", trains=False),
    Chapter("which_lens", "08_which_lens"),
)
NOTEBOOKS = tuple(chapter.notebook for chapter in CHAPTERS if chapter.trains)


def groups(notebook: str) -> tuple[Group, ...]:
    """Return the groups of runs that a notebook plans, in order; none for a notebook that trains nothing."""
    return tuple(group for chapter in _trained_by(notebook) for group in chapter.module("runs").GROUPS)


def planned(
    notebook: str, profile: str, values: Mapping[str, Any], *, asked_by: Sequence[str] = (CELLS,)
) -> list[RunConfig]:
    """Return the runs that a notebook plans, in order; a run may occur twice.

    Args:
        notebook: Name of the notebook.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        values: Parameters of the notebook.
        asked_by: Which groups of runs to include: `CELLS`, `TABLE`, `COMMAND`.

    >>> sorted({run.experiment for run in planned("02_path_functions", "smoke", {})})
    ['path_networks', 'path_ratio', 'path_unseen']
    """
    wanted = [group for group in groups(notebook) if group.asked_by in asked_by]
    ordered = sorted(wanted, key=lambda group: asked_by.index(group.asked_by))
    return [config for group in ordered for config in group.plan(profile, values)]


def run_of(notebook: str) -> Callable[..., Run]:
    """Return the function that does one run of a notebook: ``run(config, *, profile, root, data_root)``."""
    return _trained_by(notebook)[0].module("runs").run


def _trained_by(notebook: str) -> list[Chapter]:
    """Return the chapters that train for a notebook, given by its name or path."""
    return [chapter for chapter in CHAPTERS if chapter.trains and chapter.notebook == Path(notebook).stem]


def sections() -> list[tuple[str, Section]]:
    """Return every section with claims, as pairs of notebook and section in the order of the book."""
    return [(chapter.notebook, section) for chapter in CHAPTERS for section in chapter.module("claims").SECTIONS]


def unique(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """Drop repeated configurations, keeping the order; chapters share some runs.

    >>> len(unique([RunConfig(experiment="a"), RunConfig(experiment="a"), RunConfig(experiment="b")]))
    2
    """
    return list({str(config.as_dict()): config for config in configs}.values())


def criteria(experiment: str) -> str:
    """Return the fingerprints of all claims judged by an experiment's runs, as "id:hash id:hash". Each run records it.

    >>> [mark.split(":")[0] for mark in criteria("stiffness_maps").split()][:2]
    ['boundary_seen', 'boundary_learnt']
    """
    entries = [entry for chapter in CHAPTERS for entry in chapter.record.entries.values()]
    return " ".join(f"{entry.id}:{entry.fingerprint()}" for entry in entries if experiment in entry.experiments)
