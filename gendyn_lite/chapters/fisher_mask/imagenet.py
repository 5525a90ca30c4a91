"""ResNet-50 on ImageNet with and without the gradient mask (Jiang, Table 1), over several processes.

The run without a mask, and that with a quarter of the weights kept, on 8 GPUs, after ``gendyn data imagenet``; days:

    torchrun --nproc-per-node 8 -m gendyn_lite.chapters.fisher_mask.imagenet --keep 1
    torchrun --nproc-per-node 8 -m gendyn_lite.chapters.fisher_mask.imagenet --keep 0.25

The same command goes on after an interruption. On images of one's own, on two processors:

    torchrun --nproc-per-node 2 -m gendyn_lite.chapters.fisher_mask.imagenet --keep 1 -p dataset=folder:PATH -p epochs=2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from gendyn_lite import data
from gendyn_lite.arguments import answered, pair
from gendyn_lite.chapters.fisher_mask.probes import mask_for
from gendyn_lite.chapters.imagenet import run, value
from gendyn_lite.config import MASKS, RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures.fisher import GradientMask
from gendyn_lite.train.distributed import joined

EXPERIMENT = "imagenet_mask"
KEEPS = (1.0, 0.25, 0.75)  # no mask, and the paper's coefficient 0.25 in both readings
# The paper does not give its settings; these are the usual ones of ResNet-50.
BASE = RunConfig(
    experiment=EXPERIMENT,
    dataset="imagenet",
    model="resnet50",
    epochs=90,
    batch_size=256,
    learning_rate=0.1,
    schedule="step",
    decay=0.1,
    milestones=(30, 60, 80),
    weight_decay=1e-4,
    random_crop=28,
    flip=True,
    standardize="per_channel",
    precision="bfloat16",
)


def plan(*, seeds: int = 3, **changes: Any) -> list[RunConfig]:
    """Training without a mask, and with each way of masking at both readings of the coefficient.

    Args:
        seeds: Number of seeds.
        **changes: Fields of `RunConfig` that differ from the full size.

    >>> [(run.mask_by, run.mask_keep) for run in plan(seeds=1)][:3]
    [('fisher', 1.0), ('fisher', 0.25), ('fisher', 0.75)]
    """
    masks = [("fisher", 1.0), *((by, keep) for by in ("fisher", "magnitude", "random") for keep in KEEPS[1:])]
    return [
        BASE.replace(mask_by=by, mask_keep=keep, seed=seed).replace(**changes)
        for by, keep in masks
        for seed in range(seeds)
    ]


def mask(config: RunConfig, loaded: ImageData, device: torch.device) -> GradientMask | None:
    """The mask of a run; each process squares the gradients of its share of the images, and the sums are added."""
    ranks = joined(device)
    batches = data.batcher(loaded, config, split="train_eval", device=device)

    def share() -> Iterator[tuple[Tensor, Tensor]]:
        return islice(batches.epoch(0), ranks.rank, None, ranks.world)

    precision = config.precision if device.type == "cuda" else "float32"
    return mask_for(config, share, reduce=ranks.sum, precision=precision)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one configuration; see the top of the module."""
    parser = argparse.ArgumentParser(
        prog="python -m gendyn_lite.chapters.fisher_mask.imagenet", description=main.__doc__
    )
    parser.add_argument("--keep", type=float, required=True, help="share of the weights that move (1: no mask)")
    parser.add_argument("--by", default="fisher", help=", ".join(MASKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-p", dest="values", action="append", default=[], metavar="FIELD=VALUE", help="of RunConfig")
    arguments = parser.parse_args(argv)

    def train_one() -> int:
        changes = {name: value(text) for name, text in map(pair, arguments.values)}
        config = BASE.replace(mask_keep=arguments.keep, mask_by=arguments.by, seed=arguments.seed).replace(**changes)
        done = run(config, hook=mask)
        best = max(row["test_accuracy"] for row in done.rows())
        print(f"{done.path}: best top-1 {best:.4f}")  # noqa: T201
        return 0

    return answered(train_one)


if __name__ == "__main__":
    sys.exit(main())
