"""What runs will take here: from measured ones, and a few steps on trial where nothing like them was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.config import RunConfig
from gendyn_lite.sweep.cost import LEVELS, Cost, costs, key
from gendyn_lite.threads import threads
from gendyn_lite.train.device import choose_device
from gendyn_lite.train.loop import estimate_seconds, in_words


def device_name() -> str:
    """The device that runs take here, as they record it: the name of the GPU, or ``"CPU"``."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def estimated(
    configs: Sequence[RunConfig],
    *,
    device: str,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    trial: bool = True,
) -> list[Cost]:
    """What each run will take; runs unlike any that was measured are tried for a few steps, one of each kind.

    Args:
        configs: The runs.
        device: Name of the device, as `device_name` gives it.
        root: Folder of the runs.
        data_root: Folder of the prepared data.
        trial: Whether to try; else such a run's seconds are None.

    Raises:
        UserError: The data of a run to be tried is not prepared, or its network does not exist.
    """
    found = costs(configs, device=device, root=root)
    tried: dict[str, float] = {}
    for number, cost in enumerate(found):
        if cost.seconds is not None or not trial:
            continue
        kind = key(cost.config.as_dict(), LEVELS[1])
        if kind not in tried:
            tried[kind] = _on_trial(cost.config, data_root)
        found[number] = cost._replace(seconds=tried[kind])
    return found


def _on_trial(config: RunConfig, data_root: str | Path | None) -> float:
    """Seconds of a run, from a few steps; its measures are not counted."""
    loaded, _ = data.load_for_run(config, root=data_root)
    network = runner.build(config, loaded)
    with threads(train.threads_for(network, config)):
        return estimate_seconds(network, loaded, config, device=choose_device(None))


def total(found: Sequence[Cost], *, at_once: float = 1.0) -> float | None:
    """Seconds of some runs, so many at once; None if one of them is unknown.

    >>> config = RunConfig(experiment="demo")
    >>> total([Cost(config, 30.0, False), Cost(config, 10.0, False)], at_once=2)
    20.0
    """
    seconds = [cost.seconds for cost in found]
    known = [each for each in seconds if each is not None]
    return sum(known) / at_once if len(known) == len(seconds) else None


def said(seconds: float | None) -> str:
    """A duration in words, also where it is not known.

    >>> said(600), said(None)
    ('about 10 minutes', 'an unknown time')
    """
    return "an unknown time" if seconds is None else f"about {in_words(seconds)}"
