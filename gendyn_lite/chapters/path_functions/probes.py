"""What the runs of chapter 2 record: paths and activations, losses along paths, functions in isolation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.baselines import Frozen, Walk, keep
from gendyn_lite.chapters.path_functions.probes_pairs import NEAREST, apart_probe, distance_probe, neighbour_probe
from gendyn_lite.config import RunConfig
from gendyn_lite.data.decoding import FolderImages
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import relu_paths
from gendyn_lite.measures.relu_paths.over_time import QUANTILES
from gendyn_lite.measures.relu_paths.similarity import of_pairs
from gendyn_lite.train.probes import Probe, reestimated_statistics, running_statistics

PROBE_VERSION = 2  # of what the probes measure: raise it with every change of that, and old runs stay what they are
FOLLOWED = 128  # images whose paths are followed, as in the paper
FOLLOWED_DEEP = 64  # those of a deep network, which is recorded four times an epoch
FEW = 6  # layers of a deep network that are recorded
ISOLATED, AT = 6, 16  # functions in isolation, and inputs at which they are evaluated


def probes_for(config: RunConfig, loaded: ImageData, scratch: Path) -> dict[str, Probe]:
    """The probes of a run of this chapter, by the kind in its experiment's name.

    Args:
        config: Its configuration.
        loaded: Its data, labels as trained with.
        scratch: Folder of the paths of every epoch while the run is not complete.
    """
    kind = config.experiment.removeprefix("path_")
    x, y = followed(config, loaded, FOLLOWED if kind != "deep" else FOLLOWED_DEEP)
    if kind == "ratio":
        return {"paths": ratio_probe(x, config, scratch)}
    if kind == "unseen":
        test = next(iter(data.batcher(loaded, config, split="test", batch_size=FOLLOWED).epoch(0)))
        return {"trained": loss_probe(x, y, scratch / "trained"), "unseen": loss_probe(*test, scratch / "unseen")}
    recorder = relu_paths.PathRecorder(x, labels=y, folder=scratch)
    if kind != "networks":
        beside = baselines(config, loaded, x, scratch) if kind == "deep" else {}
        return {"paths": lambda model, epoch: of_some_layers(recorder(model, epoch)), **beside}
    recording = recorder.recording
    assert recording is not None
    images, chosen = loaded.train.x, followed_numbers(config, loaded, len(x))
    pixels = images[chosen].float() / (255 if images.dtype == torch.uint8 else 1)
    return {
        "paths": recorder,
        "activations": activation_probe(x, scratch),
        "neighbours": neighbour_probe(recording, last=config.epochs),
        "pixels": distance_probe(recording, pixels, last=config.epochs),
        "distance": distance_probe(recording, x, last=config.epochs),
        "apart": apart_probe(recording),
        "isolation": isolation_probe(config, loaded, x, y),
        **baselines(config, loaded, x, scratch),
    }


def followed_numbers(config: RunConfig, loaded: ImageData, count: int = FOLLOWED) -> Tensor:
    """Which training images are followed, at most `count`: see `followed`."""
    whole = loaded.train
    order = torch.arange(len(whole.y)) if config.train_size else data.balanced_order(whole.y, seed=config.seed)
    return order[:count]


def followed(config: RunConfig, loaded: ImageData, count: int = FOLLOWED) -> tuple[Tensor, Tensor]:
    """The training images that are followed and the labels that they are trained with.

    A subset of the training set stands in a class-balanced order of the true labels: its beginning is taken, so that
    runs on true and on random labels follow the same images. Of a whole set, a class-balanced part is taken.

    Args:
        config: Crop and standardization are those of its training; nothing is augmented.
        loaded: Its data.
        count: Number of images, at most.

    Returns:
        x [n, *in_shape] and y [n].
    """
    whole, chosen = loaded.train, followed_numbers(config, loaded, count)
    images: Any = whole.x
    part = images.select(chosen) if isinstance(images, FolderImages) else images[chosen]
    return runner.inputs(config, replace(loaded, train=whole._replace(x=part, y=whole.y[chosen])))


def of_some_layers(values: dict[str, float]) -> dict[str, float]:
    """The values of a few layers, evenly from the first to the last, and those that are of no layer.

    >>> list(of_some_layers({f"relu{i}:on": 0.5 for i in range(17)} | {"own:loss": 1.0}))[::3]
    ['relu0:on', 'relu10:on', 'own:loss']
    """
    layers = [name.removesuffix(":on") for name in values if name.endswith(":on")]
    left_out = set(layers) - set(few_of(layers))
    return {name: value for name, value in values.items() if name.split(":")[0] not in left_out}


def loss_probe(x: Tensor, y: Tensor, scratch: Path) -> Probe:
    """Loss along the network's own paths and along those of the epoch before: ``own:loss``, ``before:loss``.

    Args:
        x: Images, trained on or not.
        y: Their labels.
        scratch: Folder of the paths.
    """
    recorder = relu_paths.PathRecorder(x, labels=y, folder=scratch)
    return lambda model, epoch: {
        name: value for name, value in recorder(model, epoch).items() if name.startswith(("own:", "before:"))
    }


def ratio_probe(x: Tensor, config: RunConfig, scratch: Path) -> Probe:
    """Cross-path similarity in the first layer, the last, and in the mean over layers; at the end early over mid.

    Values: ``first``, ``last``, ``mean`` of the cross-path similarity, ``self`` (mean over layers); at the last epoch
    ``ratio``, ``ratio_first`` and ``ratio_last`` (Fig. 7).

    Args:
        x: The images that are followed.
        config: The run's configuration; its milestones divide the stages.
        scratch: Folder of the paths.
    """
    recorder = relu_paths.PathRecorder(x, folder=scratch)
    recording = recorder.recording
    assert recording is not None

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        values = recorder(model, epoch)
        cross = [value for name, value in values.items() if name.endswith(":cross:mean")]
        own = [value for name, value in values.items() if name.endswith(":self:mean")]
        if not cross:
            return {}
        found = {"first": cross[0], "last": cross[-1], "mean": float(np.mean(cross)), "self": float(np.mean(own))}
        if epoch == config.epochs:
            each = [recording.cross_path_means(layer) for layer in recording.layers]
            mean = {t: float(np.mean([means[t] for means in each])) for t in each[0]}
            for name, means in {"ratio": mean, "ratio_first": each[0], "ratio_last": each[-1]}.items():
                found[name] = relu_paths.early_to_mid_ratio(means, config.milestones)
        return found

    return probe


def activation_probe(x: Tensor, scratch: Path) -> Probe:
    """Self- and cross-activation similarity of each layer with the epoch before (Fig. 1, right).

    Also ``<layer>:kept``, the mean share of an image's nearest `NEAREST` by cosine of activations that were among them
    an epoch before (App. E). The activations of every epoch are kept in the folder.

    Args:
        x: The images that are followed.
        scratch: A folder.
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        now = relu_paths.record_activations(model, x)
        last, here = (scratch / f"activations_{each:04d}.safetensors" for each in (epoch - 1, epoch))
        before = load_file(last) if last.is_file() else {}
        keep(here, now)
        values: dict[str, float] = {}
        for layer, one in now.items() if before else ():
            other = before[layer].to(one)
            own = relu_paths.self_activation_similarity(one, other)
            crossed = relu_paths.cross_activations(one, other)
            pairs = of_pairs(crossed.similarity.cpu())
            values |= _summary(f"{layer}:self", own.cpu()) | _summary(f"{layer}:cross", pairs)
            values[f"{layer}:cross:zeros"] = crossed.zeros
            ranks = relu_paths.ranks_over_time({0: _cosines(other), 1: _cosines(one)}, range(len(one)))
            values[f"{layer}:kept"] = float(ranks.kept(NEAREST).mean())
        return values

    return probe


