"""Inception v3 on ImageNet with each regularizer on and off (Zhang et al. 2017, Table 2), over several processes.

After ``gendyn data imagenet``, row 4 of the table (no regularizer, true labels) takes several days on 8 GPUs:

    torchrun --nproc-per-node 8 -m gendyn_lite.chapters.random_labels.imagenet --row 4

The same command resumes after an interruption. On your own images, on two processors:

    torchrun --nproc-per-node 2 -m gendyn_lite.chapters.random_labels.imagenet --row 4 -p dataset=folder:PATH
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from gendyn_lite.arguments import answer_one_run
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.random_labels.tables import TABLE_2
from gendyn_lite.config import RunConfig

# The paper's optimizer settings for ImageNet are not known; these are the usual settings of SGD.
_SGD = {"epochs": 100, "batch_size": 256, "learning_rate": 0.1, "precision": "bfloat16", "eval_every": 5}
_DATA = {"dataset": "imagenet", "standardize": "per_channel"}
BASE = RunConfig(experiment="imagenet_regularizers", model="inception_v3", **_DATA, **_SGD)


def plan(*, seeds: int = 1, **changes: Any) -> list[RunConfig]:
    """Plan a run for each row of Table 2 and seed, in the paper's order, seeds innermost.

    Args:
        seeds: Number of seeds.
        **changes: Fields of `RunConfig` that replace those of the full size.

    >>> [run.model_options["dropout"] for run in plan(epochs=1)]
    [0.5, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]
    """
    found = []
    for row in TABLE_2:
        settings = {"model_options": {"dropout": 0.5 if row.dropout else 0.0, "init": "he_normal"}}
        settings |= {"random_crop": 28 if row.augmentation else 0, "flip": row.augmentation}
        settings |= {"weight_decay": 1e-4 if row.weight_decay else 0.0, "label_corruption": float(row.random_labels)}
        found += [BASE.replace(**settings, seed=seed).replace(**changes) for seed in range(seeds)]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one row; see the top of the module."""
    command = "python -m gendyn_lite.chapters.random_labels.imagenet"
    parser = argparse.ArgumentParser(prog=command, description=main.__doc__)
    parser.add_argument("--row", type=int, required=True, choices=range(1, len(TABLE_2) + 1), help="row of Table 2")

    def train_one(given: argparse.Namespace, changes: dict[str, Any]) -> str:
        done = runner.run_distributed(plan(**changes)[given.row - 1].replace(seed=given.seed))
        last = done.rows()[-1]
        return f"{done.path}: top-1 {last['test_accuracy']:.4f}, top-5 {last['top5/test_accuracy']:.4f}"

    return answer_one_run(parser, argv, train_one)


if __name__ == "__main__":
    sys.exit(main())
