"""Inception v3 on ImageNet with each regularizer on and off (Zhang et al. 2017, Table 2), over several processes.

Row 4 of the table (no regularizer, true labels) on 8 GPUs, after ``gendyn data imagenet``; several days:

    torchrun --nproc-per-node 8 -m gendyn_lite.experiments.imagenet --row 4

The same command goes on after an interruption. On images of one's own, on two processors:

    torchrun --nproc-per-node 2 -m gendyn_lite.experiments.imagenet --row 4 -p dataset=folder:PATH -p epochs=1
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gendyn_lite import data, train
from gendyn_lite.claims.zhang2017 import TABLE_2
from gendyn_lite.cli import pair
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import UserError
from gendyn_lite.experiments import runner
from gendyn_lite.results.runs import Run, open_run, writing
from gendyn_lite.train import checkpoint
from gendyn_lite.train.device import choose_device
from gendyn_lite.train.distributed import joined

EXPERIMENT = "imagenet_regularizers"
# The sources at hand do not give the paper's optimizer settings for ImageNet; these are the usual ones of SGD.
BASE = RunConfig(
    experiment=EXPERIMENT,
    dataset="imagenet",
    model="inception_v3",
    epochs=100,
    batch_size=256,
    learning_rate=0.1,
    standardize="per_channel",
    precision="bfloat16",
    eval_every=5,
)


def plan(*, seeds: int = 1, **changes: Any) -> list[RunConfig]:
    """One configuration for each row of Table 2 and seed, in the paper's order, seeds innermost.

    Args:
        seeds: Number of seeds.
        **changes: Fields of `RunConfig` that differ from the full size.

    >>> [run.model_options["dropout"] for run in plan(epochs=1)]
    [0.5, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]
    """
    return [
        BASE.replace(
            model_options={"dropout": 0.5 if row.dropout else 0.0, "init": "he_normal"},
            random_crop=28 if row.augmentation else 0,
            flip=row.augmentation,
            weight_decay=1e-4 if row.weight_decay else 0.0,
            label_corruption=float(row.random_labels),
            seed=seed,
        ).replace(**changes)
        for row in TABLE_2
        for seed in range(seeds)
    ]


def run(
    config: RunConfig,
    *,
    profile: str = "full",
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    hook: Callable[[RunConfig, ImageData, torch.device], Any] | None = None,
) -> Run:
    """The complete run of a row: loaded, resumed or trained, by this process or by all that torchrun started.

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
    ranks.agree(True)  # nobody leaves before the run is complete
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one row; see the top of the module."""
    parser = argparse.ArgumentParser(prog="python -m gendyn_lite.experiments.imagenet", description=main.__doc__)
    parser.add_argument("--row", type=int, required=True, choices=range(1, len(TABLE_2) + 1), help="row of Table 2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-p", dest="values", action="append", default=[], metavar="FIELD=VALUE", help="of RunConfig")
    arguments = parser.parse_args(argv)
    try:
        changes = {name: value(text) for name, text in map(pair, arguments.values)}
        done = run(plan(**changes)[arguments.row - 1].replace(seed=arguments.seed))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 (a command says what was wrong)
        return 2
    last = done.rows()[-1]
    print(f"{done.path}: top-1 {last['test_accuracy']:.4f}, top-5 {last['top5/test_accuracy']:.4f}")  # noqa: T201
    return 0


def value(text: str) -> Any:
    """A number, a truth value or a list where the text is one in JSON, else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    sys.exit(main())
