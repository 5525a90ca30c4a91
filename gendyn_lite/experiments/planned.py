"""The runs that the chapters plan at the papers' sizes, beside those that have been run."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd

from gendyn_lite.config import RunConfig
from gendyn_lite.experiments.chapters import GROUPS
from gendyn_lite.results.published import published, published_experiments


def full_size(*, folder: Path | None = None) -> pd.DataFrame:
    """The runs of profile ``full``, planned and published.

    Args:
        folder: Folder of the published tables.

    Returns:
        One row for each experiment, data set and network: ``experiment``, ``data``, ``network``, ``planned`` runs of
        that profile, and ``published``: how many of them, with exactly those settings, are in a published table,
        whichever copy of the data they were run on.
    """
    # Some runs are in the plans of two experiments: by their ids, once.
    configs = {config.run_id(""): config for group in GROUPS for config in group.plan("full", {})}.values()
    known, prints = _published(folder)
    planned = Counter(_kind(config) for config in configs)
    done = Counter(
        _kind(config) for config in configs if any(config.run_id(mark) in known for mark in prints[config.dataset])
    )
    columns = ["experiment", "data", "network", "planned", "published"]
    return pd.DataFrame([(*kind, count, done[kind]) for kind, count in planned.items()], columns=pd.Index(columns))


def _kind(config: RunConfig) -> tuple[str, str, str]:
    return config.experiment, config.dataset, config.model


def _published(folder: Path | None) -> tuple[set[str], dict[str, set[str]]]:
    """Ids of all published runs, and by data set the fingerprints of the data that they were run on."""
    known: set[str] = set()
    prints: dict[str, set[str]] = defaultdict(set)
    for name in published_experiments(folder=folder):
        runs = published(name, folder=folder).drop_duplicates("run_id")
        known |= set(runs["run_id"])
        for dataset, mark in set(zip(runs["dataset"], runs["data_fingerprint"], strict=True)):
            prints[dataset].add(mark)
    return known, prints
