"""How each layer or operation acts on a function that is linear between knots: affine, with kinks, or a maximum."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair, _single

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
AVERAGES += (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
# These copy or average their inputs, so that no coefficient is negative.
COPIES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, *AVERAGES)
POOLS = (nn.MaxPool1d, nn.MaxPool2d)
KINKS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh)
LAYERS = (*LINEAR, *NORMS, *DROPOUTS, *COPIES, *POOLS, *KINKS)

# Out of place, where the network's are in place: a network that reads what was changed is told by its logits.
IN_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul, "add_": "add"}
ADD = {operator.add, torch.add, "add"}
SUBTRACT = {operator.sub, torch.sub, "sub"}
SCALE = {operator.mul, torch.mul, "mul", operator.truediv, torch.div, "div"}
RESHAPE = {torch.cat, torch.concat, torch.concatenate, operator.getitem}
RESHAPE |= {torch.flatten, torch.reshape, torch.unsqueeze, torch.squeeze, torch.permute, torch.transpose}
RESHAPE |= {"flatten", "view", "reshape", "unsqueeze", "squeeze", "permute", "transpose", "contiguous", "unflatten"}
AVERAGE = {torch.mean, torch.sum, "mean", "sum", F.avg_pool2d, F.adaptive_avg_pool2d, F.avg_pool1d}
WEIGHTED = {F.linear, F.conv1d, F.conv2d, F.conv3d}
NEGATE = {operator.neg, torch.neg, "neg"}
RELU = {torch.relu, F.relu, "relu", "relu_"}


class Affine(NamedTuple):
    """A layer that is affine in the arguments that vary along the line.

    Attributes:
        apply: The layer.
        absolute: Its linear part, with the absolute value of every coefficient.
    """

    apply: Callable[..., Tensor]
    absolute: Callable[..., Tensor]


class Kinks(NamedTuple):
    """An elementwise, piecewise linear function.

    Attributes:
        apply: The function, out of place.
        levels: Inputs at which its slope changes.
        slopes: Lowest and highest slope, for bounds.
    """

    apply: Callable[[Tensor], Tensor]
    levels: tuple[float, ...]
    slopes: tuple[float, float]


class Windows(NamedTuple):
    """The windows over which a maximum is taken, at every knot.

    Attributes:
        entries: All entries of the input at each knot, [k, numel].
        members: Indices of the K entries of each of G windows, int64 [G, K]; smaller windows repeat an entry.
        winner: Index of the largest entry of each window, int64 [k, G].
        shape: Shape of the result at one knot.
    """

    entries: Tensor
    members: Tensor
    winner: Tensor
    shape: tuple[int, ...]

    @property
    def largest(self) -> Tensor:
        """The maximum over each window, [k, *shape]."""
        return self.entries.gather(1, self.winner).view(-1, *self.shape)


class Maximum(NamedTuple):
    """A layer that takes the largest of several entries; `windows` maps its arguments to the entries compared."""

    windows: Callable[..., Windows]


Action = Affine | Kinks | Maximum


class NotPiecewiseLinearError(Exception):
    """A layer is not known to be piecewise linear; the message has its name and the reason."""


def of_module(module: nn.Module) -> Action:
    """Classify a layer of torch.nn in eval mode.

    Raises:
        NotPiecewiseLinearError: It is not known to be piecewise linear.

    >>> of_module(nn.LeakyReLU(0.1)).levels
    (0.0,)
    """
    if isinstance(module, LINEAR):
        return Affine(module, _absolute(module))
    if isinstance(module, NORMS):
        if module.running_var is None:
            raise NotPiecewiseLinearError("uses the statistics of the batch (track_running_stats=False)")
        return Affine(module, _absolute(module))
    if isinstance(module, DROPOUTS):
        return Affine(_same, _same)
    if isinstance(module, COPIES):
        return Affine(module, module)
    if isinstance(module, POOLS):
        return Maximum(partial(pooled, module))
    return _elementwise(module)


def of_function(  # noqa: PLR0911, PLR0912 (a table of kinds)
    target: Any, varying: list[bool], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Action:
    """Classify an operation, given which of its arguments vary along the line.

    Raises:
        NotPiecewiseLinearError: It is not known to be piecewise linear.
    """
    target = IN_PLACE.get(target, target)
    call = (lambda value, *a, **k: getattr(value, target)(*a, **k)) if isinstance(target, str) else target
    if target in RELU:
        return Kinks(torch.relu, (0.0,), (0.0, 1.0))
    if target is F.leaky_relu:
        return _elementwise(nn.LeakyReLU(args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01)))
    if target in ADD | SUBTRACT and not kwargs:
        return Affine(call, partial(_absolute_sum, varying))
    if target in WEIGHTED and varying[0] and varying.count(True) == 1:
        return Affine(call, partial(_absolute_weights, call))
    if target in NEGATE:
        return Affine(call, _same)
    scales = target in SCALE and not kwargs  # such as rounding_mode="floor"
    if scales and varying.count(True) == 1 and (varying[0] or target in {operator.mul, torch.mul}):
        return Affine(call, lambda a, b: call(abs(a), abs(b)))
    if target is F.pad:
        if not math.isfinite(kwargs.get("value", args[3] if len(args) > 3 else None) or 0):
            raise NotPiecewiseLinearError("pads with infinity")  # between two of which nothing can be interpolated
        return Affine(call, _padded)
    if target in RESHAPE | AVERAGE:
        return Affine(call, call)
    if target is F.dropout and not (args[2] if len(args) > 2 else kwargs.get("training", True)):
        return Affine(_same, _same)
    if target is F.max_pool2d:
        return Maximum(_pool_function)
    if target in (torch.maximum, torch.max, "max", "maximum") and varying == [True, True]:
        return Maximum(lambda a, b: along(torch.stack(torch.broadcast_tensors(a, b), dim=-1), -1))
    if target in (torch.amax, "amax"):
        return Maximum(along)
    raise NotPiecewiseLinearError("is not known to be piecewise linear")


def _elementwise(module: nn.Module) -> Kinks:
    """Classify ReLU and similar layers."""
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


def _absolute(module: nn.Module) -> nn.Module:
    """Copy a layer with |W| in place of its weights W, and without bias or running mean.

    >>> layer = nn.utils.parametrizations.orthogonal(nn.Linear(2, 2))  # its weight is computed from another parameter
    >>> bool((_absolute(layer)(torch.ones(1, 2)) - layer.weight.abs().sum(1)).abs().max() < 1e-6)
    True
    """
    layer: Any = copy.deepcopy(module).requires_grad_(False)
    weight = layer.weight
    layer.__class__ = next(kind for kind in (*LINEAR, *NORMS) if isinstance(module, kind))
    layer.bias = None
    if isinstance(module, NORMS):
        layer.running_mean.zero_()
    if weight is not None:
        for held in (layer._buffers, vars(layer)):  # a scale that is not trained
            held.pop("weight", None)
        layer.register_parameter("weight", nn.Parameter(weight.detach().abs(), requires_grad=False))
    return layer


def _absolute_sum(varying: list[bool], *values: Any) -> Tensor:
    """Add two radii; a constant has radius 0, and only its shape matters.

    >>> _absolute_sum([True, False], torch.tensor([[2.0]]), torch.tensor([-5.0, 1.0]))
    tensor([[2., 2.]])
    """
    first, second = (value if own else 0 * value for own, value in zip(varying, values, strict=True))
    return first + second


def _absolute_weights(
    call: Callable[..., Tensor], radius: Tensor, weight: Tensor, bias: Any = None, *args: Any, **settings: Any
) -> Tensor:
    return call(radius, weight.abs(), None, *args, **settings)


def _padded(radius: Tensor, pad: Any, mode: str = "constant", *_: Any, **__: Any) -> Tensor:
    """A border of a constant has no radius."""
    return F.pad(radius, pad, mode)


def _same(value: Tensor, *_: Any, **__: Any) -> Tensor:
    return value


def _pool_function(value: Tensor, *args: Any, **kwargs: Any) -> Windows:
    """Return the windows of `F.max_pool2d`, called with these arguments."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    settings = dict(zip(names, args, strict=False)) | kwargs
    if settings.get("return_indices"):
        raise NotPiecewiseLinearError("returns indices")
    return pooled(nn.MaxPool2d(**settings), value)


