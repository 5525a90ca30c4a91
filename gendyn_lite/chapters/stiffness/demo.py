"""Chapter 4, what is computed while the page is made: real steps, and the trap of batch-norm in train mode."""

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
    """A small network after a little training, and its data."""
    loaded, _ = data.load_for_run(DIGITS)
    return runner.trained(DIGITS, loaded), loaded


def step_changes(*, count: int = 30, examples: int = 6, steps: tuple[float, ...] = STEPS) -> pd.DataFrame:
    """Take a step on one digit, for several digits and step sizes, and see the loss of every digit change.

    Args:
        count: Digits whose losses are watched, class-balanced, of the training set.
        examples: How many of them to take a step on.
        steps: Step sizes ε.

    Returns:
        Columns example (on which the step was taken, as text), step, digit (label of the target), pair (same digit,
        other digit or itself), predicted and actual (change of the target's loss in nats).

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
    """Mean cosine stiffness within a class, of one network and the same images.

    Attributes:
        right: Batch-norm with its running statistics.
        alone: In train mode, one image at a time: each is normalized by itself.
        batch: In train mode, all in one batch: each gradient depends on the others.
    """

    right: float
    alone: float
    batch: float


def batch_norm_trap(*, count: int = 40, seed: int = 0) -> Trap:
    """The same network measured in eval mode and, by mistake, in train mode, by a loop over examples."""
    config = DIGITS.replace(seed=seed)
    loaded, _ = data.load_for_run(config)
    x, y = sample(config, loaded, "train_eval", count)
    network = _with_batch_norm(seed)
    with threads(1):
        _train(network, *sample(config, loaded, "train_eval", 300))
        network.eval()
        right = stiffness.cosine(_loop(network, x, y, alone=True))
        network.train()  # the mistake
        alone, batch = (stiffness.cosine(_loop(network, x, y, alone=kind)) for kind in (True, False))
    means = [stiffness.by_pair(matrix, y, resamples=0)["within"].mean for matrix in (right, alone, batch)]
    return Trap(*means)


def _with_batch_norm(seed: int) -> nn.Module:
    """Two convolutions with batch-norm."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10))


def _train(network: nn.Module, x: Tensor, y: Tensor, *, steps: int = 60) -> None:
    """A few steps of SGD on all examples."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()


def _loop(network: nn.Module, x: Tensor, y: Tensor, *, alone: bool) -> Tensor:
    """The Gram matrix by one backward pass for each example, by itself or out of the whole batch's losses."""
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