def _summary(key: str, values: Tensor) -> dict[str, float]:
    """Mean and quantiles of some similarities."""
    levels = torch.tensor(QUANTILES, dtype=torch.float64)
    quantiles = zip(QUANTILES, values.double().quantile(levels).tolist(), strict=True)
    named = {f"{key}:q{round(100 * level):02d}": value for level, value in quantiles}
    return {f"{key}:mean": float(values.double().mean()), **named}


def _cosines(activations: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(activations.float(), dim=1)
    return unit @ unit.T


def isolation_probe(config: RunConfig, loaded: ImageData, x: Tensor, y: Tensor) -> Probe:
    """Correlation of single images' functions in isolation with the whole network's, at some epochs (App. C).

    The inputs are test images.

    Args:
        config: The run's configuration.
        loaded: Its data.
        x: Followed images.
        y: Their labels.
    """
    test = next(iter(data.batcher(loaded, config, split="test", batch_size=AT).epoch(0)))[0]
    epochs = train.log_spaced(config.epochs, 4)
    measured = relu_paths.isolation_probe(x[:ISOLATED], y[:ISOLATED], test, seed=config.seed)
    return lambda model, epoch: measured(model, epoch) if epoch in epochs else {}


def few_of(layers: list[str]) -> list[str]:
    """A few layers, evenly from the first to the last.

    >>> few_of([f"relu{i}" for i in range(17)])
    ['relu0', 'relu3', 'relu6', 'relu10', 'relu13', 'relu16']
    """
    return [layers[place] for place in sorted({round(i * (len(layers) - 1) / (FEW - 1)) for i in range(FEW)})]


def baselines(config: RunConfig, loaded: ImageData, x: Tensor, scratch: Path) -> dict[str, Probe]:
    """The probes of what stands beside the curves of a run: ``movement`` and, with batch-norm, ``running`` and ``lag``.

    ``running``: the run's own network with its running statistics, where ``paths`` has them re-estimated. ``lag``: the
    initial weights, frozen, with running statistics as training would update them. ``movement``: the initial weights
    moved by `Walk`, statistics re-estimated. With frozen weights and re-estimated statistics every similarity is 1.

    Args:
        config: The run's configuration.
        loaded: Its data, labels as trained with.
        x: The images that are followed.
        scratch: Folder of what they keep from epoch to epoch.
    """
    start = runner.build(config, loaded).eval()
    walk = Walk(start, seed=config.seed, folder=scratch / "walk")
    train_eval = data.batcher(loaded, config, split="train_eval")

    def moved(follow: Probe, model: nn.Module, epoch: int) -> Mapping[str, Any]:
        walked = walk(model, epoch)
        with reestimated_statistics(walked, train_eval.epoch(0)):
            return follow(walked, epoch)

    found: dict[str, Callable[[Probe, nn.Module, int], Mapping[str, Any]]] = {"movement": moved}
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in start.modules()):
        frozen = Frozen(start, data.batcher(loaded, config))

        def run_itself(follow: Probe, model: nn.Module, epoch: int) -> Mapping[str, Any]:
            with running_statistics(model):
                return follow(model, epoch)

        found |= {"running": run_itself, "lag": lambda follow, _, epoch: follow(frozen(epoch), epoch)}
    layers = few_of(list(relu_paths.gate_layers(start, x[:1])))
    return {name: _probe(make, similarity_means(x, layers, scratch / name)) for name, make in found.items()}


def _probe(make: Callable[[Probe, nn.Module, int], Mapping[str, Any]], follow: Probe) -> Probe:
    return lambda model, epoch: make(follow, model, epoch)


def similarity_means(x: Tensor, layers: list[str], folder: Path) -> Probe:
    """Mean self- and cross-path similarity with the epoch before: ``<layer>:self:mean``, ``<layer>:cross:mean``."""
    recorder = relu_paths.PathRecorder(x, layers=layers, folder=folder)
    return lambda model, epoch: {name: value for name, value in recorder(model, epoch).items() if name[-5:] == ":mean"}
