"""Load or run: a complete run is loaded, an interrupted one resumed, an absent one trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gendyn_lite import data, models, train
from gendyn_lite.config import RunConfig, canonical
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import Run, environment, open_run, writing
from gendyn_lite.threads import threads
from gendyn_lite.train import checkpoint
from gendyn_lite.train.history import Progress
from gendyn_lite.train.probes import Probe

QUICK_RUN = 10**11  # parameters × examples × epochs of a run of a few seconds
Kind = tuple[str, int | None, str, str, int, float]


def load_or_run(
    config: RunConfig,
    *,
    profile: str,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    probes: Mapping[str, Probe] | None = None,
    probe_version: int = 1,
    grad_hook: Callable[..., Any] | None = None,
    prepare: Callable[[ImageData], Mapping[str, Any]] | None = None,
) -> Run:
    """The complete run of a configuration: loaded if it is there, else trained (or resumed) and recorded.

    Args:
        config: What to train, on which data.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``; recorded with the run, no part of its key.
        root: Folder of the runs.
        data_root: Folder of the prepared data.
        device: Where to train (default: the GPU if there is one).
        probes: Measurements at each evaluated epoch, for `gendyn_lite.train.fit`.
        probe_version: Version of what these probes measure; the configuration must name it.
        grad_hook: What changes gradients, for `gendyn_lite.train.fit`; the configuration must say so.
        prepare: Gives ``probes`` and ``grad_hook`` by name where they need the run's data. Called with the data, which
            is loaded once, and only if the run has to be trained.

    Returns:
        The run, complete.

    Raises:
        UserError: The data, the network or a setting does not exist, before anything is trained.
    """
    device = _device(device)
    if prepare is None:
        _check_hook(config, grad_hook)
    loaded, _ = data.load_for_run(config, root=data_root)
    run = open_run(config, loaded.fingerprint, root=root)
    if run.complete:
        return run
    if config.probe_version != probe_version:
        raise UserError(
            f"probe_version is {config.probe_version}, but the probes of {config.experiment} are version "
            f"{probe_version}: plan the run with probe_version={probe_version}"
        )
    watched = prepare(loaded) if prepare else {"probes": probes, "grad_hook": grad_hook}
    _check_hook(config, watched.get("grad_hook"))
    network = build(config, loaded)
    with threads(train.threads_for(network, config)), writing(run, provenance(loaded, profile, device)) as writer:
        if writer is None:
            return run
        started = time.perf_counter()
        history = train.fit(
            network,
            loaded,
            config,
            **watched,
            checkpoint_dir=run.checkpoints,
            device=device,
            on_epoch=writer.write,
            channels_last=any(isinstance(module, nn.Conv2d) for module in network.modules()),
        )
        writer.finish(wall_seconds=round(time.perf_counter() - started, 2), resumed_at=history.resumed_at)
    checkpoint.discard(run.checkpoints)
    return run


def _check_hook(config: RunConfig, hook: Callable[..., Any] | None) -> None:
    """Refuse a configuration with a mask that has no gradient hook, and the other way round."""
    if (config.mask_keep < 1) != (hook is not None):
        raise UserError(
            f"mask_keep is {config.mask_keep:g} and there is {'a' if hook else 'no'} gradient hook: "
            "chapters.fisher_mask.runs runs configurations with a mask"
        )


def _device(device: str | torch.device | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def run_all(
    configs: Sequence[RunConfig],
    *,
    profile: str,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> list[Run]:
    """The complete runs of many configurations; those of a few seconds are trained together, which takes a fraction.

    The data and the network of every kind of run are checked before the first run starts. Arguments as for
    `load_or_run`.
    """
    options = {"root": root, "data_root": data_root, "device": _device(device)}
    quick: dict[Kind, bool] = {}
    for config in configs:
        if (kind := _kind(config)) not in quick:
            loaded, _ = data.load_for_run(config, root=data_root)
            size = models.parameter_count(build(config, loaded)) * len(loaded.train.y) * config.epochs
            quick[kind] = size < QUICK_RUN and config.mask_keep == 1
    together = [config for config in configs if quick[_kind(config)]]
    done = iter(_train_together(together, profile=profile, progress=progress, **options))
    runs = []
    with Progress(len(configs), enabled=progress, label=f"{profile} runs", unit="run") as bar:
        for config in configs:
            single = not quick[_kind(config)]
            runs.append(load_or_run(config, profile=profile, **options) if single else next(done))
            bar.advance()
    return runs


def _kind(config: RunConfig) -> Kind:
    """What decides whether data and network fit, how long a run takes, and whether it is trained with others."""
    options = canonical(config.model_options)
    return config.dataset, config.train_size, config.model, options, config.epochs, config.mask_keep


def _train_together(
    configs: Sequence[RunConfig],
    *,
    profile: str,
    progress: bool,
    device: torch.device,
    root: str | Path | None,
    data_root: str | Path | None,
) -> list[Run]:
    """The complete runs of some configurations: those absent trained as batched networks, on one thread."""
    loaded = [data.load_for_run(config, root=data_root)[0] for config in configs]
    runs = [open_run(config, each.fingerprint, root=root) for config, each in zip(configs, loaded, strict=True)]
    absent = {run.path: (run, each) for run, each in zip(runs, loaded, strict=True) if not run.complete}
    with ExitStack() as stack, threads(1):
        # Locks are taken in one order, so that two processes cannot wait for each other.
        opened = [
            (stack.enter_context(writing(run, provenance(each, profile, device))), run, each)
            for _, (run, each) in sorted(absent.items())
        ]
        ours = [(writer, run, each) for writer, run, each in opened if writer is not None]
        if not ours:
            return runs
        histories = train.fit_many(
            [build(run.config, each) for _, run, each in ours],
            [each for _, _, each in ours],
            [run.config for _, run, _ in ours],
            device=device,
            on_epoch=lambda number, row: ours[number][0].write(row),
            progress=progress,
        )
        for (writer, _, _), history in zip(ours, histories, strict=True):
            writer.finish(wall_seconds=round(history.last["seconds"], 2), trained_together=len(ours))
    return runs


def build(config: RunConfig, loaded: ImageData) -> nn.Module:
    """The network of a configuration for some data, with weights seeded by the configuration."""
    in_shape = data.batcher(loaded, config, split="test").in_shape
    return models.build(
        config.model, num_classes=loaded.num_classes, in_shape=in_shape, seed=config.seed, **config.model_options
    )


def provenance(loaded: ImageData, profile: str, device: torch.device) -> dict[str, Any]:
    """What env.json records of a run before it starts."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return environment(
        profile=profile,
        device=kind,
        threads=torch.get_num_threads(),
        data=loaded.description,
        n_train=len(loaded.train.y),
        n_test=len(loaded.test.y),
        num_classes=loaded.num_classes,
    )
