"""Many small runs at once: seeds and label corruptions of one small network, trained together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gendyn_lite.config import RunConfig, digest
from gendyn_lite.data import ImageData
from gendyn_lite.errors import UserError
from gendyn_lite.train.device import choose_device
from gendyn_lite.train.history import History
from gendyn_lite.train.loop import fit
from gendyn_lite.train.probes import Probe
from gendyn_lite.train.progress import Progress
from gendyn_lite.train.rows import Row
from gendyn_lite.train.stack import layout
from gendyn_lite.train.together import Member, Together

FREE = ("seed", "label_corruption", "inputs")  # settings in which runs that train together may differ
# Beyond these a group gains nothing: on a CPU one network's weights no longer stay in the cache from step to step.
CPU_BYTES, GPU_BYTES = 8 * 2**20, 2 * 2**30


def fit_many(
    models: Sequence[nn.Module],
    datasets: Sequence[ImageData],
    configs: Sequence[RunConfig],
    *,
    probes: Sequence[Mapping[str, Probe]] | None = None,
    device: str | torch.device | None = None,
    on_epoch: Callable[[int, Row], Any] | None = None,
    progress: bool = False,
) -> list[History]:
    """Train several networks; the same numbers as `fit` on each, up to the rounding of float32.

    Fully connected networks whose configurations differ in seed, label corruption and inputs only, and augment
    nothing, are trained together as one batched network. The rest are trained one after another.

    Args:
        models: The networks, each trained in place and left in eval mode on the device.
        datasets: For each network its data, the training labels already corrupted.
        configs: For each network its configuration.
        probes: For each network its probes, as for `fit`.
        device: As for `fit`.
        on_epoch: Called with the number of the run and its row. Rows of different runs interleave.
        progress: Whether to show a progress bar with a time estimate.

    Returns:
        The rows of each run. ``seconds`` is a run's share of the time of those trained together.

    Raises:
        UserError: As for `fit`; or the arguments have different lengths.

    >>> from gendyn_lite import data, models
    >>> configs = [RunConfig(experiment="demo", label_corruption=q, epochs=5) for q in (0.0, 1.0)]
    >>> digits = [data.load_for_run(config)[0] for config in configs]
    >>> networks = [models.build("mlp_1x512", num_classes=10, in_shape=(1, 8, 8), seed=0) for _ in configs]
    >>> true, random = fit_many(networks, digits, configs, device="cpu")
    >>> true.last["test_accuracy"] > 0.9, random.last["test_accuracy"] < 0.3
    (True, True)
    """
    own_probes = [{}] * len(models) if probes is None else list(probes)
    if not len(models) == len(datasets) == len(configs) == len(own_probes):
        lengths = f"{len(models)} models, {len(datasets)} datasets, {len(configs)} configs, {len(own_probes)} probes"
        raise UserError(f"fit_many got {lengths}: expected one of each for every run")
    place = choose_device(device)
    given = zip(range(len(models)), models, datasets, configs, own_probes, strict=True)
    members = [Member(*one, History()) for one in given]
    report = on_epoch or (lambda run, row: None)
    with Progress(sum(config.epochs for config in configs), enabled=progress, label="runs", unit="epoch") as bar:
        for group in _groups(members, place):
            if len(group) > 1:
                Together(group, place, report, bar).train()
            else:
                _alone(group[0], place, report, bar)
    return [member.history for member in members]


def _groups(members: Sequence[Member], device: torch.device) -> list[list[Member]]:
    """The runs that train together, in the order of their first ones, in groups of about equal size."""
    kinds: dict[str, list[Member]] = {}
    for member in members:
        kinds.setdefault(_kind(member), []).append(member)
    groups = []
    for kind in kinds.values():
        parts = math.ceil(len(kind) / _most_together(kind[0], device))
        size = math.ceil(len(kind) / parts)
        groups += [kind[at : at + size] for at in range(0, len(kind), size)]
    return groups


def _most_together(member: Member, device: torch.device) -> int:
    """Networks whose weights, gradients, momenta and activations stay in the memory that is fast."""
    weights = sum(parameter.numel() for parameter in member.model.parameters())
    units = sum(layer.out_features for layer in member.model.modules() if isinstance(layer, nn.Linear))
    size = 4 * (3 * weights + 2 * member.config.batch_size * units)
    return max(1, (CPU_BYTES if device.type == "cpu" else GPU_BYTES) // size)


def _kind(member: Member) -> str:
    """Equal for runs that can train together; a name of its own for any other run."""
    config, data, layers = member.config, member.data, layout(member.model)
    if layers is None or config.random_crop or config.flip or config.precision != "float32":
        return f"alone {member.run}"
    shapes = [list(part.x.shape) for part in (data.train, data.test)]
    same = {key: value for key, value in config.as_dict().items() if key not in FREE}
    return digest([layers, shapes, data.num_classes, same])


def _alone(member: Member, device: torch.device, report: Callable[[int, Row], Any], bar: Progress) -> None:
    def on_epoch(row: Row) -> None:
        bar.advance(row["epoch"] - (rows[-1]["epoch"] if rows else 0))
        rows.append(row)
        report(member.run, row)

    rows = member.history.rows
    fit(member.model, member.data, member.config, probes=member.probes, device=device, on_epoch=on_epoch)
    bar.advance(member.config.epochs - rows[-1]["epoch"])
