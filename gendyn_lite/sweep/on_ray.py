"""The engine of many machines: the runs as tasks of a Ray cluster.

Ray gives each run its processors and its share of a GPU, and begins a run again whose worker or machine has died; the
run's folder lets it go on from its last checkpoint, and never has it done twice.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from gendyn_lite.config import check_range
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import environment
from gendyn_lite.sweep.jobs import Job, Outcome, Resources, look, work

TICK_SECONDS, CONNECT_SECONDS, LOOK_SECONDS = 0.5, 5.0, 120.0
MOST_CORES = 1_000  # and GPUs, of a run


@contextlib.contextmanager
def connected(resources: Resources) -> Iterator[Cluster]:
    """A Ray cluster, until the end of the block.

    SIGTERM is answered as it was before.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or it has too little.
    """
    ray, terminated, address = ray_module(), signal.getsignal(signal.SIGTERM), resources.address or "auto"
    reach(address)
    with contextlib.redirect_stdout(io.StringIO()):  # Ray prints there what the line of progress says
        try:
            try:
                with _unheard():
                    ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=True)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                raise no_cluster(address, error) from None
            except SystemExit:  # so Ray answers SIGTERM from here on
                raise KeyboardInterrupt from None
            finally:
                with contextlib.suppress(ValueError):  # not in the main thread, where it answers nothing
                    signal.signal(signal.SIGTERM, terminated)
            yield Cluster(ray, resources)
        finally:
            ray.shutdown()


class Cluster:
    """A cluster, with what it gives to a run: made by `connected`.

    Attributes:
        gpus: GPUs of a run.
        at_once: How many runs fit at once.

    Raises:
        UserError: It has too little.
    """

    def __init__(self, ray: Any, resources: Resources) -> None:
        self.ray, self.resources = ray, resources
        has, cpus = ray.cluster_resources(), resources.cpus
        cores, self.gpus = has.get("CPU", 0), share(resources.gpus, has.get("GPU", 0))
        self.at_once = cores // cpus
        if self.at_once < 1:
            raise UserError(f"--cpus-per-run {cpus:g}: the cluster has {cores:g}, take fewer")
        if self.gpus:
            self.at_once = min(self.at_once, has["GPU"] // self.gpus)

    def check(self, jobs: Sequence[Job], token: str) -> None:
        """Check on every machine, on all at once, that the package, the run store and the data are there.

        Args:
            jobs: The runs.
            token: Name of a file in the run store.

        Raises:
            UserError: The first machine that lacks something, with what to do.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ray, first, looks = self.ray, list({job.config.dataset: job for job in jobs}.values()), {}
        mine = environment()["versions"].get("gendyn_lite", "")
        for node in (node for node in ray.nodes() if node["Alive"]):
            place = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            task = ray.remote(num_cpus=0, max_retries=3, scheduling_strategy=place)(look)
            looks[node["NodeManagerAddress"]] = task.remote(first, token, mine)
        for host, found in looks.items():
            try:
                lacks = ray.get(found, timeout=LOOK_SECONDS)
            except ray.exceptions.RayError as error:
                missing = "No module named" in str(error)
                lacks = "gendyn_lite is not installed there" if missing else str(error).strip().splitlines()[-1][:200]
            if lacks:
                raise UserError(f"machine {host} of the cluster: {lacks}")

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome | None, None, None]:
        """Do runs, as many at once as fit. Stopping early cancels the rest, which stays resumable.

        Yields:
            An outcome, or None at least twice a second.
        """
        ray, wanted = self.ray, self.resources
        options = {"num_cpus": wanted.cpus, "num_gpus": self.gpus, "max_retries": wanted.retries}
        task = ray.remote(**options, retry_exceptions=False)(_begin)
        waiting = {task.remote(job, self.gpus > 0): job for job in jobs}
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), num_returns=1, timeout=TICK_SECONDS)
                yield self._outcome(ready[0], waiting.pop(ready[0])) if ready else None
        finally:
            for each in waiting:
                with contextlib.suppress(Exception):  # it ends with Ray, at the latest
                    ray.cancel(each, force=True)

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


def _begin(job: Job, gpu: bool) -> Outcome:
    """A run on whatever worker it is."""
    if not gpu:  # given to it: none are seen, by torch neither
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return work(job)


def ray_module() -> Any:
    """Ray, if it is installed. A server that does not answer as Ray is waited for some 20 seconds, not minutes.

    Returns:
        The module.

    Raises:
        UserError: It is not; what to install.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no request to anyone
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the announced default, without its warning
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    os.environ.setdefault("RAY_py_gcs_connect_timeout_s", "10")
    try:
        import ray
    except ImportError:
        install = "pip install 'ray[default]'"
        raise UserError(f"--engine ray needs Ray: {install}; --engine local works without") from None
    return ray


def reach(address: str) -> None:
    """Check that a server listens at an address: Ray would try for 20 seconds. ``"auto"`` is Ray's to find.

    Raises:
        UserError: None does, or it is not an address.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()) or "/" in host:
        raise UserError(f"--address {address!r} is not HOST:PORT (of the head, usually 6379), nor auto on it")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise no_cluster(address, error) from None


def no_cluster(address: str, error: Exception) -> UserError:
    """The one line where Ray cannot be reached."""
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())[:300].rstrip(".") or "no answer"
    token = " (if it asks for a token: RAY_AUTH_MODE=token)" if "Failed to connect to Ray cluster" in reason else ""
    todo = "start one with `ray start --head`, or leave --engine ray out for this machine"
    return UserError(f"no cluster at {address}: {reason}{token}; {todo}")


def share(wanted: float | None, has: float) -> float:
    """GPUs of a run, given what was asked for and what there is.

    Raises:
        UserError: There are fewer than asked for, or it is a share that Ray cannot give.

    >>> share(None, 0), share(None, 8), share(0.25, 1)
    (0.0, 1.0, 0.25)
    """
    if wanted is None:
        return float(min(1, has))
    check_range("--gpus-per-run", wanted, 0, MOST_CORES, True)
    if wanted > 1 and wanted != int(wanted):
        raise UserError(f"--gpus-per-run {wanted:g}: expected a fraction of one GPU, or a whole number of them")
    if wanted > has:
        raise UserError(f"--gpus-per-run {wanted:g}: the cluster has {has:g} GPUs, take fewer (0 trains on processors)")
    return wanted
