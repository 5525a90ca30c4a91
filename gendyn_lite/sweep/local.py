"""The engine that needs nothing: one run after another, in this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

from gendyn_lite.sweep.jobs import Job, Outcome, work


def run_here(jobs: Sequence[Job]) -> Iterator[tuple[Outcome | None, dict[str, str]]]:
    """Do runs in turn.

    Yields:
        An outcome or None, and which run is running where.
    """
    for job in jobs:
        yield None, {job.run_id: socket.gethostname()}
        yield work(job), {}
