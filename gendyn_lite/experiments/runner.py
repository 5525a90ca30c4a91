"""Load or run: a complete run is loaded, an interrupted one resumed, an absent one trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from gendyn_lite import data, models, train
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.results.runs import Run, environment, open_run, writing

SMALL_STEP = 10**8  # parameters × examples of a step, below which one thread is best
Probe = Callable[[nn.Module, int], Mapping[str, Any]]


def load_or_run(
    config: RunConfig,
    *,
    profile: str,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    probes: Mapping[str, Probe] | None = None,
) -> Run:
    """The complete run of a configuration: loaded if it is there, else trained (or resumed) and recorded.

    Args:
        config: What to train, on which data.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``; recorded with the run, no part of its key.
        root: Folder of the runs.
        data_root: Folder of the prepared data.
        device: Where to train (default: the GPU if there is one).
        probes: Measurements at each evaluated epoch, for `gendyn_lite.train.fit`.

    Returns:
        The run, complete.

    Raises:
        UserError: The data, the network or a setting does not exist, before anything is trained.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    loaded, _ = data.load_for_run(config, root=data_root)
    run = open_run(config, loaded.fingerprint, root=root)
    if run.complete:
        return run
    network = build(config, loaded)
    with _threads_for(network, config), writing(run, _provenance(loaded, profile, device)) as writer:
        if writer is None:
            return run
        started = time.perf_counter()
        train.fit(
            network,
            loaded,
            config,
            probes=dict(probes or {}),
            checkpoint_dir=run.checkpoints,
            device=device,
            on_epoch=writer.write,
        )
        writer.finish(wall_seconds=round(time.perf_counter() - started, 2))
    return run


@contextmanager
def _threads_for(network: nn.Module, config: RunConfig) -> Iterator[None]:
    """One thread for a small network: threads that wait for each other cost more than they help.

    On a busy machine two threads were twenty times slower than one; and the numbers no longer depend on the cores.
    """
    before = torch.get_num_threads()
    if models.parameter_count(network) * config.batch_size < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_all(configs: Sequence[RunConfig], *, profile: str, progress: bool = True, **options: Any) -> list[Run]:
    """`load_or_run` for each configuration in turn, with one progress bar over all of them.

    The data and the network of every kind of run are checked before the first run starts.
    """
    kinds = {(each.dataset, each.train_size, each.model, str(each.model_options)): each for each in configs}
    for config in kinds.values():
        build(config, data.load_for_run(config, root=options.get("data_root"))[0])
    bar = tqdm(configs, desc=f"{profile} runs", disable=not progress, leave=False)
    return [load_or_run(config, profile=profile, **options) for config in bar]


def build(config: RunConfig, loaded: ImageData) -> nn.Module:
    """The network of a configuration for some data, with weights seeded by the configuration."""
    in_shape = data.batcher(loaded, config, split="test").in_shape
    return models.build(
        config.model, num_classes=loaded.num_classes, in_shape=in_shape, seed=config.seed, **config.model_options
    )


def _provenance(loaded: ImageData, profile: str, device: torch.device) -> dict[str, Any]:
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
