"""ResNet-18 for 32x32 images."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from gendyn_lite.models.checks import downsampled, require_images


class Add(nn.Module):
    """The sum of two tensors, out of place: a module, so that a residual sum can be hooked."""

    def forward(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Both [n, C, H, W]."""
        return torch.add(residual, shortcut)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch-norm around a shortcut, which is a 1x1 convolution where shapes differ."""

    def __init__(self, fan_in: int, filters: int, *, stride: int) -> None:
        """A block from `fan_in` to `filters` channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, filters, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or fan_in != filters:
            projection = nn.Conv2d(fan_in, filters, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=projection, norm=nn.BatchNorm2d(filters)))
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[n, fan_in, H, W] to [n, filters, H/stride, W/stride]."""
        residual = self.relu1(self.norm1(self.conv1(x)))
        residual = self.norm2(self.conv2(residual))
        return self.relu2(self.add(residual, self.shortcut(x)))


def resnet18(*, in_shape: tuple[int, ...], num_classes: int, downsample: int = 1) -> nn.Sequential:
    """ResNet-18 with a 3x3 stem and no first pooling, as is usual for CIFAR.

    Args:
        in_shape: (C, H, W), with sides of at least 8 once they are averaged.
        num_classes: Number of logits.
        downsample: Images are averaged over squares of this side first.

    Raises:
        UserError: The inputs are no images, too small, or have no such squares.

    Source: He et al. 2015, table 1, with the stem for 32x32 images: 11,173,962 parameters at 3 channels, 10 classes.

    >>> resnet18(in_shape=(3, 32, 32), num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    channels, _, _ = require_images(downsampled(in_shape, downsample), network="resnet18", min_side=8)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if downsample > 1:
        layers["shrink"] = nn.AvgPool2d(downsample)
    layers |= {"conv": nn.Conv2d(channels, 64, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(64), "relu": nn.ReLU()}
    fan_in = 64
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        layers[f"block{stage}a"] = BasicBlock(fan_in, filters, stride=1 if stage == 1 else 2)
        layers[f"block{stage}b"] = BasicBlock(filters, filters, stride=1)
        fan_in = filters
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(fan_in, num_classes)
    return nn.Sequential(layers)
