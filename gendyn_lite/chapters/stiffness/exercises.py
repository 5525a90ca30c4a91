"""Checkers of chapter 4."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gendyn_lite.chapters.feedback import expect, report
from gendyn_lite.measures import stiffness


def check_cosine(answer: Callable[[Tensor], Tensor]) -> bool:
    """Check ``cosine(gram)``: cosine of each two gradients from their Gram matrix, 0 where a gradient is zero."""

    def check() -> None:
        for n, zero in ((2, False), (6, False), (5, True)):
            gradients = torch.randn(n, 7, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
            if zero:
                gradients[1] = 0
            gram = gradients @ gradients.T
            given = gram.clone()
            found = answer(gram)
            expect(torch.equal(gram, given), "your function changed the matrix itself; work on a copy")
            _expect_shape(found, (n, n))
            expect(not found.isnan().any(), "a zero gradient gives NaN: 0/0; define the cosine as 0 there")
            expected = stiffness.cosine(gram)
            squared = gram / (gram.diagonal()[:, None] * gram.diagonal()).clamp(min=1e-300)
            hint = "; the diagonal holds squared norms: take their roots" if _close(found, squared) else ""
            expect(_close(found, expected), f"the largest error is {_worst(found, expected):.2g}{hint}")

    return report("cosine stiffness", check)


def check_linear_gram(answer: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Check ``linear_gram(a, z)``: Gram matrix of a linear layer's gradients, weight and bias.

    a are the layer's inputs [n, d], z the gradients of the losses at its outputs [n, p].
    """

    def check() -> None:
        for n, d, p in ((3, 4, 2), (6, 2, 5), (1, 3, 3)):
            generator = torch.Generator().manual_seed(n)
            a, z = (torch.randn(n, width, generator=generator, dtype=torch.float64) for width in (d, p))
            found = answer(a, z)
            _expect_shape(found, (n, n))
            gradients = torch.cat([(z[:, :, None] * a[:, None]).flatten(1), z], dim=1)
            weight = (a @ a.T) * (z @ z.T)
            hint = ""
            if _close(found, weight):
                hint = "; the bias is missing: its gradient is z, as of a weight whose input is 1"
            elif _close(found, a @ a.T @ (z @ z.T)):
                hint = "; multiply entry by entry (*), not as matrices (@)"
            expected = gradients @ gradients.T
            expect(_close(found, expected), f"the largest error is {_worst(found, expected):.2g}{hint}")

    return report("a layer's Gram matrix", check)


def check_predicted_change(answer: Callable[[Tensor, int, float], Tensor]) -> bool:
    """Check ``predicted_change(gram, i, eps)``: first-order change of every loss by a step on example i."""

    def check() -> None:
        torch_generator = torch.Generator().manual_seed(0)
        model = nn.Linear(3, 2).double()
        for value in model.parameters():
            value.data = torch.randn(value.shape, generator=torch_generator, dtype=torch.float64)
        x, y = torch.randn(5, 3, generator=torch_generator, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1])
        gram = stiffness.gradient_gram(model, x, y)
        assert isinstance(gram, Tensor)
        for i, eps in ((0, 1e-4), (3, 1e-3)):
            actual = stiffness.loss_change(model, x, y, examples=[i], eps=eps).actual[0]
            found = answer(gram, i, eps)
            _expect_shape(found, (5,), ": one for each example")
            hint = "; the step size ε is missing" if _near(eps * found, actual, eps) else ""
            hint = "; the sign is wrong: the step goes against the gradient" if _near(-found, actual, eps) else hint
            expect(
                _near(found, actual, eps),
                f"for a step on example {i} with ε = {eps:g} the losses change by {_numbers(actual / eps)} times ε, "
                f"you say {_numbers(found / eps)}{hint}",
            )

    return report("what a step does", check)


def check_within(answer: Callable[[Tensor, Tensor], float]) -> bool:
    """Check ``within(matrix, y)``: mean stiffness over pairs of different examples of one class."""

    def check() -> None:
        for n, classes in ((6, 2), (9, 3), (20, 4)):
            generator = torch.Generator().manual_seed(n)
            matrix = torch.rand(n, n, generator=generator, dtype=torch.float64)
            matrix = (matrix + matrix.T).fill_diagonal_(2.0) / 2
            y = torch.randint(classes, (n,), generator=generator)
            same = y[:, None] == y[None]
            expected = stiffness.by_pair(matrix, y, resamples=0)["within"].mean
            value = float(answer(matrix, y))
            hint = "; these are all pairs" if abs(value - float(matrix.mean())) < 1e-9 else ""
            if abs(value - float(matrix[same].mean())) < 1e-9:
                hint = "; an example is always stiff with itself: leave the diagonal out"
            expect(abs(value - expected) < 1e-9, f"for {n} examples you say {value:.3f}, expected {expected:.3f}{hint}")

    return report("stiffness within a class", check)


def check_critical_length(answer: Callable[[Tensor, Tensor], float]) -> bool:
    """Check ``critical_length(distance, stiffness)``: where the least-squares line through the pairs crosses zero."""

    def check() -> None:
        for seed, (start, slope) in enumerate(((0.6, -1.5), (0.2, -0.1), (1.0, -4.0))):
            generator = torch.Generator().manual_seed(seed)
            distance = torch.rand(60, generator=generator, dtype=torch.float64)
            values = start + slope * distance + 0.05 * torch.randn(60, generator=generator, dtype=torch.float64)
            design = torch.stack([torch.ones_like(distance), distance], 1)
            a, b = torch.linalg.lstsq(design, values[:, None]).solution[:, 0].tolist()
            value = float(answer(distance, values))
            hint = "; that is the stiffness at distance 0" if abs(value - a) < 1e-6 else ""
            hint = hint or ("; the sign is wrong" if abs(value - a / b) < 1e-6 else "")
            hint = hint or ("; the line must not be forced through 0" if value == 0 else "")
            expect(abs(value + a / b) < 1e-6, f"you say {value:.3f}, the line crosses zero at {-a / b:.3f}{hint}")

    return report("critical length", check)


def _expect_shape(found: object, shape: tuple[int, ...], why: str = "") -> None:
    expect(isinstance(found, Tensor), f"your function returned {type(found).__name__}, expected a tensor")
    given = tuple(torch.as_tensor(found).shape)
    expect(given == shape, f"the result has shape {given}, expected {shape}{why}")


def _close(found: Tensor, expected: Tensor) -> bool:
    return _worst(found, expected) < 1e-8


def _worst(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


def _near(found: Tensor, actual: Tensor, eps: float) -> bool:
    """Equal but for terms of second order."""
    return float((found - actual).abs().max()) < 0.02 * float(actual.abs().max()) + 20 * eps**2


def _numbers(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.2f}" for value in values.tolist()) + "]"
