"""Checkers of the exercises of chapter 2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gendyn_lite.chapters.live import exercise, expect, expect_close, expect_shape, slip


class _Counted(TorchFunctionMode):
    """Count the calls of torch's functions while the mode is active."""

    calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a call, and make it."""
        self.calls += 1
        return func(*args, **(kwargs or {}))


expect_near = partial(expect_close, tolerance=1e-5)  # in float32


def _paths(count: int, units: int, *, seed: int, share: float = 0.5) -> Tensor:
    return torch.rand(count, units, generator=torch.Generator().manual_seed(seed)) < share


def _drawn(seed: int, *sizes: tuple[int, ...]) -> list[Tensor]:
    """Draw normal numbers in float32, one tensor of each size."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator) for size in sizes]


@exercise("a path")
def check_path(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check ``path(W, b, x)``: which units of relu(Wx + b) are on, for each row of x."""
    for number, units in enumerate((1, 5, 40)):
        W, b, x = _drawn(number, (units, 3), (units,), (7, 3))
        b[0], W[0] = 0.0, 0.0  # a unit whose pre-activation is exactly 0
        value, expected = answer(W, b, x), x @ W.T + b > 0
        expect_shape(value, (7, units))
        expect(value.dtype == torch.bool, f"the result is {value.dtype}, expected bool: on or off")
        slips = {
            "a pre-activation of exactly 0 is off: the output is 0": x @ W.T + b >= 0,
            "the bias is missing": x @ W.T > 0,
        }
        expect_close(value, expected, "some units are on that should be off, or the other way round", slips)


@exercise("self-similarity")
def check_self_similarity(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``similarity(now, before)``: cosine of each image's path with its earlier path, 0 if either is empty."""
    for seed in range(3):
        now, before = _paths(6, 30, seed=seed), _paths(6, 30, seed=seed + 10, share=0.3)
        now[0] = False
        value = torch.as_tensor(answer(now, before))
        both = (now & before).sum(1).double()
        norms = (now.sum(1).double() * before.sum(1).double()).sqrt()
        expected = torch.where(norms > 0, both / norms.clamp(min=1e-12), 0.0)
        expect_shape(value, (6,), "one number an image")
        value, agreement = value.double(), (now == before).double().mean(1)
        expect(not value.isnan().any(), "the first image has an empty path: its similarity is 0, not 0/0")
        slips = {
            "divide by the square root of the product of both counts": both / now.sum(1).clamp(min=1),
            "that is the share of units on which both agree: units that are off do not count": agreement,
            "that is the Jaccard index: intersection over union": both / (now | before).sum(1).clamp(min=1),
        }
        slips = {words: wrong[1:] for words, wrong in slips.items()}
        expect_near(value[1:], expected[1:], "the values are wrong", slips)
        expect(bool(value[0] == 0), "the first image has an empty path: its similarity is 0")


@exercise("cross-path similarity")
def check_cross_similarity(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``cross(now, before)``: cross-path similarity of all pairs by matrix products, without a loop."""
    calls = []
    for count in (5, 12):
        with _Counted() as counted:
            answer(_paths(count, 60, seed=count), _paths(count, 60, seed=count + 1))
        calls.append(counted.calls)
    told = f"of 5 images your function makes {calls[0]} calls of torch, of 12 images {calls[1]}"
    expect(calls[1] <= calls[0], f"{told}: no loop over pairs or images, but matrix products of all at once")
    for seed in range(3):
        now, before = _paths(5, 60, seed=seed), _paths(5, 60, seed=seed + 10)
        value = torch.as_tensor(answer(now, before)).double()
        expect_shape(value, (5, 5))
        p, q = now.double(), before.double()
        shared, norms = (p * q) @ (p * q).T, (p @ p.T) * (q @ q.T)
        slips = {
            "that is the overlap of one image now with another before: Q is p ⊙ p′ of one image": p @ q.T,
            "the norms are missing": shared,
            "take the square root of the product of the norms": shared / norms,
        }
        told = f"the values are wrong{slip(value, slips, tolerance=1e-5)}: compare with the definition for one pair"
        expect_near(value, shared / norms.sqrt(), told)


@exercise("an image's function")
def check_image_function(answer: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]) -> None:
    """Check ``update(z, a, eta)``: the change of a dense layer's weights and bias by one image in a step of SGD."""
    for number, (units, inputs) in enumerate(((1, 1), (4, 3), (10, 20))):
        z, a = _drawn(number, (units,), (inputs,))
        weight, bias = answer(z, a, 0.1)
        expect_shape(weight, (units, inputs), f"({units}, {inputs}): units × inputs", what="the weight")
        outer = torch.outer(z, a)
        slips = {"the sign is wrong: a step goes down the gradient": 0.1 * outer, "the step size is missing": -outer}
        expect_near(weight, -0.1 * outer, "the weight's update is wrong", slips)
        expect_near(bias, -0.1 * z, "the bias's update is wrong: its input is 1")


@exercise("a point's own function")
def check_own_function(answer: Callable[[Any, Any, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check ``own(first, second, path)``: the affine map of a two-layer ReLU network along a path.

    `first` and `second` are the layers, pairs (W, b).
    """
    for seed in range(3):
        W1, b1, W2, b2 = _drawn(seed, (6, 3), (6,), (2, 6), (2,))
        path = _paths(1, 6, seed=seed)[0]
        slope, constant = answer((W1, b1), (W2, b2), path)
        masked = W2 * path
        expect_shape(slope, (2, 3), "(2, 3): outputs × inputs", what="the slope")
        slips = {"units that are off pass nothing on: use the path": W2 @ W1}
        expect_near(slope, masked @ W1, "the slope is wrong", slips)
        slips = {"a unit that is off does not pass on its bias either": W2 @ b1 + b2}
        expect_near(constant, masked @ b1 + b2, "the constant is wrong", slips)


@exercise("early-to-mid ratio")
def check_early_mid(answer: Callable[[list[float], int, int], float]) -> None:
    """Check ``ratio(values, first, second)``: the mean up to the first decay over the mean between the two decays.

    ``values[0]`` is the value of epoch 1.
    """
    cases = [
        ([0.5, 0.7, 0.9, 1.0, 1.0], 2, 4, 0.6 / 0.95),
        ([0.2, 0.4, 0.4, 0.4], 1, 3, 0.5),
        ([0.8, 0.6, 0.9, 0.9, 0.1, 0.1], 2, 4, 0.7 / 0.9),
    ]
    for values, first, second, expected in cases:
        value = answer(list(values), first, second)
        early, mid, later = sum(values[:first]), sum(values[first:second]), values[first:]
        slips = {
            "the mid stage ends with the second decay": early / first / (sum(later) / len(later)),
            "that is the sum over the sum: stages differ in length": early / mid,
            "that is mid over early": 1 / expected,
        }
        shown = f"for {values} with decays after epochs {first} and {second} you say {value:.3f}"
        expect_close(value, expected, f"{shown}, expected {expected:.3f}", slips)
