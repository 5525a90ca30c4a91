"""What the measures of lines ask of a network, points and directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError

RANDOM = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU)
RANDOM_OR_BATCH = (*RANDOM, nn.modules.batchnorm._BatchNorm)


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
