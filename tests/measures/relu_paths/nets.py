"""Networks with gates of every kind, and the slow, obvious twins of the path measures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite.models.cifar import BasicBlock
from tests.measures import networks


class Functional(nn.Module):
    """Gates as functions and methods, in place and not, and one module called twice."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.gate = nn.ReLU(inplace=inplace)
        self.inplace = inplace

    def forward(self, x):
        x = F.relu(self.first(x), inplace=self.inplace)
        x = self.gate(self.second(x))
        x = self.second(x)
        x = x.relu_() if self.inplace else torch.relu(x)
        return self.third(self.gate(self.second(x)))

    def pre_activations(self, x):
        """What each gate reads, by the name it is given."""
        found = {"relu": self.first(x)}
        found["gate"] = self.second(found["relu"].clamp(min=0))
        found["relu#2"] = self.second(found["gate"].clamp(min=0))
        found["gate#2"] = self.second(found["relu#2"].clamp(min=0))
        return found


class Overwriting(nn.Module):
    """Calls gates in place for what they do and not for what they return, and changes their outputs afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = self.first(x)
        F.leaky_relu(x, -0.5, inplace=True)  # a unit that is off is positive afterwards
        x = torch.relu(x - 0.2)
        x += 1
        return self.second(x)


def conv(inplace: bool = False) -> nn.Sequential:
    first = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=inplace), nn.MaxPool2d(2)
    second = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.LeakyReLU(0.1, inplace=inplace)
    return nn.Sequential(*first, nn.Dropout(0.5), *second, nn.Flatten(), nn.Linear(24, 3))


def residual() -> nn.Sequential:
    """Two blocks of our ResNet-18, with and without a projection."""
    blocks = BasicBlock(2, 4, stride=2), BasicBlock(4, 4, stride=1)
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def scrambled(model: nn.Module) -> nn.Module:
    """In float32 and eval mode, with statistics and scales that are not those of a new network."""
    return networks.scrambled(model).float()


def images(count, shape, seed=0, dtype=torch.float32):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_paths(count, units, seed=0, share=0.4):
    return torch.rand(count, units, generator=torch.Generator().manual_seed(seed)) < share


NETS = {  # how to make one, and the shape of its inputs
    "functional": (Functional, (6,)),
    "in-place": (lambda: Functional(inplace=True), (6,)),
    "conv": (conv, (2, 8, 8)),
    "conv, in-place": (lambda: conv(True), (2, 8, 8)),
    "residual": (residual, (2, 8, 8)),
}
LAYOUTS = {
    "whole": lambda p: p,
    "transposed": lambda p: p.T.contiguous().T,
    "cut out": lambda p: torch.cat([p, ~p, p], dim=1)[:, p.shape[1] : 2 * p.shape[1]],
    "every second": lambda p: torch.stack([p, ~p], dim=2)[:, :, 0],
    "rows that are one": lambda p: p[:1].expand(p.shape),
    "units that are one": lambda p: p[:, :1].expand(p.shape),
}


def cosine(a, b):
    """⟨a, b⟩ / (|a||b|) in float64, 0 where a norm is 0."""
    a, b = a.double(), b.double()
    norms = a.norm() * b.norm()
    return float(a @ b / norms) if norms > 0 else 0.0


def cross(now, before):
    """The formula of Fig. 1 as it stands, pair by pair."""
    count = len(now)
    now, before = now.double(), before.double()
    rows = [[cosine(now[i] * now[j], before[i] * before[j]) for j in range(count)] for i in range(count)]
    return torch.tensor(rows, dtype=torch.float64)
