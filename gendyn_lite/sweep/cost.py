"""Estimates of how long runs will take: from similar runs that were measured, else from timing a few steps."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.config import RunConfig, canonical
from gendyn_lite.results.runs import read_run, runs_root
from gendyn_lite.threads import threads
from gendyn_lite.train.device import choose_device
from gendyn_lite.train.loop import estimate_seconds

# Settings in which a measured run may differ from the estimated one, from the most similar runs to those that share
# little but network and data. From the third level on, seconds are scaled by epochs and examples.
_LABELS = ("seed", "label_corruption", "inputs")
_RATE = ("learning_rate", "schedule", "decay", "milestones", "weight_decay")
_LENGTH = (*_LABELS, *_RATE, "epochs", "stop_when_fitted", "stop_at_loss")
_SIZE = ("train_size", "test_size", "batch_size", "eval_every", "eval_schedule")
_KIND = (*_LENGTH, *_SIZE, "momentum", "random_crop", "flip")
LEVELS = (("seed",), _LABELS, _LENGTH, _KIND, (*_KIND, "experiment", "standardize"))
TRIED = (*_LENGTH, "experiment")  # settings that hardly change the time of a step: one timing serves all their values
MOST_EXAMPLES = 60_000  # assumed size of a whole data set of which no run was measured
LAST = 5  # number of the most recent similar runs that an estimate is the median of


class Measured(NamedTuple):
    """A complete run and its cost.

    Attributes:
        config: Its settings.
        seconds: Seconds that it took.
        epochs: Number of epochs.
        examples: Number of training examples.
        device: Name of its device.
        ended: Time of its end, in seconds since the epoch.
    """

    config: dict[str, Any]
    seconds: float
    epochs: int
    examples: int
    device: str
    ended: float


class Cost(NamedTuple):
    """The estimated cost of a run.

    Attributes:
        config: The run.
        seconds: Estimated seconds; 0 if the run is complete, None if they are unknown.
        complete: Whether the run is complete, so that it only has to be loaded.
    """

    config: RunConfig
    seconds: float | None
    complete: bool


def measured_runs(experiments: Iterable[str], *, root: str | Path | None = None) -> list[Measured]:
    """The complete runs of some experiments, the most recent first; damaged run folders are skipped."""
    found = []
    for experiment in sorted(set(experiments)):
        for file in (runs_root(root) / experiment).glob("*/complete.json"):
            with suppress(OSError, ValueError, LookupError, TypeError, OverflowError):
                run = read_run(file.parent)
                run.whole()
                env, last = run.env(), run.rows()[-1]
                # The wall time of a resumed run is only that since the last resume.
                seconds = max(float(env["wall_seconds"]), float(last["seconds"]))
                size = int(last["epoch"]), int(env["n_train"])
                if not math.isfinite(seconds * size[0] * size[1]):  # possible in a folder copied from elsewhere
                    continue
                found.append(Measured(run.config.as_dict(), seconds, *size, env["device"], file.stat().st_mtime))
    return sorted(found, key=lambda each: -each.ended)


def estimated(
    configs: Sequence[RunConfig],
    *,
    device: str,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    trial: float = math.inf,
    known: Sequence[Measured] | None = None,
) -> list[Cost]:
    """Estimate the cost of runs on a device from the most similar runs that were measured on it.

    Args:
        configs: The runs.
        device: Name of the device as in run records: see `gendyn_lite.train.device.device_name`.
        root: Folder of the runs (default: the variable GENDYN_RUNS, else ``./runs``).
        data_root: Folder of the prepared data.
        trial: Time budget in seconds for runs that are unlike any measured one: a few steps of one run of each kind are
            timed. Once it is used up, the cost of further kinds is unknown (None). It starts after the first timing,
            which also loads PyTorch's optimizers, and the first run of each data set is always timed.
        known: Complete runs (default: `measured_runs` of the experiments, in `root`).

    Returns:
        The cost of each run, in the order of `configs`.

    Raises:
        UserError: The data of a run that is to be timed is not prepared, or its network does not exist.

    >>> [cost.seconds for cost in estimated([RunConfig(experiment="never_run")], device="CPU", trial=0)]
    [None]
    """
    known = measured_runs((config.experiment for config in configs), root=root) if known is None else known
    done = {_key(each.config) for each in known}
    whole = {each.config["dataset"]: each.examples for each in known if each.config["train_size"] is None}
    like: dict[tuple[int, str], list[Measured]] = defaultdict(list)
    for each in known:
        for level, ignored in enumerate(LEVELS if each.device == device else ()):
            like[level, _key(each.config, ignored)].append(each)
    tried: dict[str, float] = {}  # seconds per epoch of each kind that was timed
    until, sets = math.inf if trial else 0.0, set[str]()
    found = []
    for config in configs:
        values = config.as_dict()
        complete, kind = _key(values) in done, _key(values, TRIED)
        seconds = 0.0 if complete else _seconds(values, like, whole)
        new = trial > 0 and config.dataset not in sets
        if seconds is None and (kind in tried or new or time.monotonic() < until):
            tried[kind] = tried.get(kind) or _tried(config, data_root) / config.epochs
            until = min(until, time.monotonic() + trial)
            sets.add(config.dataset)
            seconds = tried[kind] * config.epochs
        found.append(Cost(config, seconds, complete))
    return found


def _seconds(
    config: dict[str, Any], like: Mapping[tuple[int, str], Sequence[Measured]], whole: Mapping[str, int]
) -> float | None:
    """The median over the most similar measured runs, scaled by epochs and examples if these may differ."""
    for level, ignored in enumerate(LEVELS):
        nearest = like.get((level, _key(config, ignored)), ())[:LAST]
        if nearest and "epochs" not in ignored:
            return statistics.median(each.seconds for each in nearest)
        if nearest:
            examples = config["train_size"] or whole.get(config["dataset"], MOST_EXAMPLES)
            rate = statistics.median(each.seconds / max(each.epochs * each.examples, 1) for each in nearest)
            return rate * config["epochs"] * examples
    return None


def _tried(config: RunConfig, data_root: str | Path | None) -> float:
    """Seconds of a run, extrapolated from a few steps; what its probes take is not included."""
    loaded, _ = data.load_for_run(config, root=data_root)
    network = runner.build(config, loaded)
    with threads(train.threads_for(network, config)):
        return estimate_seconds(network, loaded, config, device=choose_device(None))


def _key(config: dict[str, Any], ignored: Sequence[str] = ()) -> str:
    """A key that is equal for configurations which differ only in the ignored fields."""
    return canonical({name: value for name, value in config.items() if name not in ignored})


def total(found: Sequence[Cost]) -> float | None:
    """The total seconds of some runs, one after another; None if those of any run are unknown.

    >>> config = RunConfig(experiment="demo")
    >>> total([Cost(config, 30.0, False), Cost(config, 10.0, False)])
    40.0
    """
    known = [cost.seconds for cost in found if cost.seconds is not None]
    return sum(known) if len(known) == len(found) else None


def in_words(seconds: float) -> str:
    """A duration in words.

    >>> in_words(40), in_words(600), in_words(7200), in_words(400_000)
    ('40 seconds', '10 minutes', '2.0 hours', '4.6 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def said(seconds: float | None) -> str:
    """A duration in words; None is an unknown one.

    >>> said(600), said(None)
    ('about 10 minutes', 'an unknown time')
    """
    return "an unknown time" if seconds is None else f"about {in_words(seconds)}"
