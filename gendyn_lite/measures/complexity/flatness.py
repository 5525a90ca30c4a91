"""How flat the training loss is around a network, and how far its examples disagree on where to go."""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.checks import check_number, check_whole
from gendyn_lite.measures.per_example.guards import check_eval


@torch.no_grad()
def sharpness(model: nn.Module, x: Tensor, y: Tensor, *, sigma: float = 0.1, draws: int = 5, seed: int = 0) -> float:
    """The mean rise of the loss, in nats, when every weight w becomes w (1 + σ ξ) with ξ from a standard normal.

    Noise in proportion to the weights gives the same for networks that differ by a rescaling of units alone. Each draw
    is taken both ways, ξ and −ξ, so that the slope of the loss drops out.

    Args:
        model: In eval mode; left as it was.
        x: Training inputs [n, *in_shape].
        y: Their labels [n].
        sigma: Relative size of the noise, σ.
        draws: How many times it is drawn.
        seed: Of the draws.

    Raises:
        UserError: σ is no positive number, or there is no draw or example.

    Source: Jiang et al. (2020), Appendix C, 'magnitude-aware' flatness by noise; they search the σ of a given rise.

    >>> network = nn.Linear(2, 2, bias=False)
    >>> _ = network.weight.data.fill_(1.0)  # noise can only hurt where each logit is as good as the other
    >>> sharpness(network, torch.eye(2), torch.tensor([0, 1])) > 0
    True
    """
    check_eval(model)
    check_number("sigma", sigma, "a number above 0")
    check_whole("draws", draws)
    if not len(x):
        raise UserError("x has no example, expected at least one")
    moved, generator = deepcopy(model), torch.Generator().manual_seed(seed)
    before, rises = _loss(model, x, y), []
    for _ in range(draws):
        noise = [torch.randn(value.shape, generator=generator).to(value) for value in model.parameters()]
        for way in (sigma, -sigma):
            for new, value, one in zip(moved.parameters(), model.parameters(), noise, strict=True):
                new.copy_(value * (1 + way * one))
            rises.append(_loss(moved, x, y) - before)
    return sum(rises) / len(rises)


def _loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    parts = zip(x.split(500), y.split(500), strict=True)
    total = sum(float(F.cross_entropy(model(part).double(), labels, reduction="sum")) for part, labels in parts)
    return total / len(y)


def gradient_noise(gram: Tensor) -> float:
    """The spread of the examples' gradients over the square of their mean: tr Cov(g) / ‖E g‖².

    Args:
        gram: Dot products of the gradients of n examples, [n, n], as of `gradient_gram`.

    Returns:
        0 where all gradients are alike; infinite where they cancel.

    Raises:
        UserError: There are fewer than two examples.

    Source: Jiang et al. (2020), Appendix C, 'variance of gradients'; over the mean, as in McCandlish et al. (2018).

    >>> gradient_noise(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    2.0
    """
    n = len(gram)
    if n < 2:
        raise UserError(f"the spread of {n} gradient is not defined: expected at least two examples")
    gram = gram.double()
    mean = float(gram.mean())
    spread = (float(gram.diagonal().mean()) - mean) * n / (n - 1)
    return spread / mean if mean > 0 else float("inf")
