"""Chapter 5: how far a network keeps its class along a line, on true and on random labels (Salman et al. 2019)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from gendyn_lite.chapters import runner
from gendyn_lite.chapters.generalization_intervals.probes import Amount, probes_for
from gendyn_lite.chapters.registry import CELLS, Group, Part, parts_for
from gendyn_lite.config import RunConfig
from gendyn_lite.results.runs import Run, check_profile

EXPERIMENT = "generalization_intervals"
AMOUNTS = {"smoke": Amount(60, 20), "colab": Amount(300, 100), "full": Amount(500, 200)}
# Of what the probes measure: change it with every change of that, and old runs stay what they are. Networks of one
# profile that are those of another are measured along fewer lines: neither may be answered with the other.
PROBE_VERSION = {"smoke": 3, "colab": 2, "full": 1}
# Networks whose lines cost more: by samples, and with some 15,000 linear pieces a line, every one of them followed.
FEW = {"alexnet_small": Amount(30, 0, samples=60), "resnet18": Amount(4, 0, pieces=1_000_000)}


def _mlp(*widths: int, **options: Any) -> dict[str, Any]:
    return {"model": "mlp", "model_options": {"widths": list(widths), **options}}


_BASE = {"learning_rate": 0.01, "schedule": "constant", "batch_size": 50}
_IMAGES = {**_BASE, "train_size": 1000, "test_size": 2000, "epochs": 150, "eval_every": 150}
_LONG = {**_IMAGES, "epochs": 400, "eval_every": 400}  # few pixels: random labels take longer
_CNN = {**_IMAGES, "model": "alexnet_small", "train_size": 300, "epochs": 40, "eval_every": 40, "test_size": 500}
_MAIN = _mlp(128, 128, 128)
_DIGITS = {**_BASE, **_MAIN, "train_size": 300, "epochs": 80, "eval_every": 80, "learning_rate": 0.03}
_RESNET = {**_DIGITS, "model": "resnet18", "model_options": {}, "epochs": 60, "eval_every": 60}
_MOONS = {**_BASE, **_MAIN, "standardize": "none", "epochs": 1500, "eval_every": 1500, "learning_rate": 0.03}
_TRUE = ({"label_corruption": 0.0},)
_BOTH = (*_TRUE, {"label_corruption": 1.0})


def _paper(watched: float) -> tuple[Part, ...]:
    """The paper's networks on a set of images; those that are watched while training learn at a rate of their own."""
    return (
        Part({**_IMAGES, **_MAIN}, _BOTH, seeds=5),
        Part({**_IMAGES, **_MAIN, "epochs": 15, "eval_every": 1, "learning_rate": watched}, _TRUE, seeds=5),
        *(Part({**_IMAGES, **_mlp(*widths)}, _BOTH, seeds=5) for widths in ((512,), (256, 256), (128,) * 4)),
        *(Part({**_LONG, **_mlp(128, 128, 128, downsample=side)}, _BOTH, seeds=5) for side in (2, 4)),
        Part(_CNN, _BOTH, seeds=5),
    )


# The first part of each plan is the network that every comparison starts from.
PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("smoke", "digits"): (
        Part(_DIGITS, _BOTH, seeds=2),
        Part({**_DIGITS, **_mlp(128, 128, 128, downsample=2)}, _BOTH, seeds=2),
        Part({**_DIGITS, "epochs": 10, "eval_every": 1}, _TRUE, seeds=2),
    ),
    ("full", "mnist"): _paper(watched=0.001),
    ("full", "cifar10"): _paper(watched=0.003),
    # Beyond the paper: a network with batch-norm and residual sums, beside the paper's own on the same images.
    ("full", "digits"): (Part(_DIGITS, _BOTH, seeds=5), Part(_RESNET, _BOTH, seeds=5)),
}
MOONS = {
    "smoke": Part({**_MOONS, "epochs": 200, "eval_every": 200}, _BOTH, seeds=2),
    "full": Part(_MOONS, _BOTH, seeds=5),
}
DEFAULT_DATASET = {"smoke": "digits", "colab": "mnist", "full": "mnist"}


def plan(profile: str = "smoke", *, dataset: str = "", seeds: int = 0, moons: bool = True) -> list[RunConfig]:
    """The runs of the chapter at one size: a set of images, and two moons.

    Args:
        profile: ``"smoke"``, ``"colab"`` (as ``"full"``, with fewer lines) or ``"full"``.
        dataset: A set of images (default: the profile's own). One without a plan takes that of the profile's own.
        seeds: This many seeds instead of the plan's; 0 keeps it.
        moons: Whether two moons is among them.

    Returns:
        One configuration per run, seeds innermost.

    Raises:
        UserError: An unknown profile.

    >>> [(run.dataset, run.label_corruption) for run in plan("smoke", seeds=1)][:2]
    [('digits', 0.0), ('digits', 1.0)]
    """
    check_profile(profile)
    size = "smoke" if profile == "smoke" else "full"
    parts, name = parts_for(PLANS, size, dataset, DEFAULT_DATASET[profile])
    common = {"experiment": EXPERIMENT, "probe_version": PROBE_VERSION[profile]}
    found = [config for part in parts for config in part.configs(seeds=seeds, dataset=name, **common)]
    if moons:
        found += MOONS[size].configs(seeds=seeds, dataset="two_moons", **common)
    return found


def run(config: RunConfig, *, profile: str, **options: Any) -> Run:
    """The complete run of a configuration: loaded, resumed, or trained and measured.

    Args:
        config: Of `plan`.
        profile: Size, for how much is measured.
        **options: For `gendyn_lite.chapters.runner.load_or_run`: root (folder of the runs), data_root and device.
    """
    amount = FEW.get(config.model, AMOUNTS[profile])
    if config.eval_every == 1:
        amount = replace(amount, others=0)
    options["prepare"] = lambda loaded: {"probes": probes_for(config, loaded, amount)}
    return runner.load_or_run(config, profile=profile, probe_version=PROBE_VERSION[profile], **options)


run_all = partial(runner.one_by_one, run)
GROUPS = (Group(CELLS, lambda profile, values: plan(profile, **values)),)
