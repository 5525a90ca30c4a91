"""Fully connected networks of any widths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from gendyn_lite.errors import UserError, unknown_name

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "leaky_relu": nn.LeakyReLU}


def downsampled(in_shape: tuple[int, ...], downsample: object) -> tuple[int, ...]:
    """The shape of inputs once they are averaged over squares of side `downsample`.

    Raises:
        UserError: It is no positive whole number, or above 1 and the inputs are no images that have such squares.

    >>> downsampled((3, 33, 32), 2), downsampled((2,), 1)
    ((3, 16, 16), (2,))
    """
    if type(downsample) is not int or downsample < 1 or (downsample > 1 and len(in_shape) != 3):
        raise UserError(f"downsample is {downsample!r}, expected a positive whole number, and above 1 images (C, H, W)")
    if min(in_shape[1:], default=1) < downsample:
        raise UserError(f"downsample is {downsample}, expected at most the side of the images {in_shape}")
    return in_shape if downsample == 1 else (in_shape[0], *(side // downsample for side in in_shape[1:]))


def mlp(
    *,
    in_shape: tuple[int, ...],
    num_classes: int,
    widths: Sequence[int] = (512,),
    activation: str = "relu",
    downsample: int = 1,
) -> nn.Sequential:
    """Flatten, then a linear layer and an activation for each width, then a linear layer to the logits.

    Args:
        in_shape: Shape of one input, any.
        num_classes: Number of logits.
        widths: Units of each hidden layer; empty gives a linear model.
        activation: ``"relu"``, ``"tanh"`` or ``"leaky_relu"`` (slope 0.01).
        downsample: Images are averaged over squares of this side first.

    Raises:
        UserError: A width is no positive whole number, the activation is unknown, or images have no such squares.

    Source: Zhang et al. 2017, appendix A (1x512 and 3x512).

    >>> mlp(in_shape=(2,), num_classes=2, widths=(8, 8), activation="tanh")
    Sequential(
      (flatten): Flatten(start_dim=1, end_dim=-1)
      (fc1): Linear(in_features=2, out_features=8, bias=True)
      (act1): Tanh()
      ...
      (fc3): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    if not isinstance(widths, Sequence) or any(type(width) is not int or width < 1 for width in widths):
        raise UserError(f"widths is {widths!r}, expected positive whole numbers such as [128, 128]")
    network = nn.Sequential()
    shape = downsampled(in_shape, downsample)
    if downsample > 1:
        network.add_module("pool", nn.AvgPool2d(downsample))
    network.add_module("flatten", nn.Flatten())
    sizes = [math.prod(shape), *widths]
    for depth, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        network.add_module(f"fc{depth}", nn.Linear(fan_in, fan_out))
        network.add_module(f"act{depth}", ACTIVATIONS[activation]())
    network.add_module(f"fc{len(sizes)}", nn.Linear(sizes[-1], num_classes))
    return network
