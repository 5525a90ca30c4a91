"""Computations of the page of chapter 4: real steps, and the trap of batch-norm in train mode."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite import data
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.stiffness.probes import sample
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import stiffness
from gendyn_lite.threads import threads

_SETTINGS = {"model": "mlp", "train_size": 300, "batch_size": 30, "learning_rate": 0.02, "schedule": "constant"}
_OPTIONS = {"widths": [32]}
DIGITS = RunConfig(experiment="stiffness_demo", model_options=_OPTIONS, epochs=5, eval_every=5, **_SETTINGS)
STEPS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)


def trained() -> tuple[nn.Module, ImageData]:
    """Train a small network for a few epochs, and return it with its data."""
    loaded, _ = data.load_for_run(DIGITS)
    return runner.trained(DIGITS, loaded), loaded


def step_changes(*, count: int = 30, examples: int = 6, steps: tuple[float, ...] = STEPS) -> pd.DataFrame:
    """Take a step on one digit, for several digits and step sizes, and measure the change of every digit's loss.

    Args:
        count: Number of training digits whose losses are watched; their classes are balanced.
        examples: Number of these digits that a step is taken on, one at a time.
        steps: Step sizes ε.

    Returns:
        Columns example (the digit stepped on, as text), step, digit (label of the watched digit), pair (same digit,
        other digit or itself), predicted and actual (change of the watched digit's loss, in nats).

    >>> rows = step_changes(count=4, examples=1, steps=(0.001,))
    >>> bool(abs(rows["actual"] - rows["predicted"]).max() < 1e-2)
    True
    """
    network, loaded = trained()
    x, y = sample(DIGITS, loaded, "train_eval", count)
    frames = []
    for step in steps:
        with threads(1):
            found = stiffness.loss_change(network, x, y, examples=range(examples), eps=step)
        for i in range(examples):
            pair = ["itself" if j == i else "same digit" if y[j] == y[i] else "other digit" for j in range(count)]
            about = {"example": f"digit {int(y[i])} (number {i})", "step": step, "digit": y, "pair": pair}
            frames.append(pd.DataFrame({**about, "predicted": found.predicted[i], "actual": found.actual[i]}))
    return pd.concat(frames, ignore_index=True)


class Trap(NamedTuple):
    """Mean cosine stiffness within a class, of one network on the same images.

    Attributes:
        right: In eval mode, where batch-norm uses its running statistics.
        alone: In train mode with one image at a time, which is normalized by itself.
        batch: In train mode with all images in one batch, where each gradient depends on all images.
    """

    right: float
    alone: float
    batch: float


def batch_norm_trap() -> Trap:
    """Measure a network in eval mode and, by mistake, in train mode, with a loop over examples."""
    loaded, _ = data.load_for_run(DIGITS)
    x, y = sample(DIGITS, loaded, "train_eval", 40)
    network = _with_batch_norm()
    with threads(1):
        _train(network, *sample(DIGITS, loaded, "train_eval", 300))
        network.eval()
        right = stiffness.cosine(_loop(network, x, y, alone=True))
        network.train()  # the mistake
        alone, batch = (stiffness.cosine(_loop(network, x, y, alone=kind)) for kind in (True, False))
    means = [stiffness.by_pair(matrix, y, resamples=0)["within"].mean for matrix in (right, alone, batch)]
    return Trap(*means)


def _with_batch_norm() -> nn.Module:
    """Build two convolutions with batch-norm, with weights of seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10))


def _train(network: nn.Module, x: Tensor, y: Tensor) -> None:
    """Take 60 steps of SGD on all examples."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()


def _loop(network: nn.Module, x: Tensor, y: Tensor, *, alone: bool) -> Tensor:
    """Compute the Gram matrix by one backward pass for each example, in a batch of its own or in one of all."""
    values = list(network.parameters())
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    losses = None if alone else F.cross_entropy(network(x), y, reduction="none")
    rows = []
    for i in range(len(x)):
        loss = F.cross_entropy(network(x[i : i + 1]), y[i : i + 1]) if losses is None else losses[i]
        found = torch.autograd.grad(loss, values, retain_graph=losses is not None)
        rows.append(torch.cat([gradient.flatten() for gradient in found]))
    for name, value in network.named_buffers():
        value.copy_(statistics[name])
    gradients = torch.stack(rows)
    return gradients @ gradients.T
