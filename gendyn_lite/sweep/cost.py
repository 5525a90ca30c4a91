"""What runs will take here: from the last ones like them that were measured, else from a few steps on trial."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import read_run, runs_root
from gendyn_lite.threads import threads
from gendyn_lite.train.device import choose_device
from gendyn_lite.train.loop import estimate_seconds, in_words

# From runs that differ in the seed alone to runs that share little but network and data. Where a run may differ in
# what it costs, its cost is scaled by epochs and examples.
_SEED = ("seed",)
_LABELS = (*_SEED, "label_corruption", "inputs")
_SIZE = (*_LABELS, "epochs", "train_size", "test_size", "eval_every", "milestones", "learning_rate", "decay")
_KIND = (*_SIZE, "schedule", "weight_decay", "momentum", "stop_when_fitted", "random_crop", "flip", "batch_size")
LEVELS = (_SEED, _LABELS, _SIZE, _KIND, (*_KIND, "experiment", "standardize"))
MOST_EXAMPLES = 60_000  # of a whole data set of which nothing was measured
LAST = 5  # measured runs that an estimate is made of


class Measured(NamedTuple):
    """A complete run, and what it took."""

    config: dict[str, Any]
    seconds: float
    epochs: int
    examples: int
    device: str
    ended: float


class Cost(NamedTuple):
    """What a run will take.

    Attributes:
        config: The run.
        seconds: 0 for a run that is complete, None where nothing like it was measured.
        complete: Whether it only has to be loaded.
    """

    config: RunConfig
    seconds: float | None
    complete: bool


def measured_runs(experiments: Iterable[str], *, root: str | Path | None = None) -> list[Measured]:
    """The complete runs of some experiments, the last ones first; folders that cannot be read are left out."""
    found = []
    for experiment in sorted(set(experiments)):
        for file in (runs_root(root) / experiment).glob("*/complete.json"):
            try:
                found.append(_measured(file.parent))
            except (OSError, ValueError, KeyError, IndexError, UserError):
                continue
    return sorted((each for each in found if each is not None), key=lambda each: -each.ended)


def _measured(folder: Path) -> Measured | None:
    """What the run in a folder took; a resumed run took what its training took, however often it began anew."""
    run = read_run(folder)
    if not run.complete:
        return None
    env, last = run.env(), run.rows()[-1]
    seconds = max(float(env["wall_seconds"]), float(last["seconds"]))
    ended = (folder / "complete.json").stat().st_mtime
    return Measured(run.config.as_dict(), seconds, int(last["epoch"]), int(env["n_train"]), env["device"], ended)


def costs(configs: Sequence[RunConfig], *, device: str, root: str | Path | None = None) -> list[Cost]:
    """What each of some runs will take on a device.

    Args:
        configs: The runs.
        device: Name of the GPU, or ``"CPU"``, as runs record it.
        root: Folder of the runs (default: the variable GENDYN_RUNS, else ``./runs``).

    >>> [cost.seconds for cost in costs([RunConfig(experiment="never_run")], device="CPU")]
    [None]
    """
    known = measured_runs((config.experiment for config in configs), root=root)
    done = {key(each.config) for each in known}
    indexed: list[tuple[Sequence[str], dict[str, list[Measured]]]] = [(ignored, {}) for ignored in LEVELS]
    for ignored, found in indexed:
        for each in known:
            if each.device == device:
                found.setdefault(key(each.config, ignored), []).append(each)
    whole = {each.config["dataset"]: each.examples for each in known if each.config["train_size"] is None}
    fields = [(config, config.as_dict()) for config in configs]
    complete = [key(values) in done for _, values in fields]
    return [
        Cost(config, 0.0 if ready else _seconds(values, indexed, whole), ready)
        for (config, values), ready in zip(fields, complete, strict=True)
    ]


def _seconds(
    config: dict[str, Any], indexed: Sequence[tuple[Sequence[str], dict[str, list[Measured]]]], whole: dict[str, int]
) -> float | None:
    """Median of the nearest measured runs, scaled by epochs and examples where these may differ."""
    for ignored, found in indexed:
        like = found.get(key(config, ignored), [])[:LAST]
        if not like:
            continue
        if "epochs" not in ignored:
            return statistics.median(each.seconds for each in like)
        examples = config["train_size"] or whole.get(config["dataset"], MOST_EXAMPLES)
        rate = statistics.median(each.seconds / max(each.epochs * each.examples, 1) for each in like)
        return rate * config["epochs"] * examples
    return None


def key(config: dict[str, Any], ignored: Sequence[str] = ()) -> str:
    """Equal for configurations that differ in the ignored fields alone."""
    return json.dumps({name: value for name, value in config.items() if name not in ignored}, sort_keys=True)


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
        if kind not in tried:  # its measures are not counted
            loaded, _ = data.load_for_run(cost.config, root=data_root)
            network = runner.build(cost.config, loaded)
            with threads(train.threads_for(network, cost.config)):
                tried[kind] = estimate_seconds(network, loaded, cost.config, device=choose_device(None))
        found[number] = cost._replace(seconds=tried[kind])
    return found


def total(found: Sequence[Cost]) -> float | None:
    """Seconds of some runs, one after another; None if one of them is unknown.

    >>> config = RunConfig(experiment="demo")
    >>> total([Cost(config, 30.0, False), Cost(config, 10.0, False)])
    40.0
    """
    seconds = [cost.seconds for cost in found]
    known = [each for each in seconds if each is not None]
    return sum(known) if len(known) == len(seconds) else None


def said(seconds: float | None) -> str:
    """A duration in words, also where it is not known.

    >>> said(600), said(None)
    ('about 10 minutes', 'an unknown time')
    """
    return "an unknown time" if seconds is None else f"about {in_words(seconds)}"
