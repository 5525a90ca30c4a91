"""Checkers of the exercises of chapter 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gendyn_lite.chapters.feedback import expect, report


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _paths(count: int, units: int, *, seed: int = 0, share: float = 0.5) -> Tensor:
    return torch.rand(count, units, generator=_generator(seed)) < share


def check_path(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    """Check ``path(W, b, x)``: which units of relu(Wx + b) are on, for each row of x."""

    def check() -> None:
        for number, units in enumerate((1, 5, 40)):
            generator = _generator(number)
            W, b, x = (torch.randn(size, generator=generator) for size in ((units, 3), (units,), (7, 3)))
            b[0], W[0] = 0.0, 0.0  # a unit whose pre-activation is exactly 0
            value, expected = answer(W, b, x), x @ W.T + b > 0
            expect(
                tuple(value.shape) == (7, units), f"the result has shape {tuple(value.shape)}, expected (7, {units})"
            )
            expect(value.dtype == torch.bool, f"the result is {value.dtype}, expected bool: on or off")
            expect(not torch.equal(value, x @ W.T + b >= 0), "a pre-activation of exactly 0 is off: the output is 0")
            expect(not torch.equal(value, x @ W.T > 0) or units == 1, "the bias is missing")
            expect(torch.equal(value, expected), "some units are on that should be off, or the other way round")

    return report("a path", check)


def check_self_similarity(answer: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Check ``similarity(now, before)``: cosine of each image's path with its path before, 0 where one is empty."""

    def check() -> None:
        for seed in range(3):
            now, before = _paths(6, 30, seed=seed), _paths(6, 30, seed=seed + 10, share=0.3)
            now[0] = False
            value = torch.as_tensor(answer(now, before))
            both = (now & before).sum(1).double()
            norms = (now.sum(1).double() * before.sum(1).double()).sqrt()
            expected = torch.where(norms > 0, both / norms.clamp(min=1e-12), 0.0)
            expect(
                tuple(value.shape) == (6,), f"the result has shape {tuple(value.shape)}, expected one number an image"
            )
            value = value.double()
            expect(not value.isnan().any(), "the first image has an empty path: its similarity is 0, not 0/0")
            slips = {
                "divide by the square root of the product of both counts": both / now.sum(1).clamp(min=1),
                "that is the share of units on which both agree: units that are off do not count": (now == before)
                .double()
                .mean(1),
                "that is the Jaccard index: intersection over union": both / (now | before).sum(1).clamp(min=1),
            }
            told = next((slip for slip, wrong in slips.items() if torch.allclose(value[1:], wrong[1:].double())), "")
            expect(torch.allclose(value, expected), f"the values are wrong{'; ' + told if told else ''}")

    return report("self-similarity", check)


def check_cross_similarity(answer: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Check ``cross(now, before)``: cross-path similarity of all pairs, from matrix products."""

    def check() -> None:
        for seed in range(3):
            now, before = _paths(5, 60, seed=seed), _paths(5, 60, seed=seed + 10)
            value = torch.as_tensor(answer(now, before)).double()
            expect(tuple(value.shape) == (5, 5), f"the result has shape {tuple(value.shape)}, expected (5, 5)")
            p, q = now.double(), before.double()
            shared = p * q
            expected = (shared @ shared.T) / ((p @ p.T) * (q @ q.T)).sqrt()
            slips = {
                "that is the overlap of one image now with another before: Q is p ⊙ p′ of one image": p @ q.T,
                "the norms are missing": shared @ shared.T,
                "take the square root of the product of the norms": (shared @ shared.T) / ((p @ p.T) * (q @ q.T)),
            }
            told = next((slip for slip, wrong in slips.items() if torch.allclose(value, wrong)), "")
            right = torch.allclose(value, expected)
            expect(
                right, f"the values are wrong{'; ' + told if told else ''}: compare with the definition for one pair"
            )

    return report("cross-path similarity", check)


def check_image_function(answer: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]) -> bool:
    """Check ``update(z, a, eta)``: what one image adds to a dense layer's weights and bias in a step of SGD."""

    def check() -> None:
        for number, (units, inputs) in enumerate(((1, 1), (4, 3), (10, 20))):
            generator = _generator(number)
            z, a = torch.randn(units, generator=generator), torch.randn(inputs, generator=generator)
            weight, bias = answer(z, a, 0.1)
            shape = tuple(weight.shape)
            expect(
                shape == (units, inputs), f"the weight has shape {shape}, expected ({units}, {inputs}): units × inputs"
            )
            expect(
                not torch.allclose(weight, 0.1 * torch.outer(z, a)), "the sign is wrong: a step goes down the gradient"
            )
            expect(not torch.allclose(weight, -torch.outer(z, a)), "the step size is missing")
            expect(torch.allclose(weight, -0.1 * torch.outer(z, a)), "the weight's update is wrong")
            expect(torch.allclose(torch.as_tensor(bias), -0.1 * z), "the bias's update is wrong: its input is 1")

    return report("an image's function", check)


def check_own_function(answer: Callable[[Any, Any, Tensor], tuple[Tensor, Tensor]]) -> bool:
    """Check ``own(first, second, path)``: the affine map of relu networks of two layers along a path.

    `first` and `second` are pairs (W, b).
    """

    def check() -> None:
        for seed in range(3):
            generator = _generator(seed)
            W1, b1, W2, b2 = (torch.randn(size, generator=generator) for size in ((6, 3), (6,), (2, 6), (2,)))
            path = _paths(1, 6, seed=seed)[0]
            slope, constant = answer((W1, b1), (W2, b2), path)
            masked = W2 * path
            shape = tuple(slope.shape)
            expect(shape == (2, 3), f"the slope has shape {shape}, expected (2, 3): outputs × inputs")
            expect(not torch.allclose(slope, W2 @ W1, atol=1e-5), "units that are off pass nothing on: use the path")
            expect(torch.allclose(slope, masked @ W1, atol=1e-5), "the slope is wrong")
            expect(
                not torch.allclose(constant, W2 @ b1 + b2, atol=1e-5) or bool(path.all()),
                "a unit that is off passes its bias on neither",
            )
            expect(torch.allclose(constant, masked @ b1 + b2, atol=1e-5), "the constant is wrong")

    return report("a point's own function", check)


def check_early_mid(answer: Callable[[list[float], int, int], float]) -> bool:
    """Check ``ratio(values, first, second)``: the mean up to the first decay over the mean between both decays.

    ``values[0]`` is that of epoch 1.
    """

    def check() -> None:
        cases = [
            ([0.5, 0.7, 0.9, 1.0, 1.0], 2, 4, 0.6 / 0.95),
            ([0.2, 0.4, 0.4, 0.4], 1, 3, 0.5),
            ([0.8, 0.6, 0.9, 0.9, 0.1, 0.1], 2, 4, 0.7 / 0.9),
        ]
        for values, first, second, expected in cases:
            value = answer(list(values), first, second)
            early = sum(values[:first]) / first
            slips = {
                "the mid stage ends with the second decay": early / (sum(values[first:]) / len(values[first:])),
                "that is the sum over the sum: stages differ in length": sum(values[:first])
                / sum(values[first:second]),
                "that is mid over early": 1 / expected,
            }
            told = next((slip for slip, wrong in slips.items() if abs(value - wrong) < 1e-9), "")
            shown = f"for {values} with decays after epochs {first} and {second} you say {value:.3f}"
            if abs(value - expected) > 1e-9:
                expect(False, f"{shown}, expected {expected:.3f}{'; ' + told if told else ''}")

    return report("early-to-mid ratio", check)
