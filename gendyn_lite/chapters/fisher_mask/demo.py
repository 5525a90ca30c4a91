"""Chapter 3, what is computed while the page is made: one step's influence, its approximations, masks, and the trap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.fisher_mask.runs import inputs
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.measures import fisher
from gendyn_lite.threads import threads

DIGITS = RunConfig(
    experiment="fisher_demo",
    model="mlp",
    model_options={"widths": [32], "activation": "tanh"},
    train_size=300,
    epochs=6,
    batch_size=30,
    learning_rate=0.02,
    schedule="constant",
    eval_every=6,
)
STEPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
KEEPS = (0.25, 0.5, 0.75, 1.0)
WATCHED = 60


class Trained(NamedTuple):
    """A network after a little training, and its training examples in a class-balanced order."""

    model: nn.Module
    x: Tensor
    y: Tensor


@lru_cache(maxsize=4)
def trained(activation: str = "tanh") -> Trained:
    """The small network on digits that this chapter looks at."""
    config = DIGITS.replace(model_options={**DIGITS.model_options, "activation": activation})
    loaded, _ = data.load_for_run(config)
    x, y = inputs(config, loaded)
    network = runner.build(config, loaded)
    with threads(1):
        train.fit(network, loaded, config, device="cpu")
    order = data.balanced_order(y, seed=0)
    return Trained(network, x[order], y[order])


def step(
    *, example: int, eps: float, keep: float = 1.0, activation: str = "tanh", watched: int = WATCHED
) -> pd.DataFrame:
    """How far a step on one training digit moves the predictions for others.

    Args:
        example: Number of the digit to step on.
        eps: Step size ε.
        keep: Share of the weights that may move, those with the largest Fisher information.
        activation: Of the network.
        watched: How many digits are watched, from number 10 on.

    Returns:
        Columns digit (label), number, pair (same digit, other digit), kl and quadratic in nats.

    Raises:
        UserError: The example does not exist.

    >>> step(example=0, eps=0.01, watched=5).columns.tolist()
    ['digit', 'number', 'pair', 'kl', 'quadratic']
    """
    network = trained(activation)
    if not 0 <= example < len(network.y):
        raise UserError(f"example is {example}, expected a number from 0 to {len(network.y) - 1}")
    chosen = slice(10, 10 + watched)
    with threads(1):
        masks = None
        if keep < 1:
            masks = fisher.largest(fisher.diagonal(network.model, network.x, network.y), keep)
        one = slice(example, example + 1)
        found = fisher.influence(network.model, network.x[one], network.y[one], network.x[chosen], eps=eps, masks=masks)
    y = network.y[chosen]
    same = y == network.y[example]
    return pd.DataFrame(
        {
            "digit": y.numpy(),
            "number": range(10, 10 + len(y)),
            "pair": ["same digit" if each else "other digit" for each in same.tolist()],
            "kl": found.kl[0].numpy(),
            "quadratic": found.true[0].numpy(),
        }
    )


def steps(*, examples: int = 6, eps: Sequence[float] = STEPS, watched: int = 40) -> pd.DataFrame:
    """The same for several examples and step sizes: columns example (as text) and eps more.

    >>> rows = steps(examples=1, eps=(0.01,), watched=4)
    >>> rows["example"].unique().tolist()
    ['digit 6 (number 0)']
    """
    y = trained().y
    parts = []
    for number in range(examples):
        name = f"digit {int(y[number])} (number {number})"
        parts += [step(example=number, eps=each, watched=watched).assign(example=name, eps=each) for each in eps]
    return pd.concat(parts, ignore_index=True)


def approximation(*, examples: int = 5, points: int = 17) -> pd.DataFrame:
    """KL and quadratic form against the step size, for a smooth network and one of ReLUs.

    Returns:
        Columns activation, eps, kl, quadratic, gap (the absolute difference), ratio (KL over the form): means over
        examples, in float64.
    """
    eps = [10 ** (-4 + 4.5 * k / (points - 1)) for k in range(points)]
    frames = []
    for activation in ("tanh", "relu"):
        network = trained(activation)
        x, y = network.x[:examples], network.y[:examples]
        with threads(1):
            found = fisher.remainder(network.model, x, y, network.x[10:30], eps=eps)
        kl, quadratic = found.kl.mean(1), found.quadratic.mean(1)
        frames.append(
            pd.DataFrame(
                {
                    "activation": activation,
                    "eps": eps,
                    "kl": kl.numpy(),
                    "quadratic": quadratic.numpy(),
                    "gap": found.gap.mean(1).numpy(),
                    "ratio": (kl / quadratic).numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def theorem_slope(*, activation: str = "tanh", eps: Sequence[float] = (1e-3, 5e-4, 2.5e-4)) -> float:
    """Slope of |KL − ½ε²gᵀFg| against ε on logarithmic axes: the mean over five digits."""
    network = trained(activation)
    with threads(1):
        found = fisher.remainder(network.model, network.x[:5], network.y[:5], network.x[10:30], eps=eps)
    return float(found.slopes.mean())


def diagonal_against_whole(*, examples: int = 80, watched: int = 100) -> pd.DataFrame:
    """For steps on single digits the empirical form with the whole Fisher information and with its diagonal alone.

    Returns:
        Columns digit, number, whole and diagonal, both gᵀFg in nats per squared step.
    """
    network = trained()
    part, rest = slice(0, examples), slice(examples, examples + watched)
    with threads(1):
        found = fisher.influence(
            network.model, network.x[part], network.y[part], network.x[rest], y_eval=network.y[rest], eps=1.0
        ).means()
    return pd.DataFrame(
        {
            "digit": network.y[part].numpy(),
            "number": range(examples),
            "whole": 2 * found["quadratic_empirical"].numpy(),
            "diagonal": 2 * found["quadratic_diagonal"].numpy(),
        }
    )


def concentration() -> pd.DataFrame:
    """How much of the Fisher information the largest entries hold.

    Returns:
        Columns of (Fisher diagonal, squared weights, equal shares), kept (share of entries) and held (share of the
        sum).
    """
    network = trained()
    with threads(1):
        diagonal = fisher.diagonal(network.model, network.x, network.y)
    parts = {
        "Fisher information": torch.cat([value.flatten() for value in diagonal.values()]),
        "squared weights": torch.cat([value.detach().flatten().square() for value in network.model.parameters()]),
    }
    frames = []
    for name, values in parts.items():
        held = values.double().sort(descending=True).values.cumsum(0) / values.double().sum()
        at = [max(1, round(share * len(held) / 40)) for share in range(1, 41)]
        shares = {"kept": [k / len(held) for k in at], "held": [float(held[k - 1]) for k in at]}
        frames.append(pd.DataFrame({"of": name, **shares}))
    return pd.concat(frames, ignore_index=True)


def kept_by_layer(keep: float) -> dict[str, float]:
    """The share of each layer's weights that one threshold over the whole network keeps."""
    network = trained()
    masks = fisher.largest(fisher.diagonal(network.model, network.x, network.y), keep)
    layers: dict[str, list[Tensor]] = {}
    for name, mask in masks.items():
        layers.setdefault(name.rpartition(".")[0], []).append(mask.flatten())
    return {layer: float(torch.cat(parts).float().mean()) for layer, parts in layers.items()}


