"""Runs of chapter 2: paths through ReLU networks during training ("Image functions in neural networks").

There are five kinds of runs, each an experiment of its own:
    networks   AlexNet on images, true and random labels, with and without decay of the learning rate (Fig. 1, 4-6)
    deep       some layers of ResNet-18 (and VGG-19 at the full size), beside baselines without learning (Fig. 2, 16)
    unseen     AlexNet; losses along this and the previous epoch's paths, of training and of unseen images (Sec. 5)
    ratio      many networks of different width, depth, learning rate and regularization (Fig. 7)
    imagenet   ResNet-18 on ImageNet (Fig. 3)

To run one kind outside the book (the command resumes after an interruption):

    python -m gendyn_lite.chapters.path_functions.runs networks --profile colab
    python -m gendyn_lite.chapters.path_functions.runs imagenet --dataset folder:PATH --epochs 3
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gendyn_lite.arguments import answered
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.path_functions.probes import PROBE_VERSION, probes_for
from gendyn_lite.chapters.registry import CELLS, COMMAND, TABLE, Group, Part
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import unknown_name
from gendyn_lite.results.runs import PROFILES, Run, check_profile, open_run

ASKED_BY = {"networks": CELLS, "unseen": CELLS, "deep": TABLE, "ratio": CELLS, "imagenet": COMMAND}
KINDS = tuple(ASKED_BY)
SCRATCH = "paths"  # subfolder of an incomplete run, with the paths of every epoch


def _mlp(*widths: int) -> dict[str, Any]:
    return {"model": "mlp", "model_options": {"widths": list(widths)}}


_WIDTHS = ((64,), (256,), (512,), (1024,), (256, 256), (512, 512), (128,) * 3, (256,) * 3, (512,) * 3, (256,) * 4)


def _models(decay: float, crop: int, *, cnn: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return networks that differ in width, depth or training: 22 dense ones, then four convolutional ones."""
    dense = [_mlp(*widths) for widths in _WIDTHS]
    rates = [{"learning_rate": rate} for rate in (0.004, 0.006, 0.015, 0.02)]
    tuned = [*rates, {"weight_decay": decay}, {"weight_decay": 4 * decay}, {"batch_size": 5}, {"batch_size": 20}]
    more = [{"momentum": 0.8}, {"momentum": 0.95}, {"random_crop": crop}, {"standardize": "per_channel"}]
    images = [{}, {"learning_rate": 0.008}, {"weight_decay": decay}, {"model_options": {"response_norm": False}}]
    return (
        *dense,
        *({**_mlp(256, 256, 256), **each} for each in (*tuned, *more)),
        *({**cnn, **each} for each in images),
    )


