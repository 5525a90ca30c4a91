"""What each layer or operation does to a function that is linear between knots."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals.envelope import Windows, along, pairwise_maximum, pooled
from gendyn_lite.measures.per_example.checks import check_whole


class Maxout(nn.Module):
    """The largest of each `pieces` neighbouring features: [n, units * pieces, ...] to [n, units, ...].

    Args:
        pieces: Linear pieces of one unit, at least 1.

    Raises:
        UserError: `pieces` is no positive whole number, or the features are no multiple of it.

    Source: Goodfellow et al. 2013, Maxout Networks, equation 1.

    >>> import torch
    >>> Maxout(2)(torch.tensor([[1.0, 3.0, -2.0, -5.0]])).tolist()
    [[3.0, -2.0]]
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        check_whole("pieces", pieces)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """[n, units * pieces, ...] to [n, units, ...]."""
        if x.shape[1] % self.pieces:
            raise UserError(f"Maxout got {x.shape[1]} features, expected a multiple of its {self.pieces} pieces")
        return x.unflatten(1, (-1, self.pieces)).amax(2)

    def extra_repr(self) -> str:
        """Shown in the network's listing."""
        return f"pieces={self.pieces}"


LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
AVERAGES += (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
# Copies or averages: every coefficient is at least 0.
COPIES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, *AVERAGES)
POOLS = (nn.MaxPool1d, nn.MaxPool2d)
KINKS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh)
LAYERS = (*LINEAR, *NORMS, *DROPOUTS, *COPIES, *POOLS, *KINKS, Maxout)

ADD = {operator.add, operator.iadd, torch.add, "add", "add_"}
SUBTRACT = {operator.sub, operator.isub, torch.sub, "sub"}
SCALE = {operator.mul, operator.imul, torch.mul, "mul", operator.truediv, torch.div, "div"}
JOIN = {torch.cat, torch.concat, torch.concatenate}
RESHAPE = {torch.flatten, torch.reshape, torch.unsqueeze, torch.squeeze, torch.permute, torch.transpose}
RESHAPE |= {"flatten", "view", "reshape", "unsqueeze", "squeeze", "permute", "transpose", "contiguous", "unflatten"}
AVERAGE = {torch.mean, torch.sum, "mean", "sum", F.avg_pool2d, F.adaptive_avg_pool2d, F.avg_pool1d, F.pad}
WEIGHTED = {F.linear, F.conv1d, F.conv2d, F.conv3d}
NEGATE = {operator.neg, torch.neg, "neg"}
RELU = {torch.relu, F.relu, "relu", "relu_"}


@dataclass(frozen=True)
class Affine:
    """A layer that is affine in its varying arguments.

    Attributes:
        apply: The layer.
        absolute: Its linear part with the absolute value of every coefficient.
    """

    apply: Callable[..., Tensor]
    absolute: Callable[..., Tensor]


@dataclass(frozen=True)
class Kinks:
    """An elementwise function that is linear between levels.

    Attributes:
        apply: The function, out of place.
        levels: Where its slope changes.
        slopes: Lowest and highest slope, for bounds.
    """

    apply: Callable[[Tensor], Tensor]
    levels: tuple[float, ...]
    slopes: tuple[float, float]


@dataclass(frozen=True)
class Maximum:
    """The largest of several entries; `windows` says which, given the arguments."""

    windows: Callable[..., Windows]


Action = Affine | Kinks | Maximum


class NotPiecewiseLinearError(Exception):
    """A layer that is not, or not known to be, piecewise linear: its name and why."""


def of_module(module: nn.Module) -> Action:  # noqa: PLR0911 (a table of kinds)
    """What a layer of torch.nn does, in eval mode.

    Raises:
        NotPiecewiseLinearError: It is not piecewise linear, or not known.

    >>> of_module(nn.LeakyReLU(0.1)).levels
    (0.0,)
    """
    if isinstance(module, LINEAR):
        return Affine(module, _absolute(module))
    if isinstance(module, NORMS):
        if module.running_var is None:
            raise NotPiecewiseLinearError("uses the statistics of the batch (track_running_stats=False)")
        return Affine(module, partial(_absolute_norm, module))
    if isinstance(module, DROPOUTS):
        return Affine(_same, _same)
    if isinstance(module, COPIES):
        return Affine(module, module)
    if isinstance(module, POOLS):
        return Maximum(partial(pooled, module))
    if isinstance(module, Maxout):
        return Maximum(lambda value: along(value.unflatten(1, (-1, module.pieces)), 2))
    return _elementwise(module)


