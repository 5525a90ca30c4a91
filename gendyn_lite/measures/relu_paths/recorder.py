"""A probe that follows the paths of a fixed set of images over training."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.relu_paths.gates import check_images
from gendyn_lite.measures.relu_paths.packed import PackedPaths, fingerprint
from gendyn_lite.measures.relu_paths.projection import loss_along
from gendyn_lite.measures.relu_paths.record import Record, record_both, record_packed
from gendyn_lite.measures.relu_paths.recording import PathRecording
from gendyn_lite.measures.relu_paths.similarity import (
    cross_activations,
    cross_paths,
    on_counts,
    self_activation_similarity,
    self_similarity,
)

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class PathRecorder:
    """Called as ``recorder(model, epoch)`` at each epoch, gives numbers that say how paths differ from the last call's.

    Keys are ``"<layer>:<measure>:<number>"``. Measures are ``self`` (`self_similarity` of the images), ``cross``
    (`cross_path_similarity` of the pairs i < j), and with activations ``self_activation`` and ``cross_activation``;
    numbers are ``mean``, ``q05`` … ``q95`` and ``zeros`` (images, or pairs, whose similarity is 0 by definition). Also
    ``"<layer>:on"``, the share of units that are on, and ``"epochs_between"``, epochs since the last call (similarities
    of the paper have 1). With labels, ``"own:loss"`` and ``"own:accuracy"`` of the images, and ``"before:loss"`` and
    ``"before:accuracy"`` with every unit on as at the last call (`loss_along`). The first call has nothing to compare.

    Only the last epoch's paths are kept, packed, and their Gram matrix; the model and random generators are left alone.
    An epoch that is not after the last one starts anew, so that a recorder can follow several runs in turn.

    Args:
        x: The images [n, ...] as the network takes them, n ≥ 2.
        layers: Which layers; None for all.
        activations: Whether to follow activations too: the last epoch's are kept in full (32 times as large).
        labels: The images' labels [n], to follow the loss along paths as well.
        folder: Where to keep every epoch's paths (see `PathRecording`); after an interruption, the epoch before is read
            from there. None to keep none.
        quantiles: Which quantiles, in [0, 1].

    Attributes:
        recording: The `PathRecording` in `folder`, or None.

    Raises:
        UserError: There are fewer than two images, or a quantile is outside [0, 1].

    Source: Fig. 1-3 and 5.

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
        activations: bool = False,
        labels: Tensor | None = None,
        folder: str | os.PathLike[str] | None = None,
        quantiles: Sequence[float] = QUANTILES,
    ) -> None:
        check_images(x)
        if len(x) < 2:
            raise UserError("there is 1 image, expected at least 2: similarities are of pairs")
        if labels is not None and len(labels) != len(x):
            raise UserError(f"there are {len(x)} images and {len(labels)} labels: expected one label for each image")
        if not all(0 <= q <= 1 for q in quantiles):
            raise UserError(f"quantiles is {tuple(quantiles)}, expected numbers in [0, 1]")
        self.recording = None if folder is None else PathRecording(folder)
        self._x, self._labels, self._images = x, labels, fingerprint(x)
        self._layers, self._with_activations, self._quantiles = layers, activations, tuple(quantiles)
        self._epoch: int | None = None
        self._before: dict[str, PackedPaths] = {}
        self._activations: dict[str, Tensor] = {}
        self._grams: dict[str, Tensor] = {}

    def __call__(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """The numbers of an epoch.

        Args:
            model: The network, in eval mode.
            epoch: The epoch just finished.

        Raises:
            UserError: The network has no gates, is another one than before, or is in train mode with dropout.
        """
        now, activations = self._record(model)
        self._find_before(epoch)
        if self.recording is not None:
            self.recording.add(epoch, now)
        values: dict[str, float] = {}
        if self._epoch is not None:
            values["epochs_between"] = epoch - self._epoch
        if self._labels is not None:
            values |= self._losses(model, self._labels, now)
        grams: dict[str, Tensor] = {}
        for layer, paths in now.items():
            values[f"{layer}:on"] = float(on_counts(paths).sum()) / (paths.shape[0] * paths.units)
            if self._epoch is not None:
                values |= self._paths(layer, paths, grams)
            if layer in self._activations:
                values |= self._of_activations(layer, activations[layer])
        self._epoch, self._before, self._grams, self._activations = epoch, now, grams, activations
        return values

    def _record(self, model: nn.Module) -> tuple[dict[str, PackedPaths], dict[str, Tensor]]:
        """Paths and activations (none unless they are followed) by layer."""
        if not self._with_activations:
            return record_packed(model, self._x, layers=self._layers, images=self._images), {}
        both: dict[str, Record] = record_both(model, self._x, layers=self._layers, images=self._images)
        return {k: one.paths for k, one in both.items()}, {k: one.activations for k, one in both.items()}

    def _find_before(self, epoch: int) -> None:
        """Forget another run's epoch; after an interruption, read the epoch before from the folder."""
        if self._epoch is not None and self._epoch < epoch:
            return
        self._epoch, self._before, self._grams, self._activations = None, {}, {}, {}
        earlier = [] if self.recording is None else [other for other in self.recording.epochs if other < epoch]
        if self.recording is not None and earlier:
            self._epoch, self._before = earlier[-1], self.recording.packed(earlier[-1])

    def _losses(self, model: nn.Module, labels: Tensor, now: dict[str, PackedPaths]) -> dict[str, float]:
        """Loss and accuracy along the network's own paths, and along those of the last call."""
        values = {}
        for name, paths in (("own", now), ("before", self._before)):
            if paths:
                partial = self._layers is not None
                loss, accuracy = loss_along(model, self._x, labels, paths, partial=partial)
                values |= {f"{name}:loss": loss, f"{name}:accuracy": accuracy}
        return values

    def _paths(self, layer: str, paths: PackedPaths, grams: dict[str, Tensor]) -> dict[str, float]:
        """Self- and cross-path similarity of a layer; its Gram matrix is put into `grams`."""
        if layer not in self._before:
            told = ", ".join(self._before)
            raise UserError(f"layer {layer!r} was not there an epoch before ({told}): follow one network")
        before = self._before[layer]
        before = PackedPaths(before.bits.to(paths.bits.device), before.units, before.layer, before.images)
        crossed = cross_paths(paths, before, before_gram=self._grams.get(layer))
        assert crossed.gram is not None
        grams[layer] = crossed.gram
        empty = int(((on_counts(paths) == 0) | (on_counts(before) == 0)).sum())
        return {
            **self._summary(f"{layer}:self", self_similarity(paths, before), empty),
            **self._summary(f"{layer}:cross", _pairs(crossed.similarity), crossed.zeros),
        }

    def _of_activations(self, layer: str, now: Tensor) -> dict[str, float]:
        before = self._activations[layer]
        crossed = cross_activations(now, before)
        empty = int(((now == 0).all(1) | (before == 0).all(1)).sum())
        return {
            **self._summary(f"{layer}:self_activation", self_activation_similarity(now, before), empty),
            **self._summary(f"{layer}:cross_activation", _pairs(crossed.similarity), crossed.zeros),
        }

    def _summary(self, key: str, values: Tensor, zeros: int) -> dict[str, float]:
        """Mean, quantiles and zeros; quantiles by sorting (`torch.quantile` refuses more than 2²⁴ values)."""
        ordered = values.double().sort().values
        numbers = {f"{key}:mean": float(ordered.mean()), f"{key}:zeros": zeros}
        for q in self._quantiles:
            place = q * (len(ordered) - 1)
            low = ordered[int(place)]
            high = ordered[min(int(place) + 1, len(ordered) - 1)]
            numbers[f"{key}:q{round(100 * q):02d}"] = float(low + (place - int(place)) * (high - low))
        return numbers


def _pairs(similarity: Tensor) -> Tensor:
    """The values of the pairs i < j."""
    i, j = torch.triu_indices(len(similarity), len(similarity), 1, device=similarity.device)
    return similarity[i, j]