_RANDOM = {"label_corruption": 1.0}
_STEPS = {"schedule": "step", "decay": 0.1}
_CROP = {"center_crop": 28}
_DIGITS = {"dataset": "digits", **_STEPS, "train_size": 160, "test_size": 100, "batch_size": 20, "learning_rate": 0.02}
_NEW = 10  # the first seed that had not been run when the criteria were written
_SMALL = {"dataset": "cifar10", **_STEPS, **_CROP, "batch_size": 10}
_ALEXNET = {**_SMALL, "model": "alexnet_small", "train_size": 200, "test_size": 200}
_ALEXNET |= {"batch_size": 5, "epochs": 16, "learning_rate": 0.004, "milestones": (12, 14)}
_SIX_RELUS = {"more_convolutions": 2}  # as many layers as the paper's figures of AlexNet name
_UNSEEN = {**_ALEXNET, "train_size": 1000, "test_size": 500, "batch_size": 25, "learning_rate": 0.01}
_UNSEEN |= {"schedule": "constant", "epochs": 12}
# With batch-norm, paths are recorded with re-estimated statistics, because running ones lag behind the weights.
_DEEP = {"train_size": 100, "test_size": 100, "epochs": 12, "milestones": (8, 10), "learning_rate": 0.01}
_ANEW = {"batch_norm_statistics": "re-estimated"}
_DEEP |= _ANEW
_THIRD = {"model": "resnet18", "model_options": {"downsample": 3}}  # images of 9x9
_MANY = {**_SMALL, "train_size": 400, "test_size": 1000, "epochs": 20, "learning_rate": 0.01}
_MANY |= {"milestones": (10, 16)}
_CNN = {"model": "alexnet_small", "learning_rate": 0.005}
# The paper's size: all of CIFAR-10. On a GPU AlexNet's settings fitted all true labels and 99.6 % of random ones. The
# settings of the deep networks are the usual ones and have not been tried.
_WHOLE = {"train_size": None, "test_size": None, "batch_size": 128}
_LONG = {**_WHOLE, "learning_rate": 0.01, "precision": "bfloat16", "epochs": 36, "milestones": (24, 32)}
_LONG_DEEP = {**_WHOLE, "random_crop": 4, "flip": True, "epochs": 60, "milestones": (30, 48), "weight_decay": 5e-4}
_LONG_DEEP |= {"dataset": "cifar10", **_STEPS, "precision": "bfloat16", **_ANEW}
_PLAIN = {"random_crop": 0, "flip": False}
_IMAGENET = {"dataset": "imagenet", "model": "resnet18_imagenet", **_STEPS, "epochs": 90, "milestones": (30, 60)}
_IMAGENET |= {"batch_size": 256, "learning_rate": 0.1, "weight_decay": 1e-4, "standardize": "per_channel"}
_IMAGENET |= {"random_crop": 28, "flip": True, "precision": "bfloat16"}
_SMOKE = {**_DIGITS, "model": "alexnet_small"}

PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("networks", "smoke"): (Part({**_SMOKE, "epochs": 8, "milestones": (4, 6)}, ({}, _RANDOM), seeds=2),),
    ("networks", "colab"): (
        Part(_ALEXNET, ({}, _RANDOM), seeds=5, first_seed=_NEW),
        Part({**_ALEXNET, "schedule": "constant"}, seeds=5, first_seed=_NEW),
        Part({**_ALEXNET, "model_options": _SIX_RELUS}, seeds=5, first_seed=_NEW),
    ),
    ("networks", "full"): (Part({**_ALEXNET, **_LONG}, ({}, _RANDOM)),),
    ("unseen", "smoke"): (Part({**_SMOKE, "epochs": 5, "schedule": "constant"}, seeds=2),),
    ("unseen", "colab"): (Part(_UNSEEN, seeds=5),),
    ("unseen", "full"): (Part({**_UNSEEN, **_LONG}),),
    ("deep", "smoke"): (
        Part({**_DIGITS, "model": "resnet18", "train_size": 64, "epochs": 2, "milestones": (1,), **_ANEW}, seeds=1),
    ),
    ("deep", "colab"): (
        Part({**_SMALL, **_DEEP, **_THIRD}, ({}, _RANDOM), seeds=5, first_seed=_NEW),
        Part({**_SMALL, **_DEEP, "learning_rate": 0.005, "model": "alexnet_small"}, seeds=5, first_seed=_NEW),
    ),
    ("deep", "full"): tuple(
        Part({**_LONG_DEEP, "learning_rate": rate, "model": name}, ({}, {**_RANDOM, **_PLAIN}))
        for name, rate in (("resnet18", 0.1), ("vgg19", 0.005))
    ),
    ("ratio", "smoke"): (
        Part({**_DIGITS, "train_size": 200, "epochs": 8, "milestones": (3, 6)}, _models(5e-3, 1, cnn={})[:13], seeds=1),
    ),
    # The convolutional networks had two seeds in the plan; three were added when the other runs had been seen.
    ("ratio", "colab"): (Part(_MANY, _models(2e-3, 2, cnn=_CNN), seeds=5, first_seed=_NEW),),
    ("ratio", "full"): (
        Part(
            {**_MANY, **_WHOLE, "epochs": 100, "milestones": (40, 70)},
            _models(5e-4, 2, cnn={"model": "alexnet_small"}),
        ),
    ),
    **{("imagenet", profile): (Part(_IMAGENET, seeds=1),) for profile in PROFILES},
}


