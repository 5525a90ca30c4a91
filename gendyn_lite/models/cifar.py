"""The convolutional networks for small images: the small AlexNet and Inception, ResNet-18 and VGG-19."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]  # of one input
INCEPTION_STAGES: tuple[tuple[int, ...], ...] = (  # (a, b): inception module; (c,): downsample module
    *((32, 32), (32, 48), (80,)),
    *((112, 48), (96, 64), (80, 80), (48, 96), (96,)),
    *((176, 160), (176, 160)),
)
VGG_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # (filters, number of convolutions) of each stage


class ResponseNorm(nn.LocalResponseNorm):
    """Local response normalization over 9 channels, x · (1 + 0.001/9 Σ x²)^−0.75, computed as a 1x1 convolution of x².

    The result is that of `torch.nn.LocalResponseNorm`, which takes four times as long on a CPU; with it, the
    normalization took a quarter of the network's training step.

    >>> x = torch.arange(20.0).view(1, 5, 2, 2)
    >>> torch.allclose(ResponseNorm(5)(x), nn.LocalResponseNorm(9, alpha=0.001)(x))
    True
    """

    def __init__(self, channels: int) -> None:
        """Prepare the normalization of inputs with this many channels."""
        # torch divides alpha by the 9 channels of the window, TensorFlow does not: 0.001 here is 0.001/9 there.
        super().__init__(9, alpha=0.001, beta=0.75, k=1.0)
        place = torch.arange(channels)
        near = (place[:, None] - place).abs() <= self.size // 2
        self.near: Tensor
        self.register_buffer("near", near[:, :, None, None].float(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize inputs [n, channels, H, W]."""
        energy = F.conv2d(input.square(), self.near)
        return input * energy.mul_(self.alpha / self.size).add_(self.k).pow(-self.beta)


def alexnet_small(
    *, in_shape: Shape, num_classes: int, response_norm: bool = True, more_convolutions: int = 0
) -> nn.Sequential:
    """The small AlexNet: two blocks of convolution, max-pooling and response normalization, then three linear layers.

    Each block has a 5x5 convolution with 64 filters and a 3x3 max-pooling with stride 2; the hidden linear layers have
    384 and 192 units. Poolings turn a side into ⌈side/2⌉ (28 → 14 → 7). The normalization is that of TensorFlow's
    CIFAR-10 network: 9 channels, bias 1, alpha 0.001/9 per channel, beta 0.75.

    Args:
        in_shape: (C, H, W) with sides of at least 4.
        num_classes: Number of logits.
        response_norm: Whether poolings are followed by the normalization. Without it the network is piecewise linear.
        more_convolutions: Number of 3x3 convolutions with 64 filters and a ReLU between the blocks and the linear
            layers. With two the network has six ReLUs.

    Source: Zhang et al. (2017), Appendix A: 1,387,786 parameters at (3, 28, 28) and 10 classes.

    >>> list(dict(alexnet_small(in_shape=(1, 8, 8), num_classes=10).named_children()))[:4]
    ['conv1', 'relu1', 'pool1', 'norm1']
    """
    channels, height, width = in_shape
    flat = 64 * math.ceil(height / 4) * math.ceil(width / 4)
    more: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(3, 3 + more_convolutions):
        more |= {f"conv{number}": nn.Conv2d(64, 64, 3, padding=1), f"relu{number}": nn.ReLU()}
    last = 4 + more_convolutions
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, stride=2, padding=1),
            norm1=ResponseNorm(64) if response_norm else nn.Identity(),
            conv2=nn.Conv2d(64, 64, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, stride=2, padding=1),
            norm2=ResponseNorm(64) if response_norm else nn.Identity(),
            **more,
            flatten=nn.Flatten(),
            fc1=nn.Linear(flat, 384),
            **{f"relu{last - 1}": nn.ReLU()},
            fc2=nn.Linear(384, 192),
            **{f"relu{last}": nn.ReLU()},
            fc3=nn.Linear(192, num_classes),
        )
    )


class ShiftBatchNorm2d(nn.BatchNorm2d):
    """Batch-norm with a learned shift but no learned scale: its weight is a buffer of ones, not a parameter."""

    def __init__(self, channels: int) -> None:
        """Prepare the normalization of inputs [n, channels, H, W]."""
        super().__init__(channels)
        del self.weight
        self.register_buffer("weight", torch.ones(channels), persistent=False)


class Branches(nn.ModuleDict):
    """Several branches that are applied to the same input [n, C, H, W] and concatenated over channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the outputs of all branches: [n, sum of their channels, H', W']."""
        return torch.cat([branch(x) for branch in self.values()], dim=1)