def batch_trap(sizes: Sequence[int] = (1, 10, 30, 100, 300)) -> pd.DataFrame:
    """The mistake on purpose: the square of each batch's mean gradient, averaged over batches, called Fisher.

    Returns:
        A row for each batch size: trace (the sum of the diagonal), share (of the right one's), agreement (of the masks
        that keep a quarter: the share of the right mask's entries that the wrong one keeps).
    """
    network = trained()
    right = fisher.diagonal(network.model, network.x, network.y)
    best = fisher.largest(right, 0.25)
    trace, kept = (sum(float(part.sum()) for part in each.values()) for each in (right, best))
    rows = []
    for size in sizes:
        wrong = _of_batches(network, size)
        found = sum(float(part.sum()) for part in wrong.values())
        masks = fisher.largest(wrong, 0.25)
        both = sum(int((masks[name] & best[name]).sum()) for name in best)
        rows.append((size, found, found / trace, both / kept))
    return pd.DataFrame(rows, columns=pd.Index(["batch size", "trace", "share", "agreement"]))


def _of_batches(network: Trained, size: int) -> dict[str, Tensor]:
    names = [name for name, _ in network.model.named_parameters()]
    total = {name: torch.zeros_like(value) for name, value in network.model.named_parameters()}
    batches = list(zip(network.x.split(size), network.y.split(size), strict=True))
    for x, y in batches:
        found = torch.autograd.grad(F.cross_entropy(network.model(x), y), list(network.model.parameters()))
        for name, gradient in zip(names, found, strict=True):
            total[name] += gradient.square() / len(batches)
    return total
