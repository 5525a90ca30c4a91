"""The Ray engine of a sweep: every run is a task of a Ray cluster.

Ray assigns cores and GPUs, or fractions of a GPU, to each run, and restarts runs whose worker or machine has died. A
restarted run continues from the last checkpoint in its folder, and a complete one is not trained again.
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
MOST_CORES = 1_000  # per run; also the largest number of GPUs


@contextlib.contextmanager
def connected(resources: Resources) -> Iterator[Cluster]:
    """Connect to a Ray cluster until the end of the block; the caller's handler of SIGTERM stays in place.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or it lacks the resources.
    """
    ray, terminated, address = ray_module(), signal.getsignal(signal.SIGTERM), resources.address or "auto"
    reach(address)
    with contextlib.redirect_stdout(io.StringIO()):  # what Ray prints would disturb the progress line
        try:
            try:
                with _silent_stderr():
                    ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=True)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                raise no_cluster(address, error) from None
            except SystemExit:  # Ray's own handler of SIGTERM raises this
                raise KeyboardInterrupt from None
            finally:
                with contextlib.suppress(ValueError):  # only the main thread can set handlers, and no other needs to
                    signal.signal(signal.SIGTERM, terminated)
            yield Cluster(ray, resources)
        finally:
            ray.shutdown()


class Cluster:
    """A Ray cluster that a sweep is connected to; made by `connected`.

    Attributes:
        gpus: GPUs per run.
        at_once: How many runs fit the cluster at once.

    Raises:
        UserError: The cluster has fewer cores or GPUs than one run needs.
    """

    def __init__(self, ray: Any, resources: Resources) -> None:
        self.ray, self.resources = ray, resources
        has, cpus = ray.cluster_resources(), resources.cpus
        cores, self.gpus = has.get("CPU", 0), share(resources.gpus, has.get("GPU", 0))
        self.at_once = cores // cpus
        if self.at_once < 1:
            raise UserError(f"--cpus-per-run {cpus:g}: the cluster has {cores:g} cores, ask for fewer")
        if self.gpus:
            self.at_once = min(self.at_once, has["GPU"] // self.gpus)

    def check(self, jobs: Sequence[Job], token: str) -> None:
        """Check on all machines, in parallel, that package, run store and data are available there.

        Args:
            jobs: The runs.
            token: The token that `gendyn_lite.sweep.jobs.reserved` yielded.

        Raises:
            UserError: A machine lacks something; the message names it and says what to do.
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
        """Execute runs, as many at once as fit. Stopping early cancels the others, which can be resumed later.

        Yields:
            Outcomes as they arrive, and None at least twice a second.
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
                with contextlib.suppress(Exception):  # a task that cannot be cancelled ends when Ray shuts down
                    ray.cancel(each, force=True)

    def _outcome(self, done: Any, job: Job) -> Outcome:
        """The outcome of a finished task; errors of Ray become failures of the run."""
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
def _silent_stderr() -> Iterator[None]:
    """Discard what Ray's C++ code writes to stderr about attempts to connect; failures are raised as errors anyway."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _begin(job: Job, gpu: bool) -> Outcome:
    """Execute a run on a worker of the cluster; without a GPU of its own it must not use any."""
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return work(job)


def ray_module() -> Any:
    """Import Ray, configured to give up after some 20 seconds, not minutes, if a server does not answer like Ray.

    Returns:
        The module.

    Raises:
        UserError: Ray is not installed; the message says what to install.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no request to another host
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the announced default, which avoids a warning
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    os.environ.setdefault("RAY_py_gcs_connect_timeout_s", "10")
    try:
        import ray
    except ImportError:
        install = "pip install 'ray[default]'"
        raise UserError(f"--engine ray needs Ray: install it with {install}, or use --engine local") from None
    return ray


def reach(address: str) -> None:
    """Check that a server listens at an address, since Ray would keep trying for 20 seconds. ``"auto"`` is not checked.

    Raises:
        UserError: No server listens there, or the text is not an address.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()) or "/" in host:
        raise UserError(f"--address is {address!r}, expected HOST:PORT of the head (port usually 6379), or auto on it")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise no_cluster(address, error) from None


def no_cluster(address: str, error: Exception) -> UserError:
    """The error for a cluster that cannot be reached."""
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())[:300].rstrip(".") or "no answer"
    token = " (if it asks for a token: RAY_AUTH_MODE=token)" if "Failed to connect to Ray cluster" in reason else ""
    todo = "start one with `ray start --head`, or leave out --engine ray to use this machine"
    return UserError(f"no cluster at {address}: {reason}{token}; {todo}")


def share(wanted: float | None, has: float) -> float:
    """The number of GPUs per run.

    Args:
        wanted: The number that was asked for, possibly a fraction; None for one if there are any.
        has: Number of GPUs of the cluster.

    Raises:
        UserError: The cluster has fewer, or it is a fraction above 1, which Ray does not support.

    >>> share(None, 0), share(None, 8), share(0.25, 1)
    (0.0, 1.0, 0.25)
    """
    if wanted is None:
        return float(min(1, has))
    check_range("--gpus-per-run", wanted, 0, MOST_CORES, True)
    if wanted > 1 and wanted != int(wanted):
        raise UserError(f"--gpus-per-run {wanted:g}: expected a fraction of one GPU, or a whole number of them")
    if wanted > has:
        raise UserError(f"--gpus-per-run {wanted:g}: the cluster has {has:g} GPUs, ask for fewer (0 trains on the CPU)")
    return wanted
