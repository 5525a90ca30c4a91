"""The lines of one call: points, directions, classes and the range of α."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lines:
    """Lines x + α d.

    Attributes:
        x: Origins, [m, *in_shape].
        direction: [m, *in_shape].
        label: Class at α = 0, int64 [m].
        span: Lowest and highest α.
    """

    x: Tensor
    direction: Tensor
    label: Tensor
    span: tuple[float, float]

    def __len__(self) -> int:
        """Number of lines."""
        return len(self.x)

    def parts(self, size: int) -> Iterator[Lines]:
        """The lines, at most so many at a time."""
        for part in chunks(len(self), size):
            yield replace(self, x=self.x[part], direction=self.direction[part], label=self.label[part])

    def points(self, line: Tensor, alpha: Tensor) -> Tensor:
        """Points on lines: [n, *in_shape] for n lines and places."""
        weight = alpha.to(self.x.dtype).view(-1, *(1,) * (self.x.dim() - 1))
        return torch.addcmul(self.x[line], weight, self.direction[line])

    @property
    def limits(self) -> Tensor:
        """The ends of the range for each line, float64 [m, 2]."""
        return torch.tensor(self.span, dtype=torch.float64, device=self.x.device).expand(len(self), 2)


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices that cover `count` in parts of at most `size`.

    >>> list(chunks(3, 2))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    return (slice(start, start + size) for start in range(0, count, size))
