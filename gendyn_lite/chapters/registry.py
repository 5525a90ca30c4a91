"""The chapters of the book: the one list that plans, sweeps, estimates and the page 'What holds' read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from gendyn_lite.chapters.plan import CELLS, Group
from gendyn_lite.claims.sections import Section
from gendyn_lite.config import RunConfig
from gendyn_lite.results.runs import Run


class Chapter(NamedTuple):
    """A folder of `gendyn_lite.chapters`, and the page that shows it.

    Its ``runs.py`` has ``GROUPS``, what it plans to train, and ``run``, which loads, resumes or trains one of them; its
    ``claims.py`` has ``SECTIONS``. Both are imported only when asked for.

    Attributes:
        name: Name of the folder.
        notebook: Name of the notebook.
        trains: Whether it plans training runs.
    """

    name: str
    notebook: str
    trains: bool = True

    def module(self, name: str) -> ModuleType:
        """One of its modules."""
        return import_module(f"gendyn_lite.chapters.{self.name}.{name}")


CHAPTERS = (
    Chapter("random_labels", "01_random_labels"),
    Chapter("capacity", "01_random_labels", trains=False),
    Chapter("path_functions", "02_path_functions"),
    Chapter("fisher_mask", "03_fisher_mask"),
    Chapter("stiffness", "04_stiffness"),
    Chapter("generalization_intervals", "05_generalization_intervals"),
)
NOTEBOOKS = tuple(chapter.notebook for chapter in CHAPTERS if chapter.trains)  # those that train something


def groups(notebook: str) -> tuple[Group, ...]:
    """What a notebook plans to train, in order; nothing for one that trains nothing."""
    return tuple(group for chapter in _trained_by(notebook) for group in chapter.module("runs").GROUPS)


def planned(
    notebook: str, profile: str, values: Mapping[str, Any], *, asked_by: Sequence[str] = (CELLS,)
) -> list[RunConfig]:
    """The runs that a notebook plans, in order; some of them may be there twice.

    Args:
        notebook: Its name.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        values: Parameters of the notebook.
        asked_by: Which of them: `CELLS`, `TABLE`, `COMMAND`.

    >>> sorted({run.experiment for run in planned("02_path_functions", "smoke", {})})
    ['path_networks', 'path_ratio', 'path_unseen']
    """
    wanted = [group for group in groups(notebook) if group.asked_by in asked_by]
    ordered = sorted(wanted, key=lambda group: asked_by.index(group.asked_by))
    return [config for group in ordered for config in group.plan(profile, values)]


def run_of(notebook: str) -> Callable[..., Run]:
    """How one run of a notebook is done, with its probes: ``run(config, *, profile, root, data_root)``."""
    return _trained_by(notebook)[0].module("runs").run


def _trained_by(notebook: str) -> list[Chapter]:
    """The chapters whose runs a notebook, given by its name or path, asks for."""
    return [chapter for chapter in CHAPTERS if chapter.trains and chapter.notebook == Path(notebook).stem]


def sections() -> list[tuple[str, Section]]:
    """The notebook and the section of every group of claims, in the order of the book."""
    return [(chapter.notebook, section) for chapter in CHAPTERS for section in chapter.module("claims").SECTIONS]


def unique(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """Each configuration once, in order: chapters share some of their runs.

    >>> len(unique([RunConfig(experiment="a"), RunConfig(experiment="a"), RunConfig(experiment="b")]))
    2
    """
    return list({str(config.as_dict()): config for config in configs}.values())
