"""What the runs of chapter 2 record: which probes each kind has, losses along paths, functions in isolation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gendyn_lite import data, train
from gendyn_lite.chapters.path_functions.probes_activations import activation_probe
from gendyn_lite.chapters.path_functions.probes_pairs import distance_probe, neighbour_probe
from gendyn_lite.config import RunConfig
from gendyn_lite.data.decoding import FolderImages
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import relu_paths
from gendyn_lite.train.probes import Probe

PROBE_VERSION = 1  # of what the probes measure: raise it with every change of that, and old runs stay what they are
FOLLOWED = 128  # images whose paths are followed, as in the paper
FEW = 6  # layers of a deep network that are recorded
ISOLATED, AT = 8, 32  # functions in isolation, and inputs at which they are evaluated


def probes_for(config: RunConfig, loaded: ImageData, scratch: Path) -> dict[str, Probe]:
    """The probes of a run of this chapter, by the kind in its experiment's name.

    Args:
        config: Its configuration.
        loaded: Its data, labels as trained with.
        scratch: Folder of the paths of every epoch while the run is not complete.
    """
    kind = config.experiment.removeprefix("path_")
    x, y = followed(config, loaded)
    if kind == "ratio":
        return {"paths": ratio_probe(x, config, scratch)}
    if kind == "unseen":
        test = next(iter(data.batcher(loaded, config, split="test", batch_size=FOLLOWED).epoch(0)))
        return {"trained": loss_probe(x, y, scratch / "trained"), "unseen": loss_probe(*test, scratch / "unseen")}
    recorder = relu_paths.PathRecorder(x, labels=y, folder=scratch)
    if kind != "networks":
        return {"paths": lambda model, epoch: of_some_layers(recorder(model, epoch))}
    recording = recorder.recording
    assert recording is not None
    return {
        "paths": recorder,
        "activations": activation_probe(x, scratch),
        "neighbours": neighbour_probe(recording, last=config.epochs),
        "distance": distance_probe(recording, x, last=config.epochs),
        "isolation": isolation_probe(config, loaded, x, y),
    }


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
    whole = loaded.train
    chosen = torch.arange(len(whole.y)) if config.train_size else data.balanced_order(whole.y, seed=config.seed)
    chosen = chosen[:count]
    images: Any = whole.x
    part = images.select(chosen) if isinstance(images, FolderImages) else images[chosen]
    few = replace(loaded, train=whole._replace(x=part, y=whole.y[chosen]))
    batches = list(data.batcher(few, config, split="train_eval").epoch(0))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return x, y


def of_some_layers(values: dict[str, float], count: int = FEW) -> dict[str, float]:
    """The values of a few layers, evenly from the first to the last, and those that are of no layer.

    >>> list(of_some_layers({f"relu{i}:on": 0.5 for i in range(17)} | {"own:loss": 1.0}))[::3]
    ['relu0:on', 'relu10:on', 'own:loss']
    """
    layers = [name.removesuffix(":on") for name in values if name.endswith(":on")]
    places = {round(i * (len(layers) - 1) / (count - 1)) for i in range(count)}
    left_out = {layer for number, layer in enumerate(layers) if number not in places}
    return {name: value for name, value in values.items() if name.split(":")[0] not in left_out}


def loss_probe(x: Tensor, y: Tensor, scratch: Path) -> Probe:
    """Loss along the network's own paths and along those of the epoch before: ``own:loss``, ``before:loss``.

    Args:
        x: Images, trained on or not.
        y: Their labels.
        scratch: Folder of the paths.
    """
    recorder = relu_paths.PathRecorder(x, labels=y, folder=scratch)

    def probe(model: nn.Module, epoch: int) -> dict[str, Any]:
        values = recorder(model, epoch)
        return {name: value for name, value in values.items() if name.startswith(("own:", "before:"))}

    return probe


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
            for name, means in (("ratio", mean), ("ratio_first", each[0]), ("ratio_last", each[-1])):
                found[name] = relu_paths.early_to_mid_ratio(means, config.milestones)
        return found

    return probe


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
    epochs = train.log_spaced(config.epochs, 6)
    measured = relu_paths.isolation_probe(
        x[:ISOLATED],
        y[:ISOLATED],
        test,
        step_size=lambda epoch: train.learning_rate(config, epoch) / config.batch_size,
    )
    return lambda model, epoch: measured(model, epoch) if epoch in epochs else {}