def along(value: Tensor, dim: int | tuple[int, ...] = (), keepdim: bool = False) -> Windows:
    """Return windows along some dimensions (not the first), as for maxout and `amax`.

    >>> windows = along(torch.tensor([[[1.0, 3.0], [5.0, 2.0]]]), 2)
    >>> windows.largest.tolist()
    [[3.0, 5.0]]
    >>> along(torch.tensor([[[1.0, 3.0], [5.0, 2.0]]]), (1, 2), keepdim=True).largest.tolist()
    [[[5.0]]]
    """
    size = value.dim()
    dims = sorted({number % size for number in (dim if isinstance(dim, tuple | list) else (dim,))}) or list(range(size))
    if dims[0] == 0:
        raise NotPiecewiseLinearError("takes the largest value of the batch")
    last = range(-len(dims), 0)
    members = torch.arange(value[0].numel(), device=value.device).view(value.shape[1:])
    members = members.movedim([number - 1 for number in dims], list(last)).flatten(-len(dims))
    kept = [1 if number in dims else value.shape[number] for number in range(1, size)]
    shape = tuple(kept) if keepdim else tuple(members.shape[:-1])
    entries, members = value.flatten(1), members.reshape(-1, members.shape[-1])
    best = entries[:, members].argmax(2)
    winner = members.expand(len(entries), -1, -1).gather(2, best.unsqueeze(2)).squeeze(2)
    return Windows(entries, members, winner, shape)


