"""The runs of a sweep: their description, their execution by a worker, and the folder that they are stored in."""

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

# Errors of the operating system after which every other run would fail too.
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}


class Job(NamedTuple):
    """One run, as it is sent to a worker.

    Attributes:
        chapter: The chapter whose probes measure the run.
        config: Its settings.
        fingerprint: Fingerprint of its data.
        profile: The profile to record with it.
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
        """The key of the run."""
        return self.config.run_id(self.fingerprint)

    @property
    def name(self) -> str:
        """A short description that tells the run from the others, for messages."""
        config = self.config
        inputs = "" if config.inputs == "true" else f" {config.inputs}"
        network = network_name(config.model, config.model_options)
        return f"{config.dataset} {network} q={config.label_corruption:g}{inputs} seed={config.seed}"


class Resources(NamedTuple):
    """Resources of the runs of a sweep.

    Attributes:
        address: Address of the Ray cluster, ``"HOST:PORT"``; if empty, the cluster that this machine belongs to.
        workers: Largest number of runs at once on this machine; 0 for the number that is fastest. Ignored on a cluster.
        cpus: Cores per run on a cluster.
        gpus: GPUs per run on a cluster, possibly a fraction; None for one if the cluster has any, else none.
        retries: How often a run is restarted after its worker died.
    """

    address: str = ""
    workers: int = 0
    cpus: float = 1
    gpus: float | None = None
    retries: int = 10


class Outcome(NamedTuple):
    """The result of executing a run.

    Attributes:
        run_id: Key of the run.
        seconds: Seconds that it took.
        trained: Whether it was trained; if not, it was complete already or has failed.
        error: Why it failed, in one line; empty if it succeeded.
        fatal: Whether every other run would fail for the same reason.
        where: Name of the machine.
    """

    run_id: str
    seconds: float
    trained: bool
    error: str = ""
    fatal: bool = False
    where: str = ""


def work(job: Job) -> Outcome:
    """Train or resume a run unless it is complete. Errors are returned as an outcome, so that other runs go on."""
    started, trained, error, fatal = time.monotonic(), False, "", False
    try:
        if not open_run(job.config, job.fingerprint, root=job.store).complete:
            run = registry.run_of(job.chapter)
            done = run(job.config, profile=job.profile, root=job.store, data_root=job.data_root)
            if done.run_id != job.run_id:
                name = job.config.dataset
                raise UserError(f"the data {name!r} differ from those where the sweep was started: copy them again")
            trained = True
    except Exception as raised:  # any error makes only this run fail
        error = " ".join(f"{type(raised).__name__}: {raised}".split()).removeprefix("UserError: ")
        cause = raised.__cause__ if isinstance(raised.__cause__, OSError) else raised
        fatal = isinstance(cause, OSError) and cause.errno in _FATAL
    return Outcome(job.run_id, time.monotonic() - started, trained, error, fatal, socket.gethostname())


def begun(job: Job) -> float:
    """The fraction of a run's steps that its newest checkpoint has finished; 0 without a checkpoint."""
    run = open_run(job.config, job.fingerprint, root=job.store)
    with suppress(ValueError, LookupError, TypeError, ArithmeticError):  # also raised if env.json is damaged
        step = int(listed(run.checkpoints)[-1].stem.removeprefix("step_"))
        return min(1.0, step / (job.config.epochs * math.ceil(run.env()["n_train"] / job.config.batch_size)))
    return 0.0


def make_jobs(chapter: str, configs: Sequence[RunConfig], *, profile: str, store: str, data_root: str) -> list[Job]:
    """Make the jobs of a sweep, without duplicates, after checking that data and networks exist and fit each other.

    Args:
        chapter: The chapter whose probes measure the runs.
        configs: The runs.
        profile: The profile to record with them.
        store: Folder of the runs.
        data_root: Folder of the prepared data.

    Raises:
        UserError: A data set is not prepared, or a network does not exist or does not fit its data.
    """
    kinds = runner.checked(configs, data_root=data_root)
    prints = [kinds[runner.kind_of(config)].fingerprint for config in configs]
    jobs = [Job(chapter, *run, profile, store, data_root) for run in zip(configs, prints, strict=True)]
    return list({job.run_id: job for job in jobs}.values())


LOCK, TOKEN = ".sweep.lock", ".sweep.token"
TOKEN_BYTES = 2**20  # writing this much shows whether the disk is full


def store_folder(place: str) -> str:
    """The absolute path of the folder that ``--store`` names.

    Raises:
        UserError: It is a URL, a file, or a path inside a file.

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
    """Lock a run store for one sweep, after testing that it can be written to.

    Yields:
        A random token. A file in the store contains it until the end of the block, so that other machines can check
        that they see the same store.

    Raises:
        UserError: Another sweep uses the store.
        Failed: The store cannot be written to, or its disk is full.
    """
    folder, token = Path(place), uuid.uuid4().hex
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            write_text(folder / TOKEN, token.ljust(TOKEN_BYTES))
        except Timeout:
            raise UserError(f"another sweep uses the run store {place}: wait for it to end, or stop it") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise Failed(f"the run store {place} cannot be written to: {reason}; nothing was started") from None
        yield token
    finally:
        if lock.is_locked:
            with suppress(OSError):  # safe to delete: nobody ever waits for this lock
                (folder / TOKEN).unlink(missing_ok=True)
                (folder / LOCK).unlink()
            lock.release()


def look(jobs: Sequence[Job], token: str, version: str) -> str:
    """Check that this machine of a cluster has all that a sweep needs.

    Args:
        jobs: One run of each data set.
        token: The token that `reserved` yielded.
        version: Version of gendyn_lite on the machine where the sweep was started.

    Returns:
        What is missing and what to do about it; empty if nothing is missing.
    """
    here = environment()["versions"].get("gendyn_lite", "")
    if here != version:
        return f"gendyn_lite is {here or 'not installed'} there and {version} here: install the same version"
    for job in jobs:
        found = ""
        with suppress(OSError):
            found = (Path(job.store) / TOKEN).read_text(encoding="utf-8").strip()
        if found != token:
            return f"the run store {job.store} is another folder there: use one that every machine sees"
        found = ""
        with suppress(UserError):
            found = data.load(job.config.dataset, root=job.data_root).fingerprint
        if found != job.fingerprint:
            state = "different" if found else "not prepared"
            lacks = f"the data {job.config.dataset!r} under {job.data_root} are {state} there"
            return f"{lacks}: prepare them in a folder that every machine sees, and set GENDYN_DATA to it"
    return ""
