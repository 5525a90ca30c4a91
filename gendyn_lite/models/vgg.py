"""VGG-19 for 32x32 images, with and without batch-norm."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from gendyn_lite.models.checks import require_flag, require_images

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # filters, convolutions before the max-pool


def vgg19(*, in_shape: tuple[int, ...], num_classes: int, batch_norm: bool = True) -> nn.Sequential:
    """Sixteen 3x3 convolutions in five stages with max-pools 2/2, then one linear layer, as is usual for CIFAR.

    Args:
        in_shape: (C, H, W) with sides of at least 32.
        num_classes: Number of logits.
        batch_norm: Whether each convolution (which keeps its bias) is followed by batch-norm.

    Raises:
        UserError: The inputs are no images or too small, or `batch_norm` is neither True nor False.

    Source: Simonyan and Zisserman 2015, table 1, configuration E: 20,040,522 parameters at 3 channels and 10 classes,
    20,029,514 without batch-norm.

    >>> sum(isinstance(layer, nn.Conv2d) for layer in vgg19(in_shape=(3, 32, 32), num_classes=10))
    16
    """
    channels, height, width = require_images(in_shape, network="vgg19", min_side=32)
    norm = require_flag(batch_norm, option="batch_norm")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (filters, depth) in enumerate(STAGES, start=1):
        for number in range(1, depth + 1):
            layers[f"conv{stage}_{number}"] = nn.Conv2d(channels, filters, 3, padding=1)
            if norm:
                layers[f"norm{stage}_{number}"] = nn.BatchNorm2d(filters)
            layers[f"relu{stage}_{number}"] = nn.ReLU()
            channels = filters
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
        height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels * height * width, num_classes)
    return nn.Sequential(layers)
