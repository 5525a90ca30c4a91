"""The paths of one fixed set of images over training: a store for every epoch, and a probe that compares epochs.

`record` records the paths of one network. A `PathRecording` stores the paths of every epoch, in memory or in a folder.
A `PathRecorder` is the probe that fills such a store and measures how the paths changed since the epoch before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError, shown
from gendyn_lite.measures.relu_paths import similarity
from gendyn_lite.measures.relu_paths.gates import check_images
from gendyn_lite.measures.relu_paths.gram import path_gram
from gendyn_lite.measures.relu_paths.packed import PackedPaths, check_pair, chosen, fingerprint, read_paths, write_paths
from gendyn_lite.measures.relu_paths.projection import loss_along
from gendyn_lite.measures.relu_paths.record import record_packed

FILE = re.compile(r"epoch_(\d+)\.safetensors")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class PathRecording:
    """A store of packed paths by epoch and layer.

    Args:
        folder: Folder with one file for each epoch, such as ``epoch_0003.safetensors``. Files that are already there
            count as part of the recording. None to keep everything in memory.

    Attributes:
        folder: The folder, or None.

    Raises:
        UserError: The folder cannot be created.

    >>> recording = PathRecording()
    >>> for epoch in (0, 1):
    ...     recording.add(epoch, {"relu1": PackedPaths.pack(torch.tensor([[True, False], [True, True]]))})
    >>> recording.epochs, recording.layers, recording.paths(1, "relu1").tolist()
    ((0, 1), ('relu1',), [[True, False], [True, True]])
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._memory: dict[int, dict[str, PackedPaths]] = {}
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot use {self.folder} for paths: {error.strerror}") from error

    @property
    def epochs(self) -> tuple[int, ...]:
        """The recorded epochs, ascending."""
        if self.folder is None:
            return tuple(sorted(self._memory))
        names = (FILE.fullmatch(path.name) for path in self.folder.iterdir())
        return tuple(sorted(int(match[1]) for match in names if match))

    @property
    def layers(self) -> tuple[str, ...]:
        """The recorded layers, in the order of the forward pass."""
        return tuple(self.packed(self.epochs[0])) if self.epochs else ()

    def add(self, epoch: int, paths: Mapping[str, PackedPaths]) -> None:
        """Add the paths of an epoch, or replace them.

        Raises:
            UserError: The layers, units or images differ from those of the epochs recorded before.
        """
        others = [other for other in self.epochs if other != epoch]
        if others:
            before = self.packed(others[-1])
            if list(before) != list(paths):
                layers = f"the recording has layers {', '.join(before)} and epoch {epoch} has {', '.join(paths)}"
                raise UserError(f"{layers}: it is of another network; give each network a recording of its own")
            for layer, packed in paths.items():
                check_pair(packed, before[layer], least=1)
        if self.folder is None:
            self._memory[epoch] = dict(paths)
        else:
            write_paths(self._file(epoch), paths)

    def packed(self, epoch: int, layer: str | None = None) -> dict[str, PackedPaths]:
        """Return the packed paths of every layer at an epoch, or of one layer.

        Raises:
            UserError: The epoch is missing from the recording, the layer is unknown, or the file is damaged.
        """
        if epoch not in self.epochs:
            raise UserError(f"epoch {epoch} is missing from the recording: it has epochs {shown(list(self.epochs))}")
        return chosen(self._memory[epoch], layer) if self.folder is None else read_paths(self._file(epoch), layer)

    def paths(self, epoch: int, layer: str) -> Tensor:
        """Return the paths of a layer at an epoch, bool [n, units].

        Raises:
            UserError: The epoch is missing, or the layer unknown.
        """
        return self._layer(epoch, layer).unpack()

    def path_grams(self, layer: str) -> dict[int, Tensor]:
        """Return the `path_gram` of a layer by epoch, as `ranks_over_time` takes it."""
        return {epoch: path_gram(self._layer(epoch, layer)) for epoch in self.epochs}

    def cross_path_means(self, layer: str) -> dict[int, float]:
        """Return the mean cross-path similarity of epochs t and t−1 over pairs i < j, for each t with both recorded."""
        means: dict[int, float] = {}
        grams: dict[int, Tensor | None] = {}
        for epoch in (later for before, later in pairwise(self.epochs) if later == before + 1):
            now, before = self._layer(epoch, layer), self._layer(epoch - 1, layer)
            found = similarity.cross_paths(now, before, before_gram=grams.get(epoch - 1))
            grams = {epoch: found.gram}
            count = len(found.similarity)
            total = float(found.similarity.triu(1).sum(dtype=torch.float64))
            means[epoch] = total / (count * (count - 1) / 2)
        return means

    def _layer(self, epoch: int, layer: str) -> PackedPaths:
        return self.packed(epoch, layer)[layer]

    def _file(self, epoch: int) -> Path:
        assert self.folder is not None
        return self.folder / f"epoch_{epoch:04d}.safetensors"


@dataclass
class _Epoch:
    """The paths of one epoch and their Gram matrices, by layer."""

    epoch: int | None = None
    paths: dict[str, PackedPaths] = field(default_factory=dict)
    grams: dict[str, Tensor] = field(default_factory=dict)


