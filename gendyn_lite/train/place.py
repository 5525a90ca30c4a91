"""Where a run stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Place:
    """Where a run stands.

    Attributes:
        epoch: The epoch in progress, counted from 1.
        batch: Batches of it that are done.
        step: Steps taken in the whole run.
        seconds: Training seconds of the whole run, evaluations and checkpoints left out.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