def inception_small(
    *, in_shape: Shape, num_classes: int, batch_norm: bool = True, dropout: float = 0.0
) -> nn.Sequential:
    """The small Inception: a 3x3 convolution, three stages of Inception modules, average pooling and a linear layer.

    An Inception module (a, b) concatenates a 1x1 convolution with a filters and a 3x3 convolution with b filters.
    Stages are separated by downsample modules (c), which concatenate a 3x3 convolution with c filters and a 3x3
    max-pooling, both with stride 2. With batch-norm, convolutions have no bias and the norm has a shift but no scale;
    without it, convolutions have a bias. So the number of parameters is the same.

    Args:
        in_shape: (C, H, W) with sides of at least 4.
        num_classes: Number of logits.
        batch_norm: Whether each convolution is followed by batch-norm.
        dropout: Probability that a feature is dropped before the last layer.

    Source: Zhang et al. (2017), Appendix A and Figure 3: 1,649,402 parameters at (3, 28, 28) and 10 classes.

    >>> network = inception_small(in_shape=(1, 8, 8), num_classes=10, batch_norm=False)
    >>> network(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_conv(in_shape[0], 96, 3, norm=batch_norm))
    channels = 96
    for number, stage in enumerate(INCEPTION_STAGES, start=1):
        if len(stage) == 2:
            ones, threes = (_conv(channels, stage[at], size, norm=batch_norm) for at, size in enumerate((1, 3)))
            layers[f"inception{number}"] = Branches({"conv1x1": ones, "conv3x3": threes})
            channels = sum(stage)
        else:
            threes, pool = _conv(channels, stage[0], 3, norm=batch_norm, stride=2), nn.MaxPool2d(3, 2, padding=1)
            layers[f"downsample{number}"] = Branches({"conv3x3": threes, "pool": pool})
            channels += stage[0]
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    if dropout > 0:
        layers["dropout"] = nn.Dropout(dropout)
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


def _conv(fan_in: int, filters: int, size: int, *, norm: bool, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps height and width (divided by the stride), batch-norm if `norm` is set, and a ReLU."""
    convolution = nn.Conv2d(fan_in, filters, size, stride=stride, padding=size // 2, bias=not norm)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=convolution)
    if norm:
        layers["norm"] = ShiftBatchNorm2d(filters)
    layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class Add(nn.Module):
    """The sum of two tensors as a module, so that residual sums can be hooked."""

    def forward(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Add two tensors [n, C, H, W]."""
        return torch.add(residual, shortcut)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch-norm, and a shortcut around them: a 1x1 convolution if shapes differ."""

    def __init__(self, fan_in: int, filters: int, *, stride: int) -> None:
        """Make a block from `fan_in` to `filters` channels."""
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
        """Map inputs [n, fan_in, H, W] to [n, filters, H/stride, W/stride]."""
        residual = self.relu1(self.norm1(self.conv1(x)))
        residual = self.norm2(self.conv2(residual))
        return self.relu2(self.add(residual, self.shortcut(x)))


def resnet18(*, in_shape: Shape, num_classes: int, downsample: int = 1) -> nn.Sequential:
    """ResNet-18 with a 3x3 stem and without the first pooling, as is usual for CIFAR.

    Args:
        in_shape: (C, H, W), with sides of at least 8 after averaging.
        num_classes: Number of logits.
        downsample: Images are first averaged over squares of this side.

    Source: He et al. (2015), Table 1, with the stem for 32x32 images: 11,173,962 parameters at 3 channels, 10 classes.

    >>> resnet18(in_shape=(3, 32, 32), num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if downsample > 1:
        layers["shrink"] = nn.AvgPool2d(downsample)
    layers["conv"] = nn.Conv2d(in_shape[0], 64, 3, padding=1, bias=False)
    layers |= {"norm": nn.BatchNorm2d(64), "relu": nn.ReLU()}
    fan_in = 64
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        layers[f"block{stage}a"] = BasicBlock(fan_in, filters, stride=1 if stage == 1 else 2)
        layers[f"block{stage}b"] = BasicBlock(filters, filters, stride=1)
        fan_in = filters
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(fan_in, num_classes)
    return nn.Sequential(layers)


def vgg19(*, in_shape: Shape, num_classes: int, batch_norm: bool = True) -> nn.Sequential:
    """VGG-19 with a single linear layer, as is usual for CIFAR: sixteen 3x3 convolutions in five stages.

    Each stage ends with a 2x2 max-pooling.

    Args:
        in_shape: (C, H, W) with sides of at least 32.
        num_classes: Number of logits.
        batch_norm: Whether each convolution (which keeps its bias) is followed by batch-norm.

    Source: Simonyan and Zisserman (2015), Table 1, configuration E: 20,040,522 parameters at 3 channels and 10 classes,
    20,029,514 without batch-norm.

    >>> sum(isinstance(layer, nn.Conv2d) for layer in vgg19(in_shape=(3, 32, 32), num_classes=10))
    16
    """
    channels, height, width = in_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (filters, depth) in enumerate(VGG_STAGES, start=1):
        for number in range(1, depth + 1):
            layers[f"conv{stage}_{number}"] = nn.Conv2d(channels, filters, 3, padding=1)
            if batch_norm:
                layers[f"norm{stage}_{number}"] = nn.BatchNorm2d(filters)
            layers[f"relu{stage}_{number}"] = nn.ReLU()
            channels = filters
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
        height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels * height * width, num_classes)
    return nn.Sequential(layers)
