"""The runs of a sweep: what a worker is given, does and gives back; the folder they are kept in."""

from __future__ import annotations

import errno
import math
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from gendyn_lite import data
from gendyn_lite.chapters import registry, runner
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import Failed, UserError
from gendyn_lite.results.files import write_text
from gendyn_lite.results.runs import environment, open_run
from gendyn_lite.results.tables import network_name
from gendyn_lite.train.checkpoint import listed

# After one of these every other run would fail in the same way.
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}


class Job(NamedTuple):
    """One run.

    Attributes:
        chapter: The chapter whose measures are taken.
        config: The run.
        fingerprint: Of its data.
        profile: Recorded with it.
        store: Folder of the runs.
        data_root: Folder of the prepared data.
    """

    chapter: str
    config: RunConfig
    fingerprint: str
    profile: str
    store: str
    data_root: str

    @property
    def run_id(self) -> str:
        """Key of the run."""
        return self.config.run_id(self.fingerprint)

    @property
    def name(self) -> str:
        """What tells the run from the others, for people."""
        config = self.config
        inputs = "" if config.inputs == "true" else f" {config.inputs}"
        network = network_name(config.model, config.model_options)
        return f"{config.dataset} {network} q={config.label_corruption:g}{inputs} seed={config.seed}"


class Resources(NamedTuple):
    """What a run takes, and where it may be.

    Attributes:
        address: Of a cluster, ``"HOST:PORT"``; empty for the one that this machine belongs to.
        workers: Most runs at once on this machine; 0 for as many as are fastest. A cluster decides for itself.
        cpus: Cores of a run on a cluster.
        gpus: GPUs of a run there, which may be a fraction; None for one where there are some, else none.
        retries: How often a run whose worker died is started again.
    """

    address: str = ""
    workers: int = 0
    cpus: float = 1
    gpus: float | None = None
    retries: int = 10


class Outcome(NamedTuple):
    """What became of a run.

    Attributes:
        run_id: Its key.
        seconds: What it took here.
        trained: Whether it was; else it was complete already.
        error: Why it failed, in one line; empty where it did not.
        fatal: Whether the others would fail in the same way.
        where: The machine.
    """

    run_id: str
    seconds: float
    trained: bool
    error: str = ""
    fatal: bool = False
    where: str = ""


def work(job: Job) -> Outcome:
    """Do a run: load it, resume it or train it. A failure is an outcome, so that the other runs go on."""
    started, trained, error, fatal = time.monotonic(), False, "", False
    try:
        if not open_run(job.config, job.fingerprint, root=job.store).complete:
            run = registry.run_of(job.chapter)
            done = run(job.config, profile=job.profile, root=job.store, data_root=job.data_root)
            if done.run_id != job.run_id:
                name = job.config.dataset
                raise UserError(f"the data {name!r} differ here from those where the sweep started: copy them again")
            trained = True
    except Exception as raised:  # whatever a run raises is its own failure
        error = " ".join(f"{type(raised).__name__}: {raised}".split()).removeprefix("UserError: ")
        cause = raised.__cause__ if isinstance(raised.__cause__, OSError) else raised
        fatal = isinstance(cause, OSError) and cause.errno in _FATAL
    return Outcome(job.run_id, time.monotonic() - started, trained, error, fatal, socket.gethostname())


def begun(job: Job) -> float:
    """The share of a run's steps that its newest checkpoint has, 0 where it has none."""
    run = open_run(job.config, job.fingerprint, root=job.store)
    with suppress(ValueError, LookupError, TypeError, ArithmeticError):  # of a file that is damaged too
        step = int(listed(run.checkpoints)[-1].stem.removeprefix("step_"))
        return min(1.0, step / (job.config.epochs * math.ceil(run.env()["n_train"] / job.config.batch_size)))
    return 0.0


def make_jobs(chapter: str, configs: Sequence[RunConfig], *, profile: str, store: str, data_root: str) -> list[Job]:
    """The runs of a sweep, each once; the data and the network of every kind are checked first.

    Args:
        chapter: The chapter whose measures are taken.
        configs: The runs.
        profile: Recorded with them.
        store: Folder of the runs.
        data_root: Folder of the prepared data.

    Raises:
        UserError: A data set is not prepared, or a network does not exist or does not fit.
    """
    kinds = runner.checked(configs, data_root=data_root)
    prints = [kinds[runner.kind_of(config)].fingerprint for config in configs]
    jobs = [Job(chapter, *run, profile, store, data_root) for run in zip(configs, prints, strict=True)]
    return list({job.run_id: job for job in jobs}.values())


LOCK, TOKEN = ".sweep.lock", ".sweep.token"
TOKEN_BYTES = 2**20  # a full disk refuses a megabyte


def store_folder(place: str) -> str:
    """The folder that ``--store`` names, from the root of the file system.

    Raises:
        UserError: It is a URL or a file, or inside a file.

    >>> store_folder("s3://bucket/runs")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: --store 's3://bucket/runs' is not a folder: name one that every machine sees
    """
    whole = "://" not in place and "\0" not in place and Path(place).resolve()
    if not whole or not next(path for path in (whole, *whole.parents) if path.exists()).is_dir():
        raise UserError(f"--store {place!r} is not a folder: name one that every machine sees")
    return str(whole)


@contextmanager
def reserved(place: str) -> Iterator[str]:
    """A store for one sweep alone, after a test that it can be written to.

    Yields:
        What a file in the store holds meanwhile, by which other machines recognize it.

    Raises:
        UserError: Another sweep is at work on it.
        Failed: It cannot be written to, or is full.
    """
    folder, token = Path(place), uuid.uuid4().hex
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            write_text(folder / TOKEN, token.ljust(TOKEN_BYTES))
        except Timeout:
            raise UserError(f"another sweep is at work on the run store {place}: wait for it, or stop it") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise Failed(f"the run store {place} cannot be written to: {reason}; nothing was started") from None
        yield token
    finally:
        if lock.is_locked:
            with suppress(OSError):  # who opened the lock and does not have it yet is refused: nobody waits for it
                (folder / TOKEN).unlink(missing_ok=True)
                (folder / LOCK).unlink()
            lock.release()


def look(jobs: Sequence[Job], token: str, version: str) -> str:
    """What this machine lacks for a sweep; empty where it lacks nothing.

    Args:
        jobs: One run of each data set.
        token: Of `reserved`.
        version: Of gendyn_lite where the sweep was started.
    """
    here = environment()["versions"].get("gendyn_lite", "")
    if here != version:
        return f"gendyn_lite is {here or 'not installed'} there and {version} here: install the same"
    for job in jobs:
        found = ""
        with suppress(OSError):
            found = (Path(job.store) / TOKEN).read_text(encoding="utf-8").strip()
        if found != token:
            return f"the run store {job.store} is another folder there: take one that every machine sees"
        found = ""
        with suppress(UserError):
            found = data.load(job.config.dataset, root=job.data_root).fingerprint
        if found != job.fingerprint:
            lacks = f"the data {job.config.dataset!r} under {job.data_root} are {'others' if found else 'not prepared'}"
            return f"{lacks} there: prepare them on a folder that every machine sees, and name it in GENDYN_DATA"
    return ""
