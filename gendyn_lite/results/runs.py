"""One run, one folder: config.json, metrics.jsonl, env.json, checkpoints; complete once complete.json is renamed in."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError

COMPLETE = "complete.json"
HOLDER = "writing.json"  # which process is at it, while one is
SILENT_SECONDS = 2.0
PACKAGES = ("gendyn_lite", "torch", "torchvision", "numpy")


def runs_root(root: str | Path | None = None) -> Path:
    """The folder that holds the runs: the argument, else the variable GENDYN_RUNS, else ``./runs``."""
    return Path(root or os.environ.get("GENDYN_RUNS") or "runs")


@dataclass(frozen=True)
class Run:
    """A run folder, complete or not.

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
        """Key of the run."""
        return self.config.run_id(self.data_fingerprint)

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def complete(self) -> bool:
        """Whether the run ended and its files are the ones that it wrote."""
        try:
            record = json.loads((self.path / COMPLETE).read_text())
            return record["metrics_sha256"] == file_sha256(self.path / "metrics.jsonl")
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            return False

    def rows(self) -> list[dict[str, Any]]:
        """The metrics of each evaluated epoch."""
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]

    def env(self) -> dict[str, Any]:
        """Versions, device, commit, profile, description of the data and seconds."""
        return json.loads((self.path / "env.json").read_text())


def open_run(config: RunConfig, data_fingerprint: str, *, root: str | Path | None = None) -> Run:
    """The run of a configuration on some data, whether it exists or not. Nothing is written.

    >>> run = open_run(RunConfig(experiment="random_labels"), "00ff", root="runs")
    >>> run.path.parent.name, run.complete
    ('random_labels', False)
    """
    path = runs_root(root) / config.experiment / config.run_id(data_fingerprint)
    return Run(path=path, config=config, data_fingerprint=data_fingerprint)


def read_run(path: Path) -> Run:
    """The run that lies in a folder.

    Raises:
        UserError: config.json is missing or damaged, or belongs to another folder.
    """
    try:
        record = json.loads((path / "config.json").read_text())
        run = Run(path, RunConfig.from_dict(record["config"]), record["data_fingerprint"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"run folder {path}: config.json cannot be read ({error}); remove the folder and run again"
        ) from error
    if run.run_id != path.name:
        raise UserError(f"run folder {path}: its config belongs to {run.run_id}; it was renamed or edited, remove it")
    return run


class RunWriter:
    """Writes one run. Use it as ``with writing(run, ...) as writer: ...; writer.finish()``.

    Args:
        run: The run to write.
        env: What is recorded in env.json.
    """

    def __init__(self, run: Run, env: Mapping[str, Any]) -> None:
        self.run = run
        self.env = dict(env)
        self._metrics: TextIO | None = None

    def open(self) -> None:
        """Make the folder and start metrics.jsonl anew: a resumed run writes its first rows again."""
        self.run.path.mkdir(parents=True, exist_ok=True)
        (self.run.path / COMPLETE).unlink(missing_ok=True)
        record = {"config": self.run.config.as_dict(), "data_fingerprint": self.run.data_fingerprint}
        write_json(self.run.path / "config.json", record)
        write_json(self.run.path / "env.json", self.env)
        self._metrics = (self.run.path / "metrics.jsonl").open("w", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append the metrics of one epoch, on disk when this returns."""
        assert self._metrics is not None, "open() comes first"
        self._metrics.write(json.dumps(dict(row), allow_nan=True) + "\n")
        self._metrics.flush()

    def finish(self, **env: Any) -> None:
        """Record what is known only at the end (seconds) and rename complete.json in, last of all."""
        self.close()
        write_json(self.run.path / "env.json", {**self.env, **env})
        write_json(self.run.path / COMPLETE, {"metrics_sha256": file_sha256(self.run.path / "metrics.jsonl")})

    def close(self) -> None:
        """Close metrics.jsonl."""
        if self._metrics is not None:
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
            self._metrics.close()
            self._metrics = None


@contextmanager
def writing(run: Run, env: Mapping[str, Any]) -> Iterator[RunWriter | None]:
    """A writer for a run, alone on its folder; None if another process has completed it meanwhile."""
    with _alone(run):
        if run.complete:
            yield None
            return
        writer = RunWriter(run, env)
        writer.open()
        holder = run.path / HOLDER
        holder.write_text(json.dumps({"process": os.getpid(), "host": platform.node()}), encoding="utf-8")
        try:
            yield writer
        finally:
            writer.close()
            holder.unlink(missing_ok=True)


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """A run's lock. Whoever has waited for two seconds says so on stderr, once, and goes on waiting."""
    run.path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=SILENT_SECONDS)
    except Timeout:
        sys.stderr.write(f"waiting for the run {run.path}, which {_holder(run)} is writing; Ctrl-C stops this\n")
        sys.stderr.flush()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _holder(run: Run) -> str:
    """The process that writes a run, as far as it has said so."""
    try:
        found = json.loads((run.path / HOLDER).read_text(encoding="utf-8"))
        return f"process {found['process']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def environment(**extra: Any) -> dict[str, Any]:
    """Versions, processor and commit, for env.json. Packages that are not installed are left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "python": platform.python_version(), "commit": _commit(), **extra}


@lru_cache(maxsize=1)
def _commit() -> str | None:
    """The commit of the checkout that this package runs from, with '+' if its tracked files were changed; else None."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ("git", *arguments), cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write aside, then rename: a reader sees the old file or the new one, never half of one."""
    aside = path.with_suffix(f".tmp{os.getpid()}")
    with aside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=1, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
