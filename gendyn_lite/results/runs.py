"""Run folders. Each has config.json, env.json, metrics.jsonl and checkpoints; complete.json is written at the end."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.files import AGAIN, alone, parsed, read_file, read_json, sha256, write_json

PROFILES = ("smoke", "colab", "full")  # sizes of runs
COMPLETE = "complete.json"
# The hashes in complete.json and their files. Runs of earlier versions have only the hash of the metrics.
HASHED = {"metrics_sha256": "metrics.jsonl", "config_sha256": "config.json", "env_sha256": "env.json"}
HASHED_BEFORE = {"metrics_sha256"}
PACKAGES = ("gendyn_lite", "torch", "torchvision", "numpy")


def check_profile(profile: str) -> None:
    """Check that a profile is one of `PROFILES`.

    Raises:
        UserError: It is not.
    """
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)


def runs_root(root: str | Path | None = None) -> Path:
    """The folder that holds the runs.

    Args:
        root: The folder (default: the variable GENDYN_RUNS, else ``./runs``).

    Returns:
        Its path, whether it exists or not.

    >>> runs_root("elsewhere").name
    'elsewhere'
    """
    return Path(root or os.environ.get("GENDYN_RUNS") or "runs")


@dataclass(frozen=True)
class Run:
    """A run folder, complete or not. It need not exist.

    Attributes:
        path: The folder, ``<root>/<experiment>/<run_id>``.
        config: The settings of the run.
        data_fingerprint: Fingerprint of its data.
    """

    path: Path
    config: RunConfig
    data_fingerprint: str

    @property
    def run_id(self) -> str:
        """The key of the run."""
        return self.config.run_id(self.data_fingerprint)

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.path / "checkpoints"

    @property
    def complete(self) -> bool:
        """Whether the run has ended and its files are unchanged since."""
        try:
            return self.whole()
        except UserError:
            return False

    def whole(self) -> bool:
        """Whether the run has ended.

        Raises:
            UserError: It has, but a file is missing, damaged or was edited since.
        """
        if not (self.path / COMPLETE).exists():
            return False
        check_hashes(self.path, lambda name: read_file(self.path / name))
        return True

    def rows(self) -> list[dict[str, Any]]:
        """The metrics of each evaluated epoch."""
        path = self.path / "metrics.jsonl"
        return rows_of(read_file(path), path)

    def env(self) -> dict[str, Any]:
        """The content of env.json: versions, device, commit, profile, description of the data, seconds, resumes."""
        return read_json(self.path / "env.json")


def open_run(config: RunConfig, data_fingerprint: str, *, root: str | Path | None = None) -> Run:
    """The run of a configuration on some data, whether or not it exists. Nothing is written.

    Args:
        config: The settings.
        data_fingerprint: Fingerprint of the data.
        root: Folder of the runs (default: the variable GENDYN_RUNS, else ``./runs``).

    Returns:
        The run.

    >>> run = open_run(RunConfig(experiment="random_labels"), "00ff", root="runs")
    >>> run.path.parent.name, run.complete
    ('random_labels', False)
    """
    path = runs_root(root) / config.experiment / config.run_id(data_fingerprint)
    return Run(path=path, config=config, data_fingerprint=data_fingerprint)


def run_folders(place: Path) -> list[Path]:
    """The run folders of an experiment, sorted; hidden folders, left by killed processes, are skipped."""
    return sorted({path.parent for name in ("*.json", "metrics.jsonl") for path in place.glob(f"[!.]*/{name}")})


def read_run(path: Path) -> Run:
    """The run in a folder.

    Raises:
        UserError: config.json is missing or damaged, or belongs to another folder.
    """
    return run_of(read_json(path / "config.json"), path)


def run_of(record: Mapping[str, Any], path: Path) -> Run:
    """The run in a folder, given the content of its config.json.

    Raises:
        UserError: It is not a valid configuration, or belongs to another folder.
    """
    try:
        run = Run(path, RunConfig.from_dict(record["config"]), record["data_fingerprint"])
    except (KeyError, TypeError, UserError) as error:
        raise UserError(f"{path / 'config.json'} cannot be read ({error}): {AGAIN}") from error
    if run.run_id != path.name:
        raise UserError(f"run folder {path}: its config belongs to {run.run_id}; it was renamed or edited, remove it")
    return run


def check_hashes(path: Path, content: Callable[[str], bytes]) -> None:
    """Check the files of a complete run against the hashes in its complete.json.

    Args:
        path: Folder of the run, for messages.
        content: Function that returns the content of one of its files, given the name.

    Raises:
        UserError: A file is missing, damaged or was edited; it is named.
    """
    record = parsed(content(COMPLETE), path / COMPLETE)
    if set(record) not in (set(HASHED), HASHED_BEFORE):
        expected = f"expected the hashes {', '.join(HASHED)}"
        raise UserError(f"{path / COMPLETE} is not as its run wrote it ({expected}): {AGAIN}")
    for key, found in record.items():
        if hashlib.sha256(content(HASHED[key])).hexdigest() != found:
            told = f"is not as its run wrote it (the hash in {COMPLETE} differs)"
            raise UserError(f"{path / HASHED[key]} {told}: {AGAIN}")


def rows_of(text: bytes, path: Path) -> list[dict[str, Any]]:
    """Parse the rows of a metrics.jsonl."""
    return [parsed(line, path) for line in text.split(b"\n") if line]


class RunWriter:
    """Writes a run folder. Use it as ``with writing(run, ...) as writer: ...; writer.finish()``.

    The folder is created and metrics.jsonl is emptied, so a resumed run has to write its earlier rows again.

    Args:
        run: The run to write.
        env: Content of env.json. A resumed run keeps the criteria of claims that were on record when it first started.
    """

    def __init__(self, run: Run, env: Mapping[str, Any]) -> None:
        self.run, self.env, self._metrics = run, dict(env), run.path / "metrics.jsonl"
        run.path.mkdir(parents=True, exist_ok=True)
        (run.path / COMPLETE).unlink(missing_ok=True)
        record = {"config": run.config.as_dict(), "data_fingerprint": run.data_fingerprint}
        write_json(run.path / "config.json", record)
        if "criteria" in self.env and (run.path / "env.json").exists():
            self.env["criteria"] = run.env().get("criteria", "")
        write_json(run.path / "env.json", self.env)
        self._metrics.write_bytes(b"")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append the row of one epoch."""
        with self._metrics.open("a", encoding="utf-8", newline="") as file:
            file.write(json.dumps(dict(row), allow_nan=True) + "\n")

    def finish(self, **env: Any) -> None:
        """Add to env.json what is known only at the end, such as seconds, and then write complete.json."""
        with self._metrics.open("a") as file:
            os.fsync(file.fileno())
        write_json(self.run.path / "env.json", {**self.env, **env})
        write_json(self.run.path / COMPLETE, {key: sha256(self.run.path / name) for key, name in HASHED.items()})


@contextmanager
def writing(run: Run, env: Mapping[str, Any]) -> Iterator[RunWriter | None]:
    """Lock a run's folder within the block.

    Yields:
        A writer, or None if another process has completed the run meanwhile.
    """
    with alone(run.path.with_suffix(".lock")):
        yield None if run.complete else RunWriter(run, env)


def environment(**extra: Any) -> dict[str, Any]:
    """Versions of installed packages and of Python, the commit, and further entries, for env.json."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"versions": versions, "python": platform.python_version(), "commit": _commit(), **extra}


@lru_cache(maxsize=1)
def _commit() -> str | None:
    """The commit of the checkout that the package runs from, with '+' if it has uncommitted changes; else None."""

    def git(*words: str) -> str:
        folder = Path(__file__).parents[1]  # of the whole package

        return subprocess.run(("git", *words), cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
