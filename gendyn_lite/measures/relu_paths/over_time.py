"""Paths of one fixed set of images over training: kept epoch by epoch, and followed by a probe.

`record` looks at a network once; a `PathRecording` holds what it found at every epoch, in memory or in a folder; a
`PathRecorder` is the probe that fills one and says how paths differ from those of the epoch before.
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
    """Packed paths by epoch and layer.

    Args:
        folder: Where each epoch is kept as ``epoch_0003.safetensors``; epochs that are there already belong to the
            recording. None to keep everything in memory.

    Attributes:
        folder: The folder, or None.

    Raises:
        UserError: The folder cannot be used.

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
            UserError: They are of other layers, units or images than those of another epoch.
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
        """Every layer's packed paths at an epoch, or one layer's.

        Raises:
            UserError: The epoch is missing from the recording, the layer is unknown, or the file is damaged.
        """
        if epoch not in self.epochs:
            raise UserError(f"epoch {epoch} is missing from the recording: it has epochs {shown(list(self.epochs))}")
        return chosen(self._memory[epoch], layer) if self.folder is None else read_paths(self._file(epoch), layer)

    def paths(self, epoch: int, layer: str) -> Tensor:
        """A layer's paths at an epoch, bool [n, units].

        Raises:
            UserError: The epoch is missing, or the layer unknown.
        """
        return self._layer(epoch, layer).unpack()

    def path_grams(self, layer: str) -> dict[int, Tensor]:
        """Epoch → `path_gram` of a layer: what `ranks_over_time` ranks neighbours by."""
        return {epoch: path_gram(self._layer(epoch, layer)) for epoch in self.epochs}

    def cross_path_means(self, layer: str) -> dict[int, float]:
        """Epoch t → mean cross-path similarity over pairs i < j with epoch t−1, where both are recorded."""
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
    """What a recorder keeps of an epoch: by layer the paths and their Gram matrices."""

    epoch: int | None = None
    paths: dict[str, PackedPaths] = field(default_factory=dict)
    grams: dict[str, Tensor] = field(default_factory=dict)


class PathRecorder:
    """Called as ``recorder(model, epoch)`` at each epoch, gives numbers that say how paths differ from the last call's.

    Keys are ``"<layer>:<measure>:<number>"``. Measures are ``self`` (`self_similarity` of the images) and ``cross``
    (`cross_path_similarity` of the pairs i < j); numbers are ``mean``, ``q05`` … ``q95`` and ``zeros`` (images, or
    pairs, whose similarity is 0 by definition). Also ``"<layer>:on"``, the share of units that are on, and
    ``"epochs_between"``, epochs since the last call (similarities of the paper have 1). With labels, ``"own:loss"`` and
    ``"own:accuracy"`` of the images, and ``"before:loss"`` and ``"before:accuracy"`` with every unit on as at the last
    call (`loss_along`). The first call has nothing to compare.

    Only the last epoch's paths are kept, packed, and their Gram matrix; the model and random generators are left alone.
    An epoch that is not after the last one starts anew, so that a recorder can follow several runs in turn.

    Args:
        x: The images [n, ...] as the network takes them, n ≥ 2.
        layers: Which layers; None for all.
        labels: The images' labels [n], to follow the loss along paths as well.
        folder: Where to keep every epoch's paths (see `PathRecording`); after an interruption, the epoch before is read
            from there. None to keep none.

    Attributes:
        recording: The `PathRecording` in `folder`, or None.

    Raises:
        UserError: There are fewer than two images, or not one label for each.

    Source: Image functions (n.d.), Fig. 1-3 and 5.

    >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
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
        """The numbers of an epoch.

        Args:
            model: The network, in eval mode.
            epoch: The epoch just finished.

        Returns:
            Key → number, as the class lists them; only ``on`` and ``own`` at the first call.

        Raises:
            UserError: The network has no gates, is another one than before, or is in train mode with dropout.
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
        """The last call's epoch; after an interruption the last one before `epoch` in the folder; else an empty one."""
        if self._last.epoch is not None and self._last.epoch < epoch:
            return self._last
        earlier = [other for other in self.recording.epochs if other < epoch] if self.recording else []
        if self.recording is None or not earlier:
            return _Epoch()
        return _Epoch(earlier[-1], self.recording.packed(earlier[-1]))

    def _compared(self, layer: str, now: _Epoch, before: _Epoch) -> dict[str, float]:
        """Self- and cross-path similarity of a layer, whose Gram matrix is kept for the next epoch."""
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
    """Mean, quantiles and zeros; `torch.quantile` refuses more than 2²⁴ values."""
    ordered = values.double().sort().values
    numbers = {f"{key}:mean": float(ordered.mean()), f"{key}:zeros": zeros}
    quantiles = zip(QUANTILES, np.quantile(ordered.cpu().numpy(), QUANTILES), strict=True)
    return numbers | {f"{key}:q{round(100 * q):02d}": float(value) for q, value in quantiles}