def of_function(  # noqa: PLR0911 (a table of kinds)
    target: Any, varying: list[bool], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Action:
    """What an operation does whose arguments vary along the line where `varying` says so.

    Raises:
        NotPiecewiseLinearError: It is not piecewise linear, or not known.
    """
    call = (lambda value, *a, **k: getattr(value, target)(*a, **k)) if isinstance(target, str) else target
    if target in RELU:
        return Kinks(torch.relu, (0.0,), (0.0, 1.0))
    if target is F.leaky_relu:
        return _elementwise(nn.LeakyReLU(args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01)))
    if target in ADD | SUBTRACT and "alpha" not in kwargs:
        return Affine(call, _absolute_sum)
    if target in WEIGHTED and varying[0] and varying.count(True) == 1:
        return Affine(call, partial(_absolute_weights, call))
    if target in JOIN:
        return Affine(call, call)
    if target in NEGATE:
        return Affine(call, _same)
    if target in SCALE and varying.count(True) == 1 and (varying[0] or target in {operator.mul, torch.mul}):
        return Affine(call, lambda a, b: call(abs(a), abs(b)))
    if target in RESHAPE | AVERAGE or target is operator.getitem:
        return Affine(call, call)
    if target is F.dropout and not (args[2] if len(args) > 2 else kwargs.get("training", True)):
        return Affine(_same, _same)
    if target is F.max_pool2d:
        return Maximum(_pool_function)
    if target in (torch.maximum, torch.max, "max", "maximum") and varying == [True, True]:
        return Maximum(pairwise_maximum)
    if target in (torch.amax, "amax"):
        return Maximum(along)
    raise NotPiecewiseLinearError("is not known to be piecewise linear")


def _elementwise(module: nn.Module) -> Kinks:
    """ReLU and its relatives."""
    if isinstance(module, nn.ReLU):
        return Kinks(torch.relu, (0.0,), (0.0, 1.0))
    if isinstance(module, nn.LeakyReLU):
        slope = module.negative_slope
        return Kinks(partial(F.leaky_relu, negative_slope=slope), (0.0,), (min(slope, 1.0), max(slope, 1.0)))
    if isinstance(module, nn.PReLU):
        weight = module.weight.detach()
        low, high = float(weight.min()), float(weight.max())
        return Kinks(partial(F.prelu, weight=weight), (0.0,), (min(low, 1.0), max(high, 1.0)))
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        bounds = (float(module.min_val), float(module.max_val))
        return Kinks(partial(torch.clamp, min=bounds[0], max=bounds[1]), bounds, (0.0, 1.0))
    raise NotPiecewiseLinearError("is not piecewise linear")


def _absolute(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """|W| of a linear or convolutional layer, without bias."""
    weight = module.weight.detach().abs()  # type: ignore[operator, union-attr]
    if isinstance(module, nn.Linear):
        return partial(F.linear, weight=weight)
    convolve: Callable[..., Tensor] = module._conv_forward  # type: ignore[assignment] (handles the padding mode)
    return lambda radius: convolve(radius, weight, None)


def _absolute_norm(module: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, radius: Tensor) -> Tensor:
    """|scale| of batch-norm in eval mode."""
    assert module.running_var is not None
    scale = torch.rsqrt(module.running_var + module.eps)
    if module.weight is not None:
        scale = scale * module.weight.detach().abs()
    return radius * scale.view(1, -1, *(1,) * (radius.dim() - 2))


def _absolute_sum(a: Any, b: Any) -> Tensor:
    """A constant adds nothing to a radius."""
    parts = [part for part in (a, b) if isinstance(part, Tensor)]
    return parts[0] + parts[1] if len(parts) == 2 else parts[0]


def _absolute_weights(
    call: Callable[..., Tensor], radius: Tensor, weight: Tensor, bias: Any = None, *args: Any, **settings: Any
) -> Tensor:
    del bias
    return call(radius, weight.abs(), None, *args, **settings)


def _same(value: Tensor, *_: Any, **__: Any) -> Tensor:
    return value


def _pool_function(value: Tensor, *args: Any, **kwargs: Any) -> Windows:
    """F.max_pool2d."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    settings = {**dict(zip(names, args, strict=False)), **kwargs}
    if settings.get("return_indices"):
        raise NotPiecewiseLinearError("returns indices")
    return pooled(nn.MaxPool2d(**settings), value)
