"""Checkers of chapter 4."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gendyn_lite.chapters.live import exercise, expect, expect_close, expect_shape, random
from gendyn_lite.measures import stiffness


@exercise("cosine stiffness")
def check_cosine(answer: Callable[[Tensor], Tensor]) -> None:
    """Check ``cosine(gram)``: cosines of all pairs of gradients from their Gram matrix, 0 where a gradient is zero."""
    for n, zero in ((2, False), (6, False), (5, True)):
        gradients = random(n, 7, seed=n)
        gradients[1] *= not zero
        gram = gradients @ gradients.T
        found = answer(gram)
        _expect_tensor(found, (n, n))
        expect(not found.isnan().any(), "a zero gradient gives NaN: 0/0; define the cosine as 0 there")
        expected = stiffness.cosine(gram)
        squared = gram / (gram.diagonal()[:, None] * gram.diagonal()).clamp(min=1e-300)
        _expect_values(found, expected, {"the diagonal holds squared norms: take their roots": squared})


@exercise("a layer's Gram matrix")
def check_linear_gram(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``linear_gram(a, z)``: Gram matrix of a linear layer's gradients, for weight and bias together.

    a are the layer's inputs [n, d], z the gradients of the losses with respect to its outputs [n, p].
    """
    for n, d, p in ((3, 4, 2), (6, 2, 5), (1, 3, 3)):
        a, z = random(n, d, seed=n), random(n, p, seed=n + 10)
        found = answer(a, z)
        _expect_tensor(found, (n, n))
        gradients = torch.cat([(z[:, :, None] * a[:, None]).flatten(1), z], dim=1)
        slips = {
            "the bias is missing: its gradient is z, as of a weight whose input is 1": (a @ a.T) * (z @ z.T),
            "multiply entry by entry (*), not as matrices (@)": a @ a.T @ (z @ z.T),
        }
        _expect_values(found, gradients @ gradients.T, slips)


@exercise("what a step does")
def check_predicted_change(answer: Callable[[Tensor, int, float], Tensor]) -> None:
    """Check ``predicted_change(gram, i, eps)``: first-order change of every loss by a step on example i."""
    model = nn.Linear(3, 2).double()
    for seed, value in enumerate(model.parameters()):
        value.data = random(*value.shape, seed=seed)
    x, y = random(5, 3, seed=2), torch.tensor([0, 1, 0, 1, 1])
    gram = stiffness.gradient_gram(model, x, y)
    assert isinstance(gram, Tensor)
    for i, eps in ((0, 1e-4), (3, 1e-3)):
        actual = stiffness.loss_change(model, x, y, examples=[i], eps=eps).actual[0]
        found = answer(gram, i, eps)
        _expect_tensor(found, (5,), "(5,): one for each example")
        hint = "; the step size ε is missing" if _near(eps * found, actual, eps) else ""
        hint = "; the sign is wrong: the step goes against the gradient" if _near(-found, actual, eps) else hint
        change, said = ([round(value, 2) for value in (losses / eps).tolist()] for losses in (actual, found))
        told = f"for a step on example {i} with ε = {eps:g} the losses change by {change} times ε, you say {said}{hint}"
        expect(_near(found, actual, eps), told)


@exercise("stiffness within a class")
def check_within(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Check ``within(matrix, y)``: mean stiffness over pairs of different examples of one class."""
    for n, classes in ((6, 2), (9, 3), (20, 4)):
        matrix = random(n, n, seed=n).sigmoid()
        matrix, y = (matrix + matrix.T).fill_diagonal_(2.0) / 2, torch.arange(n) % classes
        expected = stiffness.by_pair(matrix, y, resamples=0)["within"].mean
        value = float(answer(matrix, y))
        slips = {
            "an example is always stiff with itself: leave the diagonal out": matrix[y[:, None] == y].mean(),
            "these are all pairs": matrix.mean(),
        }
        expect_close(value, expected, f"for {n} examples you say {value:.3f}, expected {expected:.3f}", slips)


@exercise("critical length")
def check_critical_length(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Check ``critical_length(distance, stiffness)``: where the least-squares line through the pairs crosses zero."""
    for seed, (start, slope) in enumerate(((0.6, -1.5), (0.2, -0.1), (1.0, -4.0))):
        distance = random(60, seed=seed).sigmoid()
        values = start + slope * distance + 0.05 * random(60, seed=seed + 10)
        design = torch.stack([torch.ones_like(distance), distance], 1)
        a, b = torch.linalg.lstsq(design, values[:, None]).solution[:, 0].tolist()
        value = float(answer(distance, values))
        slips = {
            "that is the stiffness at distance 0": a,
            "the sign is wrong": a / b,
            "the line must not be forced through 0": 0.0,
        }
        told = f"you say {value:.3f}, the line crosses zero at {-a / b:.3f}"
        expect_close(value, -a / b, told, slips, tolerance=1e-6)


def _expect_tensor(found: object, shape: tuple[int, ...], words: str = "") -> None:
    expect(isinstance(found, Tensor), f"your function returned {type(found).__name__}, expected a tensor")
    expect_shape(found, shape, words)


def _expect_values(found: Tensor, expected: Tensor, slips: dict[str, Tensor]) -> None:
    expect_close(found, expected, f"the largest error is {(found - expected).abs().max():.2g}", slips)


def _near(found: Tensor, actual: Tensor, eps: float) -> bool:
    """Whether two changes are equal up to terms of second order."""
    return float((found - actual).abs().max()) < 0.02 * float(actual.abs().max()) + 20 * eps**2
