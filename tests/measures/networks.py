"""Small networks and examples on which measures are compared with their slow twins."""

from __future__ import annotations

import torch
from torch import nn


def examples(count, shape, classes=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *shape, dtype=torch.float64, generator=generator).to(dtype)
    return x, torch.randint(0, classes, (count,), generator=generator)


def scrambled(model: nn.Module, seed=0) -> nn.Module:
    """The model in float64 and eval mode, with running statistics and scales that are not those of a new network."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name in ("running_mean", "weight", "bias"):
            value = getattr(module, name, None)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm) and value is not None:
                value.data += 0.3 * torch.randn(value.shape, generator=generator)
        if isinstance(getattr(module, "running_var", None), torch.Tensor):
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.double().eval()


class Net(nn.Module):
    """A network made of a function over modules."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


class Centred(nn.Linear):
    """A layer that mixes the examples of its batch."""

    def forward(self, x):
        return super().forward(x - x.mean(0))


class Gain(nn.Module):
    """A linear layer times a parameter without axes."""

    def __init__(self):
        super().__init__()
        self.linear, self.gain = nn.Linear(4, 3), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.gain * self.linear(x)


def convolution(*args, **options):
    """One convolution between the input and the logits."""
    layer = nn.Conv2d(*args, **options)
    size = layer(torch.zeros(1, args[0], 6, 5)).numel()
    return nn.Sequential(layer, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(size, 3))


CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 4},
    "stride": {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    "dilation": {"kernel_size": 2, "dilation": (2, 1), "padding": 1},
    "one-by-one": {"kernel_size": 1, "stride": 2},
    "same": {"kernel_size": (4, 3), "padding": "same", "dilation": (1, 2)},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "no-bias": {"kernel_size": 3, "bias": False},
    "everything": {"kernel_size": (3, 2), "stride": 2, "dilation": (1, 2), "padding": (2, 1), "groups": 2},
}