class PathRecorder:
    """A probe that measures how the paths of some images changed since it was last called.

    Call it as ``recorder(model, epoch)`` at each epoch. It returns a dict with these keys:

    - ``"<layer>:<measure>:<number>"``, where the measure is ``self`` (`self_similarity` of the images) or ``cross``
      (`cross_path_similarity` of the pairs i < j), and the number is ``mean``, a quantile ``q05`` … ``q95``, or
      ``zeros`` (how many images, or pairs, have a similarity of 0 by definition).
    - ``"<layer>:on"``, the share of units that are on.
    - ``"epochs_between"``, the epochs since the last call (1 in the paper).
    - With labels: ``"own:loss"`` and ``"own:accuracy"`` of the network on the images, and ``"before:loss"`` and
      ``"before:accuracy"`` with the gates fixed to the paths of the last call (`loss_along`).

    The first call has nothing to compare with, and gives only ``on`` and ``own``.

    The recorder keeps the packed paths and Gram matrices of the last epoch only. It changes neither the model nor the
    state of random generators. An epoch that is not later than the last one starts a new run, so that one recorder can
    follow several runs in turn.

    Args:
        x: Images [n, ...] as the network takes them, n ≥ 2.
        layers: Names of the layers; None for all.
        labels: Labels of the images [n], to also measure losses.
        folder: Folder in which to store the paths of every epoch (see `PathRecording`). After an interruption, the
            epoch before is read from there. None to store nothing.

    Attributes:
        recording: The `PathRecording` in `folder`, or None.

    Raises:
        UserError: There are fewer than two images, or not one label for each image.

    Source: Image functions (n.d.), Fig. 1-3 and 5.

    >>> model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))
    >>> recorder = PathRecorder(torch.randn(5, 2))
    >>> sorted(recorder(model, 0)), recorder(model, 1)["1:self:mean"]
    (['1:on'], 1.0)
    """

    def __init__(
        self,
        x: Tensor,
        *,
        layers: Sequence[str] | None = None,
        labels: Tensor | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        check_images(x)
        if len(x) < 2:
            raise UserError("there is 1 image, expected at least 2: similarities are of pairs")
        if labels is not None and len(labels) != len(x):
            raise UserError(f"there are {len(x)} images and {len(labels)} labels: expected one label for each image")
        self.recording = None if folder is None else PathRecording(folder)
        self._x, self._labels, self._layers, self._images = x, labels, layers, fingerprint(x)
        self._last = _Epoch()

    def __call__(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Measure an epoch.

        Args:
            model: The network, in eval mode.
            epoch: The epoch just finished.

        Returns:
            The numbers by key, as listed for the class.

        Raises:
            UserError: The network has no gates, has other layers than before, or is in train mode with dropout.
        """
        now = _Epoch(epoch, record_packed(model, self._x, layers=self._layers, images=self._images))
        before = self._before(epoch)
        if self.recording is not None:
            self.recording.add(epoch, now.paths)
        values: dict[str, float] = {} if before.epoch is None else {"epochs_between": epoch - before.epoch}
        for name, paths in (("own", now.paths), ("before", before.paths)):
            if self._labels is not None and paths:
                loss, accuracy = loss_along(model, self._x, self._labels, paths, partial=self._layers is not None)
                values |= {f"{name}:loss": loss, f"{name}:accuracy": accuracy}
        for layer, paths in now.paths.items():
            values[f"{layer}:on"] = float(similarity.on_counts(paths).sum()) / (paths.shape[0] * paths.units)
            if before.epoch is not None:
                values |= self._compared(layer, now, before)
        self._last = now
        return values

    def _before(self, epoch: int) -> _Epoch:
        """Return the epoch of the last call; after an interruption, the last one stored before `epoch`; else none."""
        if self._last.epoch is not None and self._last.epoch < epoch:
            return self._last
        earlier = [other for other in self.recording.epochs if other < epoch] if self.recording else []
        if self.recording is None or not earlier:
            return _Epoch()
        return _Epoch(earlier[-1], self.recording.packed(earlier[-1]))

    def _compared(self, layer: str, now: _Epoch, before: _Epoch) -> dict[str, float]:
        """Compute the similarities of a layer with the epoch before, and keep its Gram matrix for the next epoch."""
        if layer not in before.paths:
            told = ", ".join(before.paths)
            raise UserError(f"layer {layer!r} was not there an epoch before ({told}): follow one network")
        paths, earlier = now.paths[layer], before.paths[layer]
        earlier = replace(earlier, bits=earlier.bits.to(paths.bits.device))
        crossed = similarity.cross_paths(paths, earlier, before_gram=before.grams.get(layer))
        assert crossed.gram is not None
        now.grams[layer] = crossed.gram
        empty = int(((similarity.on_counts(paths) == 0) | (similarity.on_counts(earlier) == 0)).sum())
        own, pairs = similarity.self_similarity(paths, earlier), similarity.of_pairs(crossed.similarity)
        return _summary(f"{layer}:self", own, empty) | _summary(f"{layer}:cross", pairs, crossed.zeros)


def _summary(key: str, values: Tensor, zeros: int) -> dict[str, float]:
    """Return mean, quantiles and zeros by key; NumPy's quantiles, as torch refuses more than 2²⁴ values."""
    ordered = values.double().sort().values
    numbers = {f"{key}:mean": float(ordered.mean()), f"{key}:zeros": zeros}
    quantiles = zip(QUANTILES, np.quantile(ordered.cpu().numpy(), QUANTILES), strict=True)
    return numbers | {f"{key}:q{round(100 * q):02d}": float(value) for q, value in quantiles}
