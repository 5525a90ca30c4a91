"""The small tables that the book shows: finished runs, tidy, with their provenance, under book/results/."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.runs import Run, file_sha256, read_run, runs_root, write_json
from gendyn_lite.results.tables import PROVENANCE, load_runs

METRICS = ("epoch", "step", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
MOST_BYTES = 1_000_000
# Accuracies are fractions, losses nats, seconds those of training.
RANGES = {
    "train_accuracy": (0, 1), "test_accuracy": (0, 1), "train_loss": (0, math.inf), "test_loss": (0, math.inf),
    "epoch": (0, math.inf), "step": (0, math.inf), "learning_rate": (0, math.inf), "seconds": (0, math.inf),
}  # fmt: skip
# Columns that a CSV reader would take for numbers or truth values.
_TEXT = ("run_id", "group_id", "data_fingerprint", "inputs", "model_options", "milestones")
PROFILES = ("smoke", "colab", "full")
_PACKAGE = Path(__file__).resolve().parents[1]


def published_root() -> Path:
    """Folder of the published tables: book/results of the checkout, or the copy inside an installed package."""
    shipped = _PACKAGE / "published"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "book" / "results"


def published_experiments(*, folder: Path | None = None) -> list[str]:
    """Names of the experiments with published tables."""
    return sorted(path.parent.name for path in (folder or published_root()).glob("*/provenance.json"))


def publish(
    experiment: str,
    *,
    root: str | Path | None = None,
    profiles: Sequence[str] = ("colab", "full"),
    to: Path | None = None,
) -> Path:
    """Write the complete runs of an experiment as published tables.

    ``runs.csv`` has a row per run (provenance and settings), ``curves.csv`` a row per run and epoch (metrics, six
    digits), ``provenance.json`` the environment of each run and the hash of both files. Either all three are
    replaced or none.

    Args:
        experiment: Name of the experiment.
        root: Folder of the runs.
        profiles: Which profiles' runs to publish; smoke runs are demonstrations and are left out unless named.
        to: Folder of the published tables.

    Returns:
        The folder written.

    Raises:
        UserError: An unknown profile, no run to publish, or tables of more than 1 MB.
    """
    for profile in profiles:
        if profile not in PROFILES:
            raise unknown_name("profile", profile, PROFILES)
    runs = _finished(experiment, runs_root(root), profiles)
    texts = as_published(runs)
    size = sum(len(text.encode()) for text in texts.values())
    if size > MOST_BYTES:
        raise UserError(
            f"the tables of {experiment!r} would take {size:,} bytes, at most {MOST_BYTES:,}: evaluate less often"
        )
    folder = (to or published_root()) / experiment
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.tmp").write_text(text, encoding="utf-8")
    for name in texts:
        os.replace(folder / f"{name}.tmp", folder / name)
    hashes = {name: file_sha256(folder / name) for name in texts}
    write_json(folder / "provenance.json", {"sha256": hashes, "runs": {run.run_id: run.env() for run in runs}})
    return folder


def as_published(runs: Sequence[Run]) -> dict[str, str]:
    """The text of runs.csv (a row per run) and curves.csv (a row per run and epoch) of some complete runs."""
    table = load_runs(runs)
    settings = [name for name in table.columns if name not in METRICS and "/" not in name]
    measured = [name for name in table.columns if name in METRICS or "/" in name]
    return {
        "runs.csv": table[settings].drop_duplicates("run_id").to_csv(index=False),
        "curves.csv": table[["run_id", *measured]].to_csv(index=False, float_format="%.6g"),
    }


def _finished(experiment: str, root: Path, profiles: Sequence[str]) -> list[Run]:
    """The complete runs of the given profiles, ordered by settings so that the tables do not depend on the disk."""
    runs = [read_run(path.parent) for path in sorted((root / experiment).glob("*/config.json"))]
    chosen = [run for run in runs if run.complete and run.env().get("profile") in profiles]
    if not chosen:
        named = " or ".join(profiles)
        raise UserError(f"no complete {named} run of {experiment!r} under {root}: run it first (gendyn run, make run)")
    return sorted(chosen, key=lambda run: json.dumps(run.config.as_dict(), sort_keys=True))


def published(experiment: str, *, folder: Path | None = None) -> pd.DataFrame:
    """The published tables of an experiment in the same tidy form as `load`.

    Raises:
        UserError: Nothing is published under that name, or a table is not the one that was published.
    """
    root = folder or published_root()
    if experiment not in published_experiments(folder=root):
        raise unknown_name("published experiment", experiment, published_experiments(folder=root))
    verify(experiment, folder=root)
    runs, curves = _read(root / experiment)
    return curves.merge(runs, on="run_id", how="left", validate="many_to_one")


def _read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """runs.csv and curves.csv, text as text."""
    runs = pd.read_csv(folder / "runs.csv", dtype=dict.fromkeys(_TEXT, str))
    curves = pd.read_csv(folder / "curves.csv", dtype={"run_id": str})
    return runs.fillna(dict.fromkeys(_TEXT, "")), curves


def provenance(experiment: str, *, folder: Path | None = None) -> dict[str, Any]:
    """The environment of each published run: versions, device, commit, seconds."""
    return json.loads(((folder or published_root()) / experiment / "provenance.json").read_text())


def verify(experiment: str, *, folder: Path | None = None) -> None:
    """Check that the published tables are the ones that were written, and hold no impossible value.

    Raises:
        UserError: A table was edited by hand, lacks its provenance, repeats a row or holds a value out of range.
    """
    here = (folder or published_root()) / experiment
    record = provenance(experiment, folder=folder)
    for name, expected in record["sha256"].items():
        if file_sha256(here / name) != expected:
            raise UserError(f"{here / name} is not the table that was published (its hash differs): publish it again")
    runs, curves = _read(here)
    if set(runs["run_id"]) != set(record["runs"]) or set(curves["run_id"]) != set(record["runs"]):
        raise UserError(f"{here}: runs.csv, curves.csv and provenance.json name different runs: publish it again")
    if curves.duplicated(["run_id", "epoch"]).any() or runs["run_id"].duplicated().any():
        raise UserError(f"{here}: a run or an epoch stands twice: publish it again")
    missing = sorted({*PROVENANCE, "network", "seed", "n_train"} - set(runs)) + sorted(set(METRICS) - set(curves))
    if missing:
        raise UserError(f"{here}: the columns {', '.join(missing)} are missing: publish it again")
    for name, (low, high) in RANGES.items():
        wrong = curves[name].notna() & ~curves[name].between(low, high)
        if wrong.any():
            value, run = curves.loc[wrong, [name, "run_id"]].iloc[0]
            raise UserError(f"{here / 'curves.csv'}: {name} of run {run} is {value:g}, expected {low:g} to {high:g}")
