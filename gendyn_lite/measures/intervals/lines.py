"""Lines through points, what is asked of them and of a network, and the intervals found on them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError


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


RANDOM_OR_BATCH = (nn.modules.dropout._DropoutNd, nn.RReLU, nn.modules.batchnorm._BatchNorm)


def check_range(low: float, high: float) -> None:
    """Refuse a range that does not contain 0 inside."""
    for name, value, wanted in (("low", low, low < 0), ("high", high, high > 0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not wanted:
            sign = "below" if name == "low" else "above"
            raise UserError(f"{name} is {value!r}, expected a number {sign} 0: the interval is looked for around α = 0")


def check_network(model: nn.Module) -> None:
    """Refuse a network in train mode, or with weights that are not finite."""
    for name, module in model.named_modules():
        if module.training and isinstance(module, RANDOM_OR_BATCH):
            raise UserError(
                f"layer {name!r} ({type(module).__name__}) is in train mode, where the output depends on chance or on "
                "the batch: call model.eval() first"
            )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"weights {name!r} are not finite (NaN or infinity): the network has no classes to follow")


def check_lines(model: nn.Module, x: Tensor, direction: Tensor) -> None:
    """Refuse points and directions that do not match each other or the network."""
    parameter = next(model.parameters(), None)
    dtype = parameter.dtype if parameter is not None else x.dtype
    if dtype not in (torch.float32, torch.float64):
        raise UserError(f"the network computes in {_name(dtype)}, expected float32 or float64: convert it by .float()")
    for name, tensor in (("x", x), ("direction", direction)):
        if not isinstance(tensor, Tensor):
            raise UserError(f"{name} is a {type(tensor).__name__}, expected a tensor [m, *in_shape]")
        if tensor.dtype != dtype:
            raise UserError(f"{name} is {_name(tensor.dtype)}, expected {_name(dtype)} like the network's weights")
        if parameter is not None and tensor.device != parameter.device:
            raise UserError(f"{name} is on {tensor.device}, expected {parameter.device} like the network's weights")
        if tensor.dim() < 2 or len(tensor) == 0:
            raise UserError(f"{name} has shape {tuple(tensor.shape)}, expected [m, *in_shape] with m of at least 1")
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{name} has entries that are not finite (NaN or infinity): drop those lines")
    if x.shape != direction.shape:
        raise UserError(
            f"x has shape {tuple(x.shape)} and direction {tuple(direction.shape)}, expected a direction a point"
        )
    zero = (direction.flatten(1) == 0).all(1).nonzero().squeeze(1).tolist()
    if zero:
        raise UserError(f"direction is zero for lines {zero[:5]} ({len(zero)} of {len(x)}): a line needs a direction")


def logits_at(model: nn.Module, x: Tensor) -> Tensor:
    """The network's logits at x, refused where their shape is wrong or the points do not fit."""
    try:
        logits = model(x)
    except (RuntimeError, ValueError, IndexError) as error:
        first = str(error).strip().split("\n", maxsplit=1)[0]
        raise UserError(f"the network does not take points of shape {tuple(x.shape[1:])}: {first}") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"the network's output has shape {shape}, expected logits [{len(x)}, classes], two classes at least"
        )
    return logits


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


Method = Literal["exact", "certified", "grid"]


@dataclass(frozen=True)
class Intervals:
    """Generalization intervals of m lines, in units of α.

    Attributes:
        lower: Lower end of each, float64 [m], in [low, 0].
        upper: Upper end, float64 [m], in [0, high].
        label: Class at α = 0, int64 [m]: of several with the largest logit the first.
        tied: Whether α = 0 lies on a decision boundary, where several classes share the largest logit: bool [m].
        method: ``"exact"`` (every linear piece), ``"certified"`` (bisection with bounds) or ``"grid"`` (samples, then
            bisection).
        guarantee: What that method guarantees, in a sentence.
        certain_lower: α down to which the class is proved to stay, float64 [m]: `lower` for the exact method, 0 for the
            grid, which proves nothing.
        certain_upper: Likewise upwards.
        looked: Linear pieces followed and segments proved on each line, int64 [m], or None for other methods.
    """

    lower: Tensor
    upper: Tensor
    label: Tensor
    tied: Tensor
    method: Method
    guarantee: str
    certain_lower: Tensor
    certain_upper: Tensor
    looked: Tensor | None = None

    @property
    def exact(self) -> bool:
        """Whether the ends are exact up to rounding and no change of class inside can have been missed."""
        return self.method == "exact"

    @property
    def length(self) -> Tensor:
        """upper - lower, float64 [m]."""
        return self.upper - self.lower

    @property
    def ties(self) -> int:
        """How many lines start on a decision boundary."""
        return int(self.tied.sum())
