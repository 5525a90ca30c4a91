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

import torch
from torch import Tensor

from gendyn_lite import data
from gendyn_lite.arguments import answered, pair
from gendyn_lite.chapters.fisher_mask.runs import IMAGENET, mask_for
from gendyn_lite.chapters.imagenet import run, value
from gendyn_lite.config import MASKS, RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures.fisher import GradientMask
from gendyn_lite.train.distributed import joined

BASE = IMAGENET.configs(seeds=1)[0]
EXPERIMENT = BASE.experiment


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
        chosen = {"mask_keep": arguments.keep, "mask_by": arguments.by, "seed": arguments.seed}
        done = run(BASE.replace(**chosen).replace(**changes), hook=mask)
        best = max(row["test_accuracy"] for row in done.rows())
        print(f"{done.path}: best top-1 {best:.4f}")  # noqa: T201
        return 0

    return answered(train_one)


if __name__ == "__main__":
    sys.exit(main())
