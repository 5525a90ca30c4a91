"""Learning rates and probe epochs: pure functions of the epoch."""

from __future__ import annotations

import math

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError


def learning_rate(config: RunConfig, epoch: int) -> float:
    """The step size used during an epoch.

    - ``"constant"``: learning_rate.
    - ``"exponential"``: learning_rate · decay^(epoch−1).
    - ``"step"``: learning_rate · decay^k, where k of the milestones are epochs finished before this one.
    - ``"cosine"``: learning_rate · (1 + cos(π(epoch−1)/epochs))/2, which would be 0 in the epoch after the last.

    Args:
        config: Its learning_rate, schedule, decay, milestones and epochs are used.
        epoch: The epoch, counted from 1; 0 (before training) gives the first epoch's.

    >>> config = RunConfig(experiment="demo", learning_rate=0.1, schedule="step", decay=0.5, milestones=(2, 3))
    >>> [learning_rate(config, epoch) for epoch in range(1, 5)]
    [0.1, 0.1, 0.05, 0.025]
    """
    finished = max(epoch - 1, 0)
    if config.schedule == "exponential":
        return config.learning_rate * config.decay**finished
    if config.schedule == "step":
        return config.learning_rate * config.decay ** sum(milestone <= finished for milestone in config.milestones)
    if config.schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * finished / config.epochs)) / 2
    return config.learning_rate


def log_spaced(epochs: int, count: int = 20) -> tuple[int, ...]:
    """Epochs at which to probe, dense at the start: 0, 1 and on to `epochs` in equal ratios, rounded, each once.

    Args:
        epochs: The last epoch, at least 1.
        count: Most epochs after 0, at least 1.

    >>> log_spaced(100, 6)
    (0, 1, 3, 6, 16, 40, 100)
    """
    if epochs < 1 or count < 1:
        raise UserError(f"log_spaced({epochs}, {count}): expected at least one epoch and one probe")
    ratio = epochs ** (1 / max(count - 1, 1))
    spaced = {round(ratio**k) for k in range(count)}
    return tuple(sorted({0, epochs} | spaced))