def plan(kind: str, profile: str = "smoke", *, dataset: str = "", seeds: int = 0, epochs: int = 0) -> list[RunConfig]:
    """Plan the runs of one kind at one size, seeds innermost.

    Args:
        kind: ``"networks"``, ``"unseen"``, ``"deep"``, ``"ratio"``, or ``"imagenet"`` (the same at every profile).
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        dataset: A data set instead of the plan's; empty keeps the plan's.
        seeds: Number of seeds instead of the plan's; 0 keeps the plan's.
        epochs: Epochs of each run; the learning rate then decays after 3/5 and 4/5 of them. 0 keeps the plan's.

    Raises:
        UserError: The kind or the profile is unknown.

    >>> [(run.model, run.label_corruption) for run in plan("networks", seeds=1)]
    [('alexnet_small', 0.0), ('alexnet_small', 1.0)]
    """
    if kind not in KINDS:
        raise unknown_name("kind of runs", kind, KINDS)
    check_profile(profile)
    changes: dict[str, Any] = {"experiment": f"path_{kind}", "probe_version": PROBE_VERSION}
    if dataset:
        changes["dataset"] = dataset
    if epochs:
        changes |= {"epochs": epochs, "milestones": tuple(sorted({epochs * 3 // 5, epochs * 4 // 5} - {0}))}
    found = []
    for part in PLANS[kind, profile]:
        steps = {} if part.settings["schedule"] == "step" else {"milestones": ()}
        found += part.configs(seeds=seeds, **{**changes, **steps})
    return found


def run(config: RunConfig, *, profile: str, root: str | Path | None = None, **options: Any) -> Run:
    """Return the complete run of a configuration of this chapter, with its probes: loaded, resumed or trained.

    While it trains, its folder holds the paths of every epoch, so that an interrupted run resumes to the same numbers.

    Args:
        config: A configuration of `plan`.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        root: Folder of the runs.
        **options: Options of `gendyn_lite.chapters.runner.load_or_run`: data_root.
    """

    def prepare(loaded: ImageData) -> dict[str, Any]:
        scratch = open_run(config, loaded.fingerprint, root=root).path / SCRATCH
        return {"probes": probes_for(config, loaded, scratch)}

    options |= {"root": root, "probe_version": PROBE_VERSION}
    done = runner.load_or_run(config, profile=profile, prepare=prepare, **options)
    shutil.rmtree(done.path / SCRATCH, ignore_errors=True)
    return done


run_all = partial(runner.of_kind, plan, run)


def _planned(kind: str, profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    return plan(kind, profile, **values)


GROUPS = tuple(Group(asked_by, partial(_planned, kind)) for kind, asked_by in ASKED_BY.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one kind outside the book; see the top of the module."""
    parser = argparse.ArgumentParser(
        prog="python -m gendyn_lite.chapters.path_functions.runs", description=main.__doc__
    )
    parser.add_argument("kind", help=", ".join(KINDS))
    parser.add_argument("--profile", default="smoke", help="smoke, colab or full (default: smoke)")
    parser.add_argument("--dataset", default="", help="another data set than the plan's")
    parser.add_argument("--seeds", type=int, default=0, help="number of seeds (default: the plan's)")
    parser.add_argument("--epochs", type=int, default=0, help="epochs of each run (default: the plan's)")
    given = vars(parser.parse_args(argv))

    def train_all() -> int:
        for config in plan(**given):
            done = run(config, profile=given["profile"])
            last = done.rows()[-1]
            print(f"{done.path}: {config.model}, seed {config.seed}, test accuracy {last['test_accuracy']:.3f}")  # noqa: T201
        return 0

    return answered(train_all)


if __name__ == "__main__":
    sys.exit(main())
