"""The runs of a sweep: those of a chapter, or of a grid such as ``q=0:1:0.1 network=mlp_1x512 seed=0..4``."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

from gendyn_lite import data
from gendyn_lite.chapters import registry
from gendyn_lite.chapters.registry import CELLS, TABLE
from gendyn_lite.config import HINTS, RunConfig, check_type
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.files import roots
from gendyn_lite.results.runs import PROFILES
from gendyn_lite.results.tables import network_name
from gendyn_lite.sweep.jobs import Job, make_jobs, store_folder

SWEPT = (CELLS, TABLE)  # runs that a chapter's cells load, then those that only its published tables show
MOST_RUNS = 2_000
HUGE = 10**12  # larger counts are not written out in messages
SHORT = {"q": "label_corruption", "network": "model"}
_NAMES = [item.name for item in fields(RunConfig) if item.name not in ("model_options", "milestones")]
_AT_COMMAS = re.compile(r",(?![^(]*\))")  # but not inside parentheses, as in "mlp (widths 8, 8)"
# Fields that select the run of the chapter whose other settings are taken over.
_CHOOSE = ("experiment", "dataset", "model")


def plan(
    chapter: str,
    *,
    profile: str = "smoke",
    values: Mapping[str, Any] | None = None,
    grid: Sequence[str] = (),
    store: str = "",
) -> list[Job]:
    """List the runs of a sweep. Nothing is written.

    Args:
        chapter: Name of the chapter, or a profile for the runs of all chapters at that size: see `everything`.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``; the size whose settings the runs have.
        values: Parameters of the chapter by name, as for `gendyn run`.
        grid: As for `read_grid`; if empty, the sweep has all runs of the chapter.
        store: Folder of the runs (default: the variable GENDYN_RUNS, else ``runs`` next to the book).

    Returns:
        The runs, without duplicates.

    Raises:
        UserError: An argument is invalid, or there are more than 2,000 runs.

    >>> [job.name for job in plan("01_random_labels", grid=["seed=0..1", "q=0.5"])]
    ['digits mlp_1x512 q=0.5 seed=0', 'digits mlp_1x512 q=0.5 seed=1']
    """
    places = roots()
    kept = store_folder(store or places["GENDYN_RUNS"])
    if chapter in PROFILES:
        if values or grid:
            raise UserError(f"sweep {chapter} runs all chapters as they are planned: leave out -p and --grid")
        return everything(chapter, store=kept, data_root=places["GENDYN_DATA"])
    from gendyn_lite import notebooks  # not at the top: it needs Jupyter, which a sweep of all chapters works without

    axes = read_grid(grid)
    path, changed = notebooks.checked(chapter, profile=profile, values=values)
    if path.stem not in registry.NOTEBOOKS:
        others = [name for name in notebooks.chapters() if name in registry.NOTEBOOKS]
        raise UserError(f"chapter {chapter!r} has no runs to sweep: choose one of {', '.join(others)}")
    given = {name: value for name, value in changed.items() if name != "profile"}
    configs = registry.unique(registry.planned(chapter, profile, given, asked_by=SWEPT))
    if axes:  # a chapter's settings may depend on its parameter `dataset`
        sets = axes.get("dataset", ()) if "dataset" in notebooks.parameters(path) else ()
        on = (registry.planned(chapter, profile, {**given, "dataset": name}, asked_by=SWEPT) for name in sets)
        configs = expand([config for found in on for config in found] or configs, axes)
    check_size(len(configs))
    return make_jobs(chapter, configs, profile=profile, store=kept, data_root=places["GENDYN_DATA"])


def everything(profile: str, *, store: str, data_root: str) -> list[Job]:
    """List the runs of all chapters at one size, the most wanted first.

    The first seed of every chapter comes first, in the order of the chapters, then the second seeds, and so on. Within
    a chapter and seed, runs with true or entirely random labels (Table 1 of Zhang et al.) come before those with
    partly corrupted labels (Fig. 1). Runs on data sets that are not prepared are left out; a line on stderr says so.

    Args:
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        store: Folder of the runs.
        data_root: Folder of the prepared data.

    Raises:
        UserError: None of the data sets is prepared.
    """
    jobs, missing = dict[str, Job](), Counter[str]()
    for name in registry.NOTEBOOKS:
        configs = registry.unique(registry.planned(name, profile, {}, asked_by=SWEPT))
        lacking = {dataset for dataset in {config.dataset for config in configs} if not _prepared(dataset, data_root)}
        missing.update(config.dataset for config in configs if config.dataset in lacking)
        there = [config for config in configs if config.dataset not in lacking]
        found = make_jobs(name, there, profile=profile, store=store, data_root=data_root)
        jobs |= {job.run_id: job for job in found if job.run_id not in jobs}
    told = [f"{count} runs on {name}" for name, count in missing.items()]
    if told:
        sys.stderr.write(f"not prepared (gendyn data NAME), left out: {', '.join(told)}\n")
    if not jobs:
        raise UserError("none of the data sets is prepared: prepare one with gendyn data NAME")

    def order(job: Job) -> tuple[int, int, bool]:
        between = job.config.label_corruption not in (0, 1) or job.config.inputs != "true"
        return job.config.seed, registry.NOTEBOOKS.index(job.chapter), between

    return sorted(jobs.values(), key=order)


def _prepared(dataset: str, root: str) -> bool:
    """Whether a data set is available.

    Raises:
        UserError: It is prepared, but damaged.
    """
    try:
        return bool(data.load(dataset, root=root))
    except UserError:
        if (Path(root) / dataset).exists():
            raise
        return False


def read_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Parse a grid: the values of each field of `RunConfig` that it names.

    Args:
        texts: Each is ``NAME=VALUES``. A name is a field of `RunConfig`, ``q`` (for label_corruption) or ``network``
            (for model). Values are separated by commas; each is a single value, ``LOW:HIGH:STEP`` (both ends included)
            or ``FIRST..LAST`` (whole numbers).

    Returns:
        The values of each field, by its name.

    Raises:
        UserError: A name is unknown or given twice, a value is invalid, or there are more than 2,000 runs.

    >>> read_grid(["q=0:1:0.5", "seed=0..2,7"])
    {'label_corruption': [0.0, 0.5, 1.0], 'seed': [0, 1, 2, 7]}
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not (name and equals and values):
            such = "for instance q=0:1:0.1, network=mlp_1x512 or seed=0..4"
            raise UserError(f"--grid {text!r} is not NAME=VALUES, {such}")
        field = SHORT.get(name, name)
        if field not in _NAMES:
            raise unknown_name("name on the grid", name, [*SHORT, *_NAMES])
        if field in grid:
            raise UserError(f"--grid names {field} twice: name it once, with all its values separated by commas")
        grid[field] = _values(name, field, values)
    check_size(math.prod(len(values) for values in grid.values()))
    return grid


def check_size(count: int) -> None:
    """Check that a sweep does not have too many runs.

    >>> check_size(5_000)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the grid has 5,000 runs, at most 2,000: use fewer values, or several sweeps
    """
    if count > MOST_RUNS:
        runs = f"{count:,}" if count <= HUGE else f"over {HUGE:,}"
        raise UserError(f"the grid has {runs} runs, at most {MOST_RUNS:,}: use fewer values, or several sweeps")


def _values(name: str, field: str, text: str) -> list[Any]:
    """Parse the values of one field; duplicates are refused."""
    hint = HINTS[field]
    number = hint in (int, float) or hint == int | None
    items: list[Any] = []
    for item in _AT_COMMAS.split(text):
        items += (_range(name, item) if number else None) or [item.strip()]
        check_size(len(items))
    found = [_typed(name, field, item) for item in items]
    if len(set(found)) < len(found):
        raise UserError(f"{name}={text} names a value twice: name each once")
    return found


def _range(name: str, text: str) -> list[Any] | None:
    """The values of ``LOW:HIGH:STEP`` or ``FIRST..LAST``, exact decimals; None if the text is neither.

    >>> [float(value) for value in _range("q", "0:0.3:0.1")]
    [0.0, 0.1, 0.2, 0.3]
    """
    between = re.fullmatch(r"\s*(-?\d+)\.\.(-?\d+)\s*", text)
    parts = [*between.groups(), "1"] if between else text.split(":")
    if len(parts) == 1:
        return None
    expected = f"{name}={text}: expected LOW:HIGH:STEP with a step above 0 and LOW at most HIGH, for instance 0:1:0.1"
    try:
        low, high, step = (Decimal(part.strip()) for part in parts)
        steps = (high - low) / step if step > 0 and high >= low else Decimal(-1)
    except (ArithmeticError, ValueError):
        raise UserError(expected) from None
    if not (steps >= 0 and steps.is_finite()):
        raise UserError(expected)
    count = int(min(steps, HUGE)) + 1
    check_size(count)
    return [low + step * number for number in range(count)]


def _typed(name: str, field: str, value: Any) -> Any:
    """Convert one value to the type of its field."""
    hint, text = HINTS[field], str(value)
    if hint is str:
        return text
    plain: Any = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if isinstance(plain, str):
        with suppress(ArithmeticError, ValueError):  # text that is no number stays text, which check_type refuses
            exact = Decimal(text)
            plain = int(exact) if abs(exact) < HUGE and exact == int(exact) else float(text)
    return check_type(name, plain, hint)


def expand(planned: Sequence[RunConfig], grid: Mapping[str, Sequence[Any]]) -> list[RunConfig]:
    """Make a run for every combination of a grid's values.

    Settings that the grid does not name are those of the chapter's first run of the same network.

    Args:
        planned: The runs of the chapter.
        grid: Values by field, as returned by `read_grid`.

    Returns:
        One run per combination; the seed varies fastest.

    Raises:
        UserError: A value is out of range, or the chapter has no such experiment.

    >>> planned = [RunConfig(experiment="demo", model="mlp_3x512", epochs=7)]
    >>> [(run.seed, run.epochs) for run in expand(planned, {"seed": [0, 1]})]
    [(0, 7), (1, 7)]
    """
    names = sorted(grid, key=lambda name: (name not in _CHOOSE, name == "seed"))
    configs = []
    for values in product(*(grid[name] for name in names)):
        point = dict(zip(names, values, strict=True))
        chosen = {name: point.pop(name) for name in _CHOOSE if name in point}
        base = _base(planned, chosen)
        if base.eval_every == base.epochs and "epochs" in point:
            point.setdefault("eval_every", point["epochs"])  # runs evaluated only at their end stay so
        configs.append(base.replace(**point))
    return configs


def _base(planned: Sequence[RunConfig], chosen: Mapping[str, Any]) -> RunConfig:
    """The chapter's first run of an experiment, a data set and a network (named as in tables, or without options).

    If the chapter has no run on that data set or of that network, it is its first run with the data set or network
    replaced.
    """
    experiment = chosen.get("experiment", planned[0].experiment)
    found = [each for each in planned if each.experiment == experiment]
    if not found:
        raise unknown_name("experiment of the chapter", experiment, dict.fromkeys(each.experiment for each in planned))
    dataset, network = chosen.get("dataset", found[0].dataset), chosen.get("model")
    found = [each for each in found if each.dataset == dataset] or [each.replace(dataset=dataset) for each in found]
    if network is None:
        return found[0]
    named = [each for each in found if network in (network_name(each.model, each.model_options), each.model)]
    return (named or [found[0].replace(model=network, model_options={})])[0]
