"""Chapter 1: explicit and implicit regularizers, switched on and off (Zhang et al. 2017, Table 1, Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gendyn_lite.chapters.plan import Part, check_profile, seeds_of
from gendyn_lite.chapters.random_labels import plans
from gendyn_lite.chapters.random_labels.plans import DEFAULT_DATASET, PLANS, chosen_parts, name_of, split
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import unknown_name

EXPERIMENT = "regularizers"
DROPOUT = 0.5
# The sources at hand do not give the paper's coefficient. The short runs take a larger one, so that it can matter.
WEIGHT_DECAY = {"smoke": 2e-3, "colab": 2e-3, "full": 5e-4}


class Row(NamedTuple):
    """Which regularizers are on, and whether the labels are random.

    `batch_norm` switches it on in a network that is trained without, all else as it is: its twin.
    """

    crop: bool = False
    weight_decay: bool = False
    dropout: bool = False
    random_labels: bool = False
    batch_norm: bool = False


_PLAIN = "inception_small without batch-norm"
NONE, RANDOM, DECAY = Row(), Row(random_labels=True), Row(weight_decay=True)
CROP, BOTH = Row(crop=True), Row(crop=True, weight_decay=True)
RANDOM_DECAY = Row(weight_decay=True, random_labels=True)
# The rows of Table 1, and below them ours: dropout (Fig. 2), and random labels fitted in spite of a regularizer.
GRID: dict[str, tuple[Row, ...]] = {
    "inception_small": (
        *(BOTH, CROP, DECAY, NONE, RANDOM),
        *(Row(dropout=True), Row(dropout=True, weight_decay=True, random_labels=True)),
    ),
    _PLAIN: (DECAY, NONE, RANDOM),
    "alexnet_small": (BOTH, CROP, DECAY, NONE, RANDOM, RANDOM_DECAY),
    "mlp_3x512": (DECAY, NONE, RANDOM, RANDOM_DECAY),
    "mlp_1x512": (DECAY, NONE, RANDOM, RANDOM_DECAY),
}
# Where the network without batch-norm is trained in its own way, it is compared with its twin.
_COLAB_GRID = {**GRID, _PLAIN: (*GRID[_PLAIN], Row(batch_norm=True))}
# The smoke size has networks and rows of its own: each kind of regularizer, in seconds.
_TINY = {"test_size": 100, "stop_when_fitted": True}
_TINY_MLP = {**_TINY, "train_size": 100, "batch_size": 20, "epochs": 30, "eval_every": 3, "learning_rate": 0.05}
_TINY_CNN = {**_TINY, "train_size": 40, "batch_size": 10, "epochs": 9, "eval_every": 3, "learning_rate": 0.02}
_SMOKE_PARTS = (
    Part({"model": "mlp_1x512", **_TINY_MLP}),
    Part({"model": "inception_small", **_TINY_CNN}, seeds=2),
    Part({"model": "inception_small", **_TINY_CNN, "model_options": {"batch_norm": False}}, seeds=2),
)
_SMOKE_GRID = {
    "mlp_1x512": (BOTH, CROP, DECAY, NONE, RANDOM, RANDOM_DECAY),
    "inception_small": (NONE, Row(dropout=True)),
    _PLAIN: (NONE,),
}


def plan(
    profile: str = "smoke",
    *,
    dataset: str = "",
    networks: str | Sequence[str] = (),
    seeds: int = 0,
    epochs: int = 0,
    train_size: int = 0,
) -> list[RunConfig]:
    """The runs of Table 1 and Fig. 2 at one size. Arguments as for `gendyn_lite.chapters.random_labels.runs.plan`.

    A row without any regularizer is a run of the experiment ``"random_labels"`` and shared with it.

    Returns:
        One configuration per network, row and seed, seeds innermost.

    >>> runs = plan("full", networks="mlp_1x512", seeds=1)
    >>> [(run.experiment, run.weight_decay, run.label_corruption) for run in runs[:3]]
    [('regularizers', 0.0005, 0.0), ('random_labels', 0.0, 0.0), ('random_labels', 0.0, 1.0)]
    """
    check_profile(profile)
    dataset = dataset or DEFAULT_DATASET[profile]
    grid = {"smoke": _SMOKE_GRID, "colab": _COLAB_GRID, "full": GRID}[profile]
    planned = PLANS.get((profile, dataset), PLANS[profile, DEFAULT_DATASET[profile]])
    known = _SMOKE_PARTS if profile == "smoke" else planned
    changes = {name: value for name, value in (("epochs", epochs), ("train_size", train_size)) if value}
    wanted = split(networks)
    for name in wanted:
        if name not in grid:
            raise unknown_name("network of Table 1", name, grid)
    return [
        _config(part, row, dataset, profile, changes).replace(seed=seed)
        for part in chosen_parts(known, wanted)
        for row in grid[name_of(part)]
        for seed in seeds_of(seeds, part.seeds)
    ]


def crop_padding(center_crop: int | None) -> int:
    """Padding of the random crop: with a centre crop of 28, windows of 28x28 anywhere in images of 32x32."""
    return 1 if center_crop is None else 2


def _config(part: Part, row: Row, dataset: str, profile: str, changes: dict[str, Any]) -> RunConfig:
    """The run of a row, with seed 0."""
    settings = {**part.settings, **changes}
    options = dict(settings.pop("model_options", {}))
    if row.dropout:
        options["dropout"] = DROPOUT
    if row.batch_norm:
        del options["batch_norm"]
    regularized = row.crop or row.weight_decay or row.dropout or row.batch_norm
    return RunConfig(
        experiment=EXPERIMENT if regularized else plans.EXPERIMENT,
        dataset=dataset,
        model_options=options,
        random_crop=crop_padding(settings.get("center_crop")) if row.crop else 0,
        weight_decay=WEIGHT_DECAY[profile] if row.weight_decay else 0.0,
        label_corruption=float(row.random_labels),
        **settings,
    )
