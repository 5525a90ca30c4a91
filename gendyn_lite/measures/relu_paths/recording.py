"""Paths of one fixed set of images over the epochs of a training run: packed in memory, and a file an epoch on disk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.measures.relu_paths.gram import path_gram
from gendyn_lite.measures.relu_paths.packed import PackedPaths, check_pair
from gendyn_lite.measures.relu_paths.similarity import cross_paths


def early_to_mid_ratio(values: Mapping[int, float], milestones: Sequence[int], *, last: int | None = None) -> float:
    """Mean similarity before the first decay of the learning rate, divided by the mean in the second stage.

    The value of epoch t compares it with epoch t−1, and milestones are finished epochs, as in `RunConfig`. So the first
    stage has the values of epochs 1 … m₁ and the second those of m₁+1 … m₂. (The paper does not say over which layers
    it averages: take one, or the mean over layers.)

    Args:
        values: Epoch → mean cross-path similarity over pairs, for instance of ``recording.cross_path_means(layer)``.
        milestones: Epochs after which the learning rate decays.
        last: Where the second stage ends if there is one milestone only; None for the last epoch of `values`.

    Raises:
        UserError: There is no milestone, an epoch of a stage is missing, or the second mean is 0.

    Source: Fig. 7 (Sec. 8, "Ratio of early to mid cross path overlap").

    >>> early_to_mid_ratio({1: 0.5, 2: 0.75, 3: 0.5, 4: 0.75, 5: 0.9}, milestones=[2, 4])
    1.0
    """
    if not milestones:
        raise UserError("there is no milestone: an early and a mid stage need a schedule with at least one decay")
    first, *later = sorted(milestones)
    end = later[0] if later else (max(values, default=0) if last is None else last)
    if not 1 <= first < end:
        raise UserError(f"the stages are epochs 1 to {first} and {first + 1} to {end}: expected at least one in each")
    early, mid = _mean(values, 1, first), _mean(values, first + 1, end)
    if mid == 0:
        raise UserError(f"the mean over epochs {first + 1} to {end} is 0: the ratio is not defined")
    return early / mid


def _mean(values: Mapping[int, float], start: int, stop: int) -> float:
    """Mean over the epochs from start to stop, all of which must be there."""
    missing = [epoch for epoch in range(start, stop + 1) if epoch not in values]
    if missing:
        raise UserError(
            f"epoch {missing[0]} is missing from the recording (it has {epochs_told(values)}): record every epoch of "
            f"{start} to {stop}"
        )
    return sum(values[epoch] for epoch in range(start, stop + 1)) / (stop - start + 1)


def epochs_told(epochs: Mapping[int, object] | Sequence[int]) -> str:
    """Epochs in a few words.

    >>> epochs_told([0, 1, 2, 5])
    'epochs 0, 1, 2, 5'
    >>> epochs_told(range(90))
    '90 epochs from 0 to 89'
    """
    found = sorted(epochs)
    if not found:
        return "no epochs"
    if len(found) > 12:
        return f"{len(found)} epochs from {found[0]} to {found[-1]}"
    return f"epoch{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"


T = TypeVar("T")
FORMAT = "relu_paths 1"
FILE = re.compile(r"epoch_(\d+)\.safetensors")


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
                raise UserError(
                    f"the recording has layers {', '.join(before)} and epoch {epoch} has {', '.join(paths)}: it is of "
                    "another network; give each network a recording of its own"
                )
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
            raise UserError(f"epoch {epoch} is missing from the recording: it has {epochs_told(self.epochs)}")
        if self.folder is not None:
            return read_paths(self._file(epoch), layer)
        return _chosen(self._memory[epoch], layer)

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
        gram: Tensor | None = None
        for epoch in self.epochs:
            if epoch - 1 not in self.epochs:
                gram = None
                continue
            found = cross_paths(self._layer(epoch, layer), self._layer(epoch - 1, layer), before_gram=gram)
            gram = found.gram
            count = len(found.similarity)
            total = float(found.similarity.triu(1).sum(dtype=torch.float64))
            means[epoch] = total / (count * (count - 1) / 2)
        return means

    def _layer(self, epoch: int, layer: str) -> PackedPaths:
        return self.packed(epoch, layer)[layer]

    def _file(self, epoch: int) -> Path:
        assert self.folder is not None
        return self.folder / f"epoch_{epoch:04d}.safetensors"


def write_paths(path: Path, paths: Mapping[str, PackedPaths]) -> None:
    """Write the packed paths of one epoch as one safetensors file, whole or not at all.

    Raises:
        UserError: The disk does not take it.
    """
    from safetensors.torch import save

    about = {name: {"units": one.units, "images": one.images} for name, one in paths.items()}
    content = save(
        {name: one.bits.cpu().contiguous() for name, one in paths.items()},
        metadata={"format": FORMAT, "layers": json.dumps(about)},
    )
    aside = path.with_suffix(f".tmp{os.getpid()}")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def read_paths(path: Path, layer: str | None = None) -> dict[str, PackedPaths]:
    """Read what `write_paths` wrote, all of it or one layer.

    Raises:
        UserError: It is not there, damaged, or no recording; or the layer is unknown.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"there is no recording {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path} is no recording of paths, or of another version (expected {FORMAT!r})")
            about = _chosen(json.loads(metadata["layers"]), layer)
            return {
                name: PackedPaths(file.get_tensor(name), one["units"], name, one["images"])
                for name, one in about.items()
            }
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): delete it and record the epoch anew") from error


def _chosen(layers: dict[str, T], layer: str | None) -> dict[str, T]:
    """Every layer (None), or the one of that name."""
    if layer is None:
        return layers
    if layer not in layers:
        raise unknown_name("gate layer", layer, layers)
    return {layer: layers[layer]}
