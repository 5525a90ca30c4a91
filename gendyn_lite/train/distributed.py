"""The same run over several processes: each takes a share of every batch."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gendyn_lite.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone, every operation is the identity.

    >>> ALONE.sum(torch.ones(2)).tolist(), ALONE.broadcast(True)
    ([1.0, 1.0], True)
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes checkpoints and reports."""
        return self.rank == 0

    def share(self, tensor: Tensor) -> Tensor:
        """This process's examples of a batch [b, ...]."""
        return tensor if self.world == 1 else tensor[self.rank :: self.world]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes; so is its gradient, since every process's loss depends on it."""
        return tensor if self.world == 1 else _Sum.apply(tensor)  # type: ignore[return-value]

    def broadcast(self, value: Any) -> Any:
        """The first process's value, for all."""
        values = [value]
        if self.world > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values


ALONE = Ranks()


def joined(device: torch.device) -> Ranks:
    """This process among those that torchrun started, or that have been joined before; else this one alone.

    Processes are joined once and stay so: to part and to join again through the same store is a race.

    Args:
        device: Where this process trains: gloo on a CPU, nccl on GPUs.
    """
    if not dist.is_available() or (not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) < 2):
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_part)
    return Ranks(dist.get_rank(), dist.get_world_size())


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def wrapped(model: nn.Module, ranks: Ranks) -> Iterator[nn.Module]:
    """What runs the training forward pass: the model, or around it the exchange of gradients and batch statistics."""
    if ranks.world == 1:
        yield model
        return
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if any(not norm.track_running_stats or norm.momentum is None for norm in norms):
        raise UserError("batch-norm over several processes needs running statistics with a momentum")
    for norm in norms:
        # An attribute of the instance: the module keeps its class, weights and name.
        norm.forward = partial(_synchronized_norm, norm, ranks=ranks)
    try:
        device = next(model.parameters()).device
        devices = [device.index] if device.type == "cuda" else None
        yield nn.parallel.DistributedDataParallel(model, device_ids=devices)
    finally:
        for norm in norms:
            del norm.forward


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Sum.apply(grads[0])  # type: ignore[return-value]


def _synchronized_norm(norm: _BatchNorm, input: Tensor, *, ranks: Ranks) -> Tensor:
    """Batch-norm of the whole batch, of which each process has a share [b, C, ...]."""
    x = input  # the parameter has the name that torch's own has
    if not norm.training:
        return type(norm).forward(norm, x)
    places = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    running_mean, running_var, rate = norm.running_mean, norm.running_var, norm.momentum
    assert running_mean is not None and running_var is not None and rate is not None
    wide = x.to(running_mean.dtype)
    count = ranks.sum(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
    mean = ranks.sum(wide.sum(places)) / count
    centred = wide - mean.view(shape)
    variance = ranks.sum(centred.square().sum(places)) / count
    with torch.no_grad():
        running_mean.lerp_(mean, rate)
        running_var.lerp_(variance * (count / (count - 1)), rate)
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
    out = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.weight is not None:
        out = out * norm.weight.view(shape)
    if norm.bias is not None:
        out = out + norm.bias.view(shape)
    return out.to(x.dtype)
