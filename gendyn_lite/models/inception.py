"""The small Inception of the random-label experiments, with and without batch-norm."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from gendyn_lite.models.checks import require_flag, require_images, require_probability

STAGES: tuple[tuple[int, ...], ...] = (  # (a, b): inception module; (c,): downsample module
    *((32, 32), (32, 48), (80,)),
    *((112, 48), (96, 64), (80, 80), (48, 96), (96,)),
    *((176, 160), (176, 160)),
)


class ShiftBatchNorm2d(nn.BatchNorm2d):
    """Batch-norm with a learned shift and no learned scale: its weight is a fixed 1, a buffer and no parameter."""

    def __init__(self, channels: int) -> None:
        """Normalization over `channels` channels of [n, C, H, W]."""
        super().__init__(channels)
        del self.weight
        self.register_buffer("weight", torch.ones(channels), persistent=False)


class Branches(nn.ModuleDict):
    """Several paths over one input [n, C, H, W], concatenated over channels."""

    def forward(self, x: Tensor) -> Tensor:
        """All branches' outputs beside each other: [n, sum of their channels, H', W']."""
        return torch.cat([branch(x) for branch in self.values()], dim=1)


def inception_small(
    *, in_shape: tuple[int, ...], num_classes: int, batch_norm: bool = True, dropout: float = 0.0
) -> nn.Sequential:
    """Conv 3x3-96; three stages of Inception modules with two down-samplings; global average pool; fc.

    An Inception module (a, b) concatenates a 1x1 convolution with a filters and a 3x3 one with b; a downsample module
    (c) concatenates a 3x3/2 convolution with c filters and a 3x3/2 max-pool. With batch-norm each convolution has no
    bias and the norm has a shift and no scale; without it each convolution has a bias: the count is the same.

    Args:
        in_shape: (C, H, W) with sides of at least 4.
        num_classes: Number of logits.
        batch_norm: Whether each convolution is followed by batch-norm.
        dropout: Probability that a feature is dropped before the last layer.

    Raises:
        UserError: The inputs are no images or too small, or an option has a wrong value.

    Source: Zhang et al. 2017, appendix A and figure 3: 1,649,402 parameters at (3, 28, 28) and 10 classes.

    >>> network = inception_small(in_shape=(1, 8, 8), num_classes=10, batch_norm=False)
    >>> network(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    channels, _, _ = require_images(in_shape, network="inception_small", min_side=4)
    norm = require_flag(batch_norm, option="batch_norm")
    share = require_probability(dropout, option="dropout")
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_conv(channels, 96, 3, norm=norm))
    channels = 96
    for number, stage in enumerate(STAGES, start=1):
        if len(stage) == 2:
            layers[f"inception{number}"] = _inception(channels, *stage, norm=norm)
            channels = sum(stage)
        else:
            layers[f"downsample{number}"] = _downsample(channels, *stage, norm=norm)
            channels += stage[0]
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    if share > 0:
        layers["dropout"] = nn.Dropout(share)
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


def _conv(fan_in: int, filters: int, size: int, *, norm: bool, stride: int = 1) -> nn.Sequential:
    """Convolution ('same' padding), batch-norm if asked for, ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(fan_in, filters, size, stride=stride, padding=size // 2, bias=not norm)
    if norm:
        layers["norm"] = ShiftBatchNorm2d(filters)
    layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


def _inception(fan_in: int, ones: int, threes: int, *, norm: bool) -> Branches:
    return Branches({"conv1x1": _conv(fan_in, ones, 1, norm=norm), "conv3x3": _conv(fan_in, threes, 3, norm=norm)})


def _downsample(fan_in: int, filters: int, *, norm: bool) -> Branches:
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return Branches({"conv3x3": _conv(fan_in, filters, 3, norm=norm, stride=2), "pool": pool})
