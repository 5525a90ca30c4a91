"""One run of a sweep: what a worker is given, does and gives back, on whatever machine it is."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

from gendyn_lite.chapters import registry
from gendyn_lite.config import RunConfig, canonical
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import open_run
from gendyn_lite.results.tables import network_name

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
    started, where = time.monotonic(), socket.gethostname()
    trained, error, fatal = False, "", False
    try:
        trained = _work(job)
    except Exception as raised:  # whatever a run raises is its own failure
        error, fatal = " ".join(f"{type(raised).__name__}: {raised}".split()), _is_fatal(raised)
        if isinstance(raised, UserError):
            error = error.removeprefix("UserError: ")
    return Outcome(job.run_id, time.monotonic() - started, trained, error, fatal, where)


def _work(job: Job) -> bool:
    """The run, complete; whether it had to be trained."""
    if open_run(job.config, job.fingerprint, root=job.store).complete:
        return False
    done = registry.run_of(job.chapter)(job.config, profile=job.profile, root=job.store, data_root=job.data_root)
    if done.run_id != job.run_id:
        raise UserError(
            f"the data {job.config.dataset!r} differ here from those where the sweep was begun: copy them anew"
        )
    return True


def _is_fatal(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return isinstance(cause, OSError) and cause.errno in _FATAL


def make_jobs(chapter: str, configs: Sequence[RunConfig], *, profile: str, store: str, data_root: str) -> list[Job]:
    """The runs of a sweep, each once; the data and the network of every kind are looked at first.

    Raises:
        UserError: A data set is not prepared, or a network does not exist or does not fit.
    """
    from gendyn_lite import data
    from gendyn_lite.chapters import runner

    kinds = {
        (config.dataset, config.train_size, config.test_size, config.model, canonical(config.model_options)): config
        for config in configs
    }
    prints: dict[str, str] = {}
    for config in kinds.values():
        loaded, _ = data.load_for_run(config, root=data_root)
        runner.build(config, loaded)
        prints[config.dataset] = loaded.fingerprint
    jobs = [Job(chapter, config, prints[config.dataset], profile, store, data_root) for config in configs]
    return list({job.run_id: job for job in jobs}.values())


def without_gpu() -> None:
    """Hide the GPUs from a worker that was given none, before torch looks for them."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
