"""Whether a cluster is there, has what a sweep asks for, and sees the same runs and data on every machine."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gendyn_lite.config import check_range
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import environment
from gendyn_lite.sweep.jobs import Job

CONNECT_SECONDS, LOOK_SECONDS = 5.0, 120.0
MOST_CORES = 1_000  # and GPUs, of a run


def reach(address: str) -> None:
    """See that somebody listens at an address, which says more than Ray would; ``"auto"`` is Ray's own to find.

    Raises:
        UserError: Nobody does, or it is no address.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()) or "/" in host:
        raise UserError(f"--address {address!r} is none: expected HOST:PORT (of the head, usually 6379), or auto on it")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise no_cluster(address, error) from None


def no_cluster(address: str, error: Exception) -> UserError:
    """The one line where Ray cannot be reached."""
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())[:300].rstrip(".") or "no answer"
    if not address:
        return UserError(f"Ray does not start on this machine: {reason}")
    token = " (if it asks for a token: RAY_AUTH_MODE=token)" if "Failed to connect to Ray cluster" in reason else ""
    todo = "start one with `ray start --head`, or leave --address out for this machine"
    return UserError(f"no cluster at {address}: {reason}{token}; {todo}")


def share(wanted: float | None, has: float) -> float:
    """GPUs of a run, given what was asked for and what there is.

    Raises:
        UserError: There are fewer than asked for, or the share is none that Ray can give.

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


def check(ray: Any, jobs: Sequence[Job], token: str) -> None:
    """Look on every machine at once.

    Args:
        ray: The connected module.
        jobs: The runs.
        token: Name of a file that lies in the run store.

    Raises:
        UserError: The first machine that lacks something, with what to do.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    first = {job.config.dataset: job for job in jobs}
    mine = environment()["versions"].get("gendyn_lite", "")
    alive = [node for node in ray.nodes() if node["Alive"]]
    looks = {}
    for node in alive:
        place = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        task = ray.remote(num_cpus=0, max_retries=3, scheduling_strategy=place)(look)
        looks[node["NodeManagerAddress"]] = task.remote(list(first.values()), token, mine)
    for host, found in looks.items():
        try:
            lacks = ray.get(found, timeout=LOOK_SECONDS)
        except ray.exceptions.RayError as error:
            missing = "No module named" in str(error)
            lacks = "gendyn_lite is not installed there" if missing else str(error).strip().splitlines()[-1][:200]
        if lacks:
            raise UserError(f"machine {host} of the cluster: {lacks}")


def look(jobs: Sequence[Job], token: str, version: str) -> str:
    """What this machine lacks for a sweep; empty where it lacks nothing."""
    from gendyn_lite import data

    here = environment()["versions"].get("gendyn_lite", "")
    if here != version:
        return f"gendyn_lite is {here or 'not installed'} there and {version} here: install the same"
    for job in jobs:
        if not (Path(job.store) / token).is_file():
            return f"the run store {job.store} is another folder there: take one that every machine sees"
        found = ""
        with contextlib.suppress(UserError):
            found = data.load(job.config.dataset, root=job.data_root).fingerprint
        if found != job.fingerprint:
            return (
                f"the data {job.config.dataset!r} under {job.data_root} are {'others' if found else 'not prepared'} "
                "there: prepare them on a folder that every machine sees, and name it in GENDYN_DATA"
            )
    return ""
