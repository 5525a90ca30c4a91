"""Chapter 1: true, corrupted and random labels, and inputs without structure (Zhang et al. 2017, Fig. 1, Table 1)."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from gendyn_lite import data
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.plan import CELLS, COMMAND, Group, Part, check_profile, seeds_of, without
from gendyn_lite.chapters.random_labels import imagenet, regularizers
from gendyn_lite.chapters.random_labels.plans import DEFAULT_DATASET, EXPERIMENT, PLANS, chosen_parts, split
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError

MOST_RUNS = 2_000


def plan(
    profile: str = "smoke",
    *,
    dataset: str = "",
    networks: str | Sequence[str] = (),
    corruptions: str | Sequence[float] = (),
    seeds: int = 0,
    epochs: int = 0,
    train_size: int = 0,
) -> list[RunConfig]:
    """The runs of the chapter at one size.

    Args:
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        dataset: Any data set (default: the profile's own). One without a plan takes that of the profile's own.
        networks: Only these networks, or others than the plan's with the settings of its first part. A sequence, or
            text with commas, as a notebook's parameter gives it.
        corruptions: These fractions q instead of the plan's, likewise.
        seeds: This many seeds (at most 200) instead of the plan's; 0 keeps it. Likewise `epochs` and `train_size`.
        epochs: Most epochs of a run.
        train_size: Number of training examples.

    Returns:
        One configuration per run, seeds innermost.

    Raises:
        UserError: An unknown profile, a value out of range, or more than 2,000 runs.

    >>> runs = plan("smoke", networks=["mlp_1x512"], corruptions=[0, 1], seeds=2)
    >>> [(run.inputs, run.label_corruption, run.seed) for run in runs[:4]]
    [('true', 0.0, 0), ('true', 0.0, 1), ('true', 1.0, 0), ('true', 1.0, 1)]
    """
    check_profile(profile)
    for name, value in (("epochs", epochs), ("train_size", train_size)):
        if value < 0:
            raise UserError(f"{name} is {value}, expected a whole number of at least 1 (or 0 for the profile's own)")
    chosen = split(networks)
    levels = tuple(_fraction(text) for text in split(corruptions))
    dataset = dataset or DEFAULT_DATASET[profile]
    parts = PLANS.get((profile, dataset)) or PLANS[profile, DEFAULT_DATASET[profile]]
    changes: dict[str, Any] = {name: value for name, value in (("epochs", epochs), ("train_size", train_size)) if value}
    if dataset == "two_moons":
        changes["standardize"] = "none"  # points of the plane are no images
    planned = [_variants(part, levels) for part in chosen_parts(parts, chosen)]
    count = sum(len(part.variants) * len(seeds_of(seeds, part.seeds)) for part in planned)
    if count > MOST_RUNS:
        raise UserError(f"the plan has {count:,} runs, at most {MOST_RUNS:,}: take fewer networks, q or seeds")
    changes |= {"experiment": EXPERIMENT, "dataset": dataset}
    return [config for part in planned for config in part.configs(seeds=seeds, **changes)]


def _fraction(value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"corruptions has {value!r}, expected numbers in [0, 1] separated by commas") from None


def _variants(part: Part, corruptions: Sequence[float]) -> Part:
    """The part at other fractions q, its kinds of inputs as they are; as it is without any."""
    if not corruptions:
        return part
    inputs = [variant for variant in part.variants if "inputs" in variant]
    return replace(part, variants=(*({"label_corruption": q} for q in corruptions), *inputs))


def corruption_examples(count: int = 24, *, seed: int = 0) -> pd.DataFrame:
    """Digits with their true label, their replacement and the q from which the replacement is used.

    Only embedded data: the pictures travel with the book.

    Args:
        count: Number of images.
        seed: Seed of the label corruption, as in a run.

    Returns:
        Columns image (data URI of a PNG), true, redrawn and threshold (in steps of 0.05, at least one step).

    >>> corruption_examples(4)["true"].tolist()
    [0, 1, 2, 3]
    """
    loaded = data.load("digits")
    first = [int((loaded.train.y == label).nonzero()[turn]) for turn in range(3) for label in range(10)][:count]
    q = np.linspace(0, 1, 21).round(2)
    changes = [data.corrupt_labels(loaded.train.y, float(f), num_classes=10, seed=seed) for f in q]
    when = np.stack([redrawn[first].numpy() for _, redrawn in changes]).argmax(0)
    return pd.DataFrame(
        {
            "image": [_data_uri(loaded.train.x[i, 0].numpy()) for i in first],
            "true": loaded.train.y[first].numpy(),
            "redrawn": changes[-1][0][first].numpy(),
            "threshold": (q[when] - 0.025).round(3),
        }
    )


def _data_uri(pixels: np.ndarray) -> str:
    """A grey picture, dark on light, four times enlarged, as a PNG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(255 - pixels).resize((32, 32), Image.Resampling.NEAREST).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


class Trap(NamedTuple):
    """Accuracies of one network on the same test images, in [0, 1].

    Attributes:
        true: Asked for the true labels.
        corrupted: Asked for labels corrupted as the training labels were.
        predicted: (1 − q) · true + q / classes.
    """

    true: float
    corrupted: float
    predicted: float


def corrupted_test_trap(*, fraction: float, seed: int = 0, root: str | None = None) -> Trap:
    """Train on digits with corrupted labels and ask for the true and for corrupted test labels.

    Args:
        fraction: Label corruption q of the training labels, and of the corrupted test labels.
        seed: Seed of the run.
        root: Folder of the runs; the run is loaded if it is there.
    """
    config = plan("smoke", networks="mlp_1x512", corruptions=[fraction], seeds=1)[0]
    config = config.replace(experiment=f"{EXPERIMENT}_trap", seed=seed, eval_every=config.epochs)
    loaded = data.load(config.dataset)
    # The mistake on purpose: test labels redrawn, from draws of their own.
    wrong, _ = data.corrupt_labels(loaded.test.y, fraction, num_classes=loaded.num_classes, seed=seed + 1)
    inputs = torch.cat([x for x, _ in data.batcher(loaded, config, split="test").epoch(0)])

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        with torch.no_grad():
            predicted = model(inputs.to(next(model.parameters()).device)).argmax(1).cpu()
        return {"corrupted_test_accuracy": float((predicted == wrong).float().mean())}

    run = runner.load_or_run(config, profile="smoke", root=root, probes={"trap": probe})
    last = run.rows()[-1]
    true = last["test_accuracy"]
    predicted = (1 - fraction) * true + fraction / loaded.num_classes
    return Trap(true=true, corrupted=last["trap/corrupted_test_accuracy"], predicted=predicted)


def _regularizers(profile: str, values: Mapping[str, Any]) -> list[RunConfig]:
    """The rows of a table: the chapter's parameters `networks` and `corruptions` are of the other runs."""
    return regularizers.plan(profile, **without(values, "networks", "corruptions"))


run = runner.load_or_run  # no run of this chapter has probes of its own
GROUPS = (
    Group(CELLS, lambda profile, values: plan(profile, **values)),
    Group(CELLS, _regularizers),
    Group(COMMAND, lambda profile, values: imagenet.plan()),
)
