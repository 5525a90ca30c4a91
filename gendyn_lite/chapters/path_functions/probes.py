"""Probes of chapter 2: paths and activations, losses along paths, functions in isolation, baselines."""

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
from gendyn_lite.measures.per_example.lag import lag_is_wanted
from gendyn_lite.measures.relu_paths.over_time import QUANTILES
from gendyn_lite.measures.relu_paths.similarity import of_pairs
from gendyn_lite.train.probes import Probe, reestimated_statistics, running_statistics

PROBE_VERSION = 2  # raise it when the probes change what they measure, so that old runs are not taken for new ones
FOLLOWED = 128  # images whose paths are followed, as in the paper
FOLLOWED_DEEP = 64  # the same for deep networks, which are recorded four times an epoch
FEW = 6  # layers of a deep network that are recorded
ISOLATED, AT = 6, 16  # number of functions in isolation, and of inputs at which they are evaluated


def probes_for(config: RunConfig, loaded: ImageData, scratch: Path) -> dict[str, Probe]:
    """Make the probes of a run of this chapter; its kind is in the name of its experiment.

    Args:
        config: The run's configuration.
        loaded: Its data, with the labels that it trains with.
        scratch: Folder that holds the paths of every epoch until the run is complete.
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
    """Return the indices of the training images that are followed, at most `count`: see `followed`."""
    whole = loaded.train
    order = torch.arange(len(whole.y)) if config.train_size else data.balanced_order(whole.y, seed=config.seed)
    return order[:count]


def followed(config: RunConfig, loaded: ImageData, count: int = FOLLOWED) -> tuple[Tensor, Tensor]:
    """Return the training images that are followed, and their training labels.

    A subset of the training set is in an order that balances the true classes. Its first images are followed, so that
    runs on true and on random labels follow the same ones. Of a whole training set a class-balanced part is followed.

    Args:
        config: The run, for its crop and standardization; images are not augmented.
        loaded: Its data.
        count: Largest number of images.

    Returns:
        x [n, *in_shape] and y [n].
    """
    whole, chosen = loaded.train, followed_numbers(config, loaded, count)
    images: Any = whole.x
    part = images.select(chosen) if isinstance(images, FolderImages) else images[chosen]
    return runner.inputs(config, replace(loaded, train=whole._replace(x=part, y=whole.y[chosen])))


def of_some_layers(values: dict[str, float]) -> dict[str, float]:
    """Keep the values of `FEW` evenly spaced layers, and those that do not belong to a layer.

    >>> list(of_some_layers({f"relu{i}:on": 0.5 for i in range(17)} | {"own:loss": 1.0}))[::3]
    ['relu0:on', 'relu10:on', 'own:loss']
    """
    layers = [name.removesuffix(":on") for name in values if name.endswith(":on")]
    left_out = set(layers) - set(few_of(layers))
    return {name: value for name, value in values.items() if name.split(":")[0] not in left_out}


def loss_probe(x: Tensor, y: Tensor, scratch: Path) -> Probe:
    """Make a probe of loss and accuracy along this epoch's paths (``own:``) and the previous epoch's (``before:``).

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
    """Make a probe of cross-path similarity and, at the last epoch, of its early-to-mid ratio.

    Its values are ``first``, ``last`` and ``mean``, cross-path similarity in the first layer, in the last, and averaged
    over layers; ``self``, self-similarity averaged over layers; and at the last epoch the ratios ``ratio`` (of the mean
    over layers), ``ratio_first`` and ``ratio_last``.

    Args:
        x: The images that are followed.
        config: The run's configuration; its milestones separate the stages.
        scratch: Folder of the paths.

    Source: Image functions (n.d.), Fig. 7.
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
    """Make a probe of self- and cross-activation similarity of each layer with the previous epoch.

    It also records ``<layer>:kept``: of the `NEAREST` images nearest to an image by cosine of activations, the mean
    share that were among the nearest an epoch before.

    Args:
        x: The images that are followed.
        scratch: Folder that keeps the activations of every epoch.

    Source: Image functions (n.d.), Fig. 1 (right) and App. E.
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
    """Return mean and quantiles of some similarities, by name."""
    levels = torch.tensor(QUANTILES, dtype=torch.float64)
    quantiles = zip(QUANTILES, values.double().quantile(levels).tolist(), strict=True)
    named = {f"{key}:q{round(100 * level):02d}": value for level, value in quantiles}
    return {f"{key}:mean": float(values.double().mean()), **named}


def _cosines(activations: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(activations.float(), dim=1)
    return unit @ unit.T


def isolation_probe(config: RunConfig, loaded: ImageData, x: Tensor, y: Tensor) -> Probe:
    """Make a probe that correlates functions in isolation with the whole network on test images, at some epochs.

    Args:
        config: The run's configuration.
        loaded: Its data.
        x: Followed images.
        y: Their labels.

    Source: Image functions (n.d.), App. C.
    """
    test = next(iter(data.batcher(loaded, config, split="test", batch_size=AT).epoch(0)))[0]
    epochs = train.log_spaced(config.epochs, 4)
    measured = relu_paths.isolation_probe(x[:ISOLATED], y[:ISOLATED], test, seed=config.seed)
    return lambda model, epoch: measured(model, epoch) if epoch in epochs else {}


def few_of(layers: list[str]) -> list[str]:
    """Return `FEW` layers, evenly spaced from the first to the last.

    >>> few_of([f"relu{i}" for i in range(17)])
    ['relu0', 'relu3', 'relu6', 'relu10', 'relu13', 'relu16']
    """
    return [layers[place] for place in sorted({round(i * (len(layers) - 1) / (FEW - 1)) for i in range(FEW)})]


def baselines(config: RunConfig, loaded: ImageData, x: Tensor, scratch: Path) -> dict[str, Probe]:
    """Make the probes of the baselines of a run: ``movement`` and, with batch-norm, ``running`` and ``lag``.

    ``movement`` is the initial network moved by `Walk`, with re-estimated statistics. ``running`` is the run's own
    network with its running statistics, where the probe ``paths`` re-estimates them. ``lag`` is the initial network
    with fixed weights, and running statistics updated by the batches of training. (With fixed weights and re-estimated
    statistics every similarity would be 1.)

    Args:
        config: The run's configuration.
        loaded: Its data, with the labels that it trains with.
        x: The images that are followed.
        scratch: Folder for what the baselines keep from epoch to epoch.
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
            with running_statistics(model), lag_is_wanted():
                return follow(model, epoch)

        def lag(follow: Probe, _: nn.Module, epoch: int) -> Mapping[str, Any]:
            with lag_is_wanted():
                return follow(frozen(epoch), epoch)

        found |= {"running": run_itself, "lag": lag}
    layers = few_of(list(relu_paths.gate_layers(start, x[:1])))
    return {name: _probe(make, similarity_means(x, layers, scratch / name)) for name, make in found.items()}


def _probe(make: Callable[[Probe, nn.Module, int], Mapping[str, Any]], follow: Probe) -> Probe:
    return lambda model, epoch: make(follow, model, epoch)


def similarity_means(x: Tensor, layers: list[str], folder: Path) -> Probe:
    """Make a probe of mean similarities with the previous epoch: ``<layer>:self:mean``, ``<layer>:cross:mean``."""
    recorder = relu_paths.PathRecorder(x, layers=layers, folder=folder)
    return lambda model, epoch: {name: value for name, value in recorder(model, epoch).items() if name[-5:] == ":mean"}
