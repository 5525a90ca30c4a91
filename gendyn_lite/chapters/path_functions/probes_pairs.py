"""Probes of chapter 2 on pairs of images and of epochs: neighbours, overlap by distance, paths of distant epochs.

Each probe reads a recording of the paths of every epoch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite.measures import relu_paths
from gendyn_lite.measures.relu_paths.similarity import of_pairs
from gendyn_lite.train.probes import Probe

ANCHORS = (5, 10, 15)  # images whose neighbours are ranked, as in the paper
NEAREST = 6  # neighbours of each anchor
DISTANCE_BINS = 12
APART = (2, 4, 8)  # further distances in epochs at which paths are compared


def neighbour_probe(recording: relu_paths.PathRecording, *, last: int) -> Probe:
    """Make a probe of the nearest images by path overlap, and of how long they stay the nearest.

    Its values are ``<layer>:kept``, as for `activation_probe`, and ``<layer>:changed``, the share of images whose
    nearest image has changed since the previous epoch. At the last epoch ``<layer>:ranks`` holds the text of
    `rank_text`.

    Args:
        recording: Paths of every epoch up to the present one.
        last: The last epoch.

    Source: Image functions (n.d.), Fig. 6.
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for layer in recording.layers if epoch else ():
            grams = {t: relu_paths.path_gram(recording.packed(t, layer)[layer]) for t in (epoch - 1, epoch)}
            ranks = relu_paths.ranks_over_time(grams, range(len(grams[epoch])))
            values[f"{layer}:kept"] = float(ranks.kept(NEAREST).mean())
            values[f"{layer}:changed"] = float(ranks.nearest_changes().double().mean())
            if epoch == last:
                values[f"{layer}:ranks"] = rank_text(recording, layer)
        return values

    return probe


def rank_text(recording: relu_paths.PathRecording, layer: str) -> str:
    """Write the ranks of the final neighbours of `ANCHORS` at every epoch as text.

    Each pair is ``anchor neighbour: rank rank …``; pairs are separated by ``/``.
    """
    grams = recording.path_grams(layer)
    anchors = [anchor for anchor in ANCHORS if anchor < len(next(iter(grams.values())))]
    rows: dict[tuple[int, int], list[int]] = {}
    for row in relu_paths.ranks_over_time(grams, anchors).table(NEAREST):
        rows.setdefault((row["anchor"], row["neighbour"]), []).append(row["rank"])
    return "/".join(f"{i} {j}: {' '.join(map(str, ranks))}" for (i, j), ranks in rows.items())


def distance_probe(recording: relu_paths.PathRecording, x: Tensor, *, last: int) -> Probe:
    """Make a probe of path overlap against the distance of images.

    Its values are ``<layer>:rank`` and ``<layer>:linear``, Spearman's and Pearson's correlation of overlap with
    distance over pairs; at the last epoch ``<layer>:bins`` holds the text of `bin_text`.

    Args:
        recording: Paths of every epoch up to the present one.
        x: The followed images in the space where distances are taken: pixels, or standardized images.
        last: The last epoch.

    Source: Image functions (n.d.), Fig. 4.
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for layer in recording.layers:
            packed = recording.packed(epoch, layer)[layer]
            pairs = relu_paths.overlap_and_distance(packed, x)
            values[f"{layer}:rank"] = pairs.rank_correlation()
            values[f"{layer}:linear"] = pairs.linear_correlation()
            if epoch == last:
                values[f"{layer}:bins"] = bin_text(pairs, packed.units)
        return values

    return probe


def bin_text(pairs: relu_paths.Pairs, units: int) -> str:
    """Write mean distance and quartiles of overlap in `DISTANCE_BINS` bins with equally many pairs as text.

    Overlap is a share of the layer's units. All numbers are thousandths; bins are separated by ``/``.
    """
    order = pairs.distance.argsort().cpu()
    share = pairs.overlap.cpu().double() / units
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    rows = []
    for part in order.tensor_split(DISTANCE_BINS):
        numbers = [float(pairs.distance.cpu()[part].mean()), *share[part].quantile(levels).tolist()]
        rows.append(" ".join(str(round(1000 * number)) for number in numbers))
    return "/".join(rows)


def apart_probe(recording: relu_paths.PathRecording) -> Probe:
    """Make a probe that compares paths with those of several epochs before, and with other images' paths.

    Its values are ``<layer>:self8`` and ``<layer>:cross8``, mean self- and cross-path similarity with eight epochs
    before, likewise for the other distances in `APART`; and ``<layer>:others``, the mean cosine of an image's path with
    the paths of the other images an epoch before.

    Args:
        recording: Paths of every epoch up to the present one.
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        values: dict[str, float] = {}
        for layer in recording.layers if epoch else ():
            now, before = (recording.packed(t, layer)[layer] for t in (epoch, epoch - 1))
            across = relu_paths.overlap_across(now, before)
            values[f"{layer}:others"] = float(across[~torch.eye(len(across), dtype=torch.bool)].mean())
            for lag in (lag for lag in APART if lag <= epoch):
                crossed = relu_paths.cross_path_similarity(now, recording.packed(epoch - lag, layer)[layer]).double()
                values[f"{layer}:cross{lag}"] = float(of_pairs(crossed).mean())
                values[f"{layer}:self{lag}"] = float(crossed.diagonal().mean())
        return values

    return probe
