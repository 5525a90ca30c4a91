"""The page 'What holds': every claim of every paper, and how many of the planned runs are published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from gendyn_lite.chapters import registry
from gendyn_lite.claims import sections
from gendyn_lite.config import RunConfig
from gendyn_lite.results.published import published, published_experiments

WHOLE = 0  # stands for "all training images" where a number of images is expected


def all_claims(*, folder: Path | None = None) -> pd.DataFrame:
    """Judge the claims of all chapters on the published tables: see `gendyn_lite.claims.sections.all_claims`."""
    return sections.all_claims(registry.sections(), folder=folder)


def judged(notebook: str = "", *, folder: Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge the claims of a page, or of all pages, on the published runs.

    Args:
        notebook: Name of the page; empty for all.
        folder: Folder of the published tables.

    Returns:
        The claims on each network (`gendyn_lite.claims.sections.all_claims`), and over all networks with the correction
        for multiple testing (`gendyn_lite.claims.sections.statements`), with the ``number`` of the chapter in the book.

    >>> claims, overall = judged("06_capacity")
    >>> overall.set_index("id")["verdict"]["gabor_lowers"]
    'holds'
    """
    asked = [(page, section) for page, section in registry.sections() if notebook in ("", page)]
    records = [chapter.record for chapter in registry.CHAPTERS if notebook in ("", chapter.notebook)]
    claims = sections.all_claims(asked, folder=folder)
    overall = sections.statements(claims, records)
    numbers = {chapter.notebook: str(number) for number, chapter in enumerate(registry.CHAPTERS, start=1)}
    return claims, overall.assign(number=overall["chapter"].map(numbers))


def full_size(*, folder: Path | None = None) -> pd.DataFrame:
    """Count planned and published runs of profile ``full``, without the runs that are also in profile ``colab``.

    Args:
        folder: Folder of the published tables.

    Returns:
        One row for each experiment, data set and network: ``experiment``, ``data``, ``network``; ``planned``, the
        number of runs in that profile; ``published``, how many of them are published with exactly these settings, on
        any copy of the data; ``other settings``, how many published runs on as many images are not in the plan.
    """
    # Some runs are in the plans of two experiments: the ids count each of them once.
    groups = [group for notebook in registry.NOTEBOOKS for group in registry.groups(notebook)]
    by_id = {config.run_id(""): config for group in groups for config in group.plan("full", {})}
    sized = [group for group in groups if group.asked_by != registry.COMMAND]  # commands only have the full size
    smaller = [config for group in sized for config in group.plan("colab", {})]
    small = {config.run_id("") for config in smaller}
    configs = [config for name, config in by_id.items() if name not in small]
    runs = _published(folder)
    prints = runs.groupby("dataset")["data_fingerprint"].unique().to_dict()
    planned = Counter(_kind(config) for config in configs)
    sizes = {(*_kind(config), config.train_size or WHOLE) for config in configs}
    ids = {config.run_id(mark): _kind(config) for config in configs for mark in prints.get(config.dataset, ())}
    done = Counter(ids[run] for run in runs["run_id"] if run in ids)
    planned_smaller = {config.run_id(mark) for config in smaller for mark in prints.get(config.dataset, ())}
    more = Counter(
        (experiment, dataset, model)
        for run, experiment, dataset, model, size, _ in runs.itertuples(index=False)
        if run not in ids and run not in planned_smaller and (experiment, dataset, model, size) in sizes
    )
    columns = ["experiment", "data", "network", "planned", "published", "other settings"]
    rows = [(*kind, count, done[kind], more[kind]) for kind, count in planned.items()]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _kind(config: RunConfig) -> tuple[str, str, str]:
    return config.experiment, config.dataset, config.model


def _published(folder: Path | None) -> pd.DataFrame:
    """Return all published runs: run_id, experiment, dataset, model, train_size (`WHOLE` for all), data_fingerprint."""
    columns = ["run_id", "experiment", "dataset", "model", "train_size", "data_fingerprint"]
    tables = [published(name, folder=folder) for name in published_experiments(folder=folder)]
    if not tables:
        return pd.DataFrame(columns=pd.Index(columns))
    return pd.concat([table.drop_duplicates("run_id")[columns] for table in tables]).fillna({"train_size": WHOLE})
