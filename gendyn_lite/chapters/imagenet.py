"""A run on a whole ImageNet, by one process or by all that torchrun started; what its commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.results.runs import Run, open_run, writing
from gendyn_lite.train import checkpoint
from gendyn_lite.train.device import choose_device
from gendyn_lite.train.distributed import joined


def run(
    config: RunConfig,
    *,
    profile: str = "full",
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    hook: Callable[[RunConfig, ImageData, torch.device], Any] | None = None,
) -> Run:
    """The complete run of a configuration: loaded, resumed or trained, by this process or by all that torchrun started.

    The first process records it. Top-5 accuracies are taken at the end. `hook` makes the run's gradient hook.
    """
    place = choose_device(device)
    loaded, _ = data.load_for_run(config, root=data_root)
    ranks = joined(place)
    found = open_run(config, loaded.fingerprint, root=root)
    if ranks.broadcast(found.complete):
        return found
    network = runner.build(config, loaded)
    with writing(found, runner.provenance(loaded, profile, place)) if ranks.first else nullcontext() as writer:
        history = train.fit(
            network,
            loaded,
            config,
            probes={"top5": top5(loaded, config, place)},
            probe_epochs=[config.epochs],
            grad_hook=hook and hook(config, loaded, place),
            checkpoint_dir=found.checkpoints,
            device=place,
            on_epoch=writer.write if writer else None,
            channels_last=True,
        )
        if writer:
            writer.finish(processes=ranks.world, resumed_at=history.resumed_at)
            checkpoint.discard(found.checkpoints)
    ranks.broadcast(True)  # nobody leaves before the run is complete
    return found


def top5(loaded: ImageData, config: RunConfig, device: torch.device) -> Callable[[nn.Module, int], dict[str, float]]:
    """A probe: the share of training and of test images whose label is among the five largest outputs."""
    most = min(5, loaded.num_classes)

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        found = {}
        for name, split in (("train", "train_eval"), ("test", "test")):
            batches = data.batcher(loaded, config, split=split, device=device)
            with torch.no_grad():
                hits = [(model(x).topk(most).indices == y[:, None]).any(1) for x, y in batches.epoch(0)]
            found[f"{name}_accuracy"] = float(torch.cat(hits).double().mean())
        return found

    return probe


def value(text: str) -> Any:
    """A number, a truth value or a list where the text is one in JSON, else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