def pooled(pool: nn.MaxPool1d | nn.MaxPool2d, value: Tensor) -> Windows:
    """Return the windows of a max-pooling layer, with its padding, dilation and ceil mode.

    >>> pooled(nn.MaxPool2d(2), torch.arange(16.0).view(1, 1, 4, 4)).largest.tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    if isinstance(pool, nn.MaxPool1d):
        kernel, stride, dilation = ((1, *_single(size)) for size in (pool.kernel_size, pool.stride, pool.dilation))
        flat = nn.MaxPool2d(kernel, stride, (0, *_single(pool.padding)), dilation, ceil_mode=pool.ceil_mode)
        windows = pooled(flat, value.unsqueeze(-2))
        return Windows(windows.entries, windows.members, windows.winner, (windows.shape[0], windows.shape[2]))
    result, winner = F.max_pool2d(
        value, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )
    channels, height, width = value.shape[1:]
    plane = _plane_members(pool, (height, width), tuple(result.shape[2:])).to(value.device)
    offset = torch.arange(channels, device=value.device) * (height * width)
    members = (plane + offset[:, None, None]).flatten(0, 1)
    return Windows(value.flatten(1), members, (winner.flatten(2) + offset[:, None]).flatten(1), tuple(result.shape[1:]))


def _plane_members(pool: nn.MaxPool2d, size: tuple[int, int], out: tuple[int, ...]) -> Tensor:
    """Return the pixels of each window in one channel, int64 [L, K]; windows cut by the border repeat a pixel."""
    kernel, stride, padding, dilation = map(_pair, (pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    places = torch.arange(1, size[0] * size[1] + 1, dtype=torch.float64).view(1, 1, *size)
    needed = [(out[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    behind = [needed[i] - size[i] - padding[i] for i in (0, 1)]
    places = F.pad(places, (padding[1], behind[1], padding[0], behind[0]))
    table = F.unfold(places, kernel, dilation=dilation, stride=stride)[0].T.long() - 1
    first = table.amax(1, keepdim=True)
    return torch.where(table < 0, first, table)
