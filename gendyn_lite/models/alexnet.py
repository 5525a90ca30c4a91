"""The small AlexNet of the random-label experiments."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.models.checks import require_images


class ResponseNorm(nn.LocalResponseNorm):
    """Local response normalization across 9 channels, x · (1 + 0.001/9 Σ x²)^−0.75, as one 1x1 convolution of x².

    The values are those of `torch.nn.LocalResponseNorm`, which takes four times as long on a CPU: there it was a fourth
    of this network's training step.

    >>> x = torch.arange(20.0).view(1, 5, 2, 2)
    >>> torch.allclose(ResponseNorm(5)(x), nn.LocalResponseNorm(9, alpha=0.001)(x))
    True
    """

    def __init__(self, channels: int) -> None:
        """For inputs with this many channels."""
        # torch divides alpha by the number of channels, TensorFlow does not: 0.001 here is 0.001/9 there.
        super().__init__(9, alpha=0.001, beta=0.75, k=1.0)
        place = torch.arange(channels)
        near = (place[:, None] - place).abs() <= self.size // 2
        self.near: Tensor
        self.register_buffer("near", near[:, :, None, None].float(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """[n, channels, H, W] to the same shape."""
        energy = F.conv2d(input.square(), self.near)
        return input * energy.mul_(self.alpha / self.size).add_(self.k).pow(-self.beta)


def alexnet_small(*, in_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Two blocks of conv 5x5-64, max-pool 3/2 and local response normalization, then fc 384, fc 192, fc classes.

    Convolutions and poolings keep ⌈side/stride⌉ places (28 → 14 → 7). The normalization is the original one of
    TensorFlow's CIFAR-10 network: 9 channels, bias 1, alpha 0.001/9 a channel, beta 0.75.

    Args:
        in_shape: (C, H, W) with sides of at least 4.
        num_classes: Number of logits.

    Raises:
        UserError: The inputs are no images, or too small.

    Source: Zhang et al. 2017, appendix A: 1,387,786 parameters at (3, 28, 28) and 10 classes.

    >>> list(dict(alexnet_small(in_shape=(1, 8, 8), num_classes=10).named_children()))[:4]
    ['conv1', 'relu1', 'pool1', 'norm1']
    """
    channels, height, width = require_images(in_shape, network="alexnet_small", min_side=4)
    flat = 64 * _halved(_halved(height)) * _halved(_halved(width))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, stride=2, padding=1),
            norm1=ResponseNorm(64),
            conv2=nn.Conv2d(64, 64, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, stride=2, padding=1),
            norm2=ResponseNorm(64),
            flatten=nn.Flatten(),
            fc1=nn.Linear(flat, 384),
            relu3=nn.ReLU(),
            fc2=nn.Linear(384, 192),
            relu4=nn.ReLU(),
            fc3=nn.Linear(192, num_classes),
        )
    )


def _halved(side: int) -> int:
    return (side + 1) // 2
