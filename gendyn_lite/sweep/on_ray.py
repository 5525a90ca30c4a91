"""The engine of many machines: the runs as tasks of Ray, on a cluster that exists or on one of this machine.

Ray gives each run its processors and its share of a GPU, and begins a run again whose worker or machine has died; the
run's folder lets it go on from its last checkpoint, and never has it done twice.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gendyn_lite.errors import UserError
from gendyn_lite.sweep import nodes
from gendyn_lite.sweep.jobs import Job, Outcome, without_gpu, work

INSTALL = "pip install 'ray[default]'"
TICK_SECONDS = 0.5
STORE_BYTES = 80 * 2**20  # Ray's own memory for objects: only outcomes pass through it


class Resources(NamedTuple):
    """What a run takes, and where it may be.

    Attributes:
        address: Of a cluster: ``"auto"`` or ``"HOST:PORT"``; empty for one of this machine.
        workers: Runs at once on this machine; 0 for one on each core. A cluster decides for itself.
        cpus: Cores of a run.
        gpus: GPUs of a run, which may be a fraction; None for one where there are some, else none.
        retries: How often a run whose worker died is begun again.
    """

    address: str = ""
    workers: int = 0
    cpus: float = 1
    gpus: float | None = None
    retries: int = 10


class Cluster:
    """Ray, connected; use it as ``with Cluster(resources) as cluster: cluster.run(jobs)``.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or it has too little.
    """

    def __init__(self, resources: Resources) -> None:
        self.ray, self.resources = ray_module(resources.address), resources

    def __enter__(self) -> Cluster:
        """Connect, or start Ray here, and see that it has what a run takes."""
        self._quiet = contextlib.redirect_stdout(io.StringIO())  # Ray prints there what the live table says
        self._quiet.__enter__()
        try:
            self._connect()
            self._measure()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self) -> None:
        wanted, terminated = self.resources, signal.getsignal(signal.SIGTERM)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
        try:
            if wanted.address:
                nodes.reach(wanted.address)
                with _unheard():
                    self.ray.init(address=wanted.address, **options)
            else:
                count = (wanted.workers or os.cpu_count() or 1) * wanted.cpus
                options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
                self.ray.init(address="local", num_cpus=max(1, int(count)), **options)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            if isinstance(error, UserError):
                raise
            raise nodes.no_cluster(wanted.address, error) from None
        except SystemExit:  # so Ray answers SIGTERM from here on
            raise KeyboardInterrupt from None
        finally:
            with contextlib.suppress(ValueError):  # not in the main thread, where it answers nothing
                signal.signal(signal.SIGTERM, terminated)

    def __exit__(self, *error: object) -> None:
        """Disconnect; a Ray that was started here ends."""
        self.ray.shutdown()
        self._quiet.__exit__(None, None, None)

    def _measure(self) -> None:
        """How many runs fit at once."""
        has = self.ray.cluster_resources()
        self.gpus = nodes.share(self.resources.gpus, has.get("GPU", 0))
        self.at_once = has.get("CPU", 0) // self.resources.cpus
        if self.at_once < 1:
            raise UserError(
                f"--cpus-per-run {self.resources.cpus:g}: the cluster has {has.get('CPU', 0):g}, take fewer"
            )
        if self.gpus:
            self.at_once = min(self.at_once, has["GPU"] // self.gpus)

    def check(self, jobs: Sequence[Job], token: str) -> None:
        """See on every machine of a cluster that the package, the run store and the data are there.

        Raises:
            UserError: The first machine that lacks something.
        """
        if self.resources.address:
            nodes.check(self.ray, jobs, token)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Outcome | None, dict[str, str]]]:
        """Do runs, as many at once as fit. Whoever stops in between cancels the rest, which stays resumable.

        Yields:
            An outcome or None, and which runs are running where.
        """
        ray, wanted = self.ray, self.resources
        board = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
        options = {"num_cpus": wanted.cpus, "num_gpus": self.gpus, "max_retries": wanted.retries}
        task = ray.remote(**options, retry_exceptions=False)(_begin)
        waiting = {task.remote(job, board, self.gpus > 0): job for job in jobs}
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), num_returns=1, timeout=TICK_SECONDS)
                running = self._running(board)
                yield None, running
                for done in ready:
                    yield self._outcome(done, waiting.pop(done)), running
        finally:
            # A Ray of our own ends with its workers, and to cancel a task that is just ending can abort the process.
            for each in waiting if wanted.address else ():
                with contextlib.suppress(Exception):  # it ends with Ray, at the latest
                    ray.cancel(each, force=True)

    def _running(self, board: Any) -> dict[str, str]:
        """What the board says; nothing while it is begun again itself."""
        try:
            return self.ray.get(board.read.remote(), timeout=TICK_SECONDS)
        except (self.ray.exceptions.RayError, TimeoutError):
            return {}

    def _outcome(self, done: Any, job: Job) -> Outcome:
        try:
            return self.ray.get(done)
        except self.ray.exceptions.RayError as error:
            line, fatal = " ".join(str(error).split())[:300], False
            if isinstance(error, self.ray.exceptions.WorkerCrashedError):
                line = f"its worker died, {self.resources.retries + 1} times (out of memory?)"
            elif isinstance(error, self.ray.exceptions.LocalRayletDiedError):
                line, fatal = "Ray itself died on this machine", True
            return Outcome(job.run_id, 0.0, False, line, fatal, "cluster")


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Drop what C++ code of this process writes to stderr: Ray's account of its trials; it raises the outcome."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Board:
    """Which runs were begun, and where: workers write on it, the live table reads it."""

    def __init__(self) -> None:
        self._begun: dict[str, str] = {}

    def begin(self, run_id: str, where: str) -> None:
        """A run begins, perhaps not for the first time."""
        self._begun.pop(run_id, None)  # the last to begin stands last
        self._begun[run_id] = where

    def end(self, run_id: str) -> None:
        """A run has ended."""
        self._begun.pop(run_id, None)

    def read(self) -> dict[str, str]:
        """The runs that were begun and have not ended."""
        return self._begun


def _begin(job: Job, board: Any, gpu: bool) -> Outcome:
    """A run on whatever worker it is."""
    if not gpu:
        without_gpu()
    board.begin.remote(job.run_id, f"{socket.gethostname()}, process {os.getpid()}")
    try:
        return work(job)
    finally:
        board.end.remote(job.run_id)


def ray_module(address: str = "") -> Any:
    """Ray, if it is installed.

    Args:
        address: Of a cluster: whoever is there but does not answer as Ray is waited for some 20 seconds, not minutes.

    Raises:
        UserError: It is not; what to install.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no request to anyone
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the announced default, without its warning
    if address:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
        os.environ.setdefault("RAY_py_gcs_connect_timeout_s", "10")
    try:
        import ray
    except ImportError:
        raise UserError(f"--engine ray needs Ray: {INSTALL}; --engine local works without") from None
    return ray
