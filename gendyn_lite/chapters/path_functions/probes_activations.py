"""A probe of chapter 2 on activations, beside those on paths: how alike they are to those of the epoch before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gendyn_lite.chapters.path_functions.probes_pairs import NEAREST
from gendyn_lite.measures import relu_paths
from gendyn_lite.measures.relu_paths.recorder import QUANTILES
from gendyn_lite.train.probes import Probe


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
        before = _load(scratch, epoch - 1)
        _save(scratch, epoch, now)
        values: dict[str, float] = {}
        for layer, one in now.items() if before else ():
            other = before[layer].to(one)
            own = relu_paths.self_activation_similarity(one, other)
            crossed = relu_paths.cross_activations(one, other)
            i, j = torch.triu_indices(len(one), len(one), 1)
            values |= _summary(f"{layer}:self", own.cpu()) | _summary(f"{layer}:cross", crossed.similarity.cpu()[i, j])
            values[f"{layer}:cross:zeros"] = crossed.zeros
            values[f"{layer}:kept"] = _kept(_cosines(other), _cosines(one))
        return values

    return probe


def _summary(key: str, values: Tensor) -> dict[str, float]:
    """Mean and quantiles of some similarities."""
    found = {f"{key}:mean": float(values.double().mean())}
    levels = torch.tensor(QUANTILES, dtype=torch.float64)
    for level, value in zip(QUANTILES, values.double().quantile(levels), strict=True):
        found[f"{key}:q{round(100 * level):02d}"] = float(value)
    return found


def _cosines(activations: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(activations.float(), dim=1)
    return unit @ unit.T


def _kept(before: Tensor, now: Tensor) -> float:
    """Mean over images of the share of the nearest ones that were among the nearest before."""
    ranks = relu_paths.ranks_over_time({0: before, 1: now}, range(len(now)))
    return float(ranks.kept(NEAREST).mean())


def _save(scratch: Path, epoch: int, activations: dict[str, Tensor]) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    aside = scratch / f"activations_{epoch:04d}.tmp.npz"
    arrays: dict[str, Any] = {name: one.cpu().numpy() for name, one in activations.items()}
    np.savez(aside, **arrays)
    aside.replace(scratch / f"activations_{epoch:04d}.npz")


def _load(scratch: Path, epoch: int) -> dict[str, Tensor]:
    """The activations of an epoch; none if it is not there."""
    path = scratch / f"activations_{epoch:04d}.npz"
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}
