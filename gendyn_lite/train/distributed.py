"""Training by several processes, each of which takes a share of every batch; the result is that of one process."""

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
    """This process among those that train together. With a single process, every method returns its argument.

    Attributes:
        rank: Number of this process, from 0.
        world: Number of processes.

    >>> ALONE.sum(torch.ones(2)).tolist(), ALONE.broadcast(True)
    ([1.0, 1.0], True)
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes checkpoints and reports rows."""
        return self.rank == 0

    def share(self, tensor: Tensor) -> Tensor:
        """The examples of a batch [b, ...] that this process computes."""
        return tensor if self.world == 1 else tensor[self.rank :: self.world]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes. Its gradient is summed too, since the loss of each process depends on it."""
        return tensor if self.world == 1 else _Sum.apply(tensor)  # type: ignore[return-value]

    def broadcast(self, value: Any) -> Any:
        """The value that the first process passed."""
        values = [value]
        if self.world > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values


ALONE = Ranks()


def joined(device: torch.device) -> Ranks:
    """Join the processes that torchrun started, or reuse an existing process group; without either, `ALONE`.

    A process group that is created here stays until the process exits: leaving it and joining again through the same
    store would be a race.

    Args:
        device: Device of this process; the backend is nccl on GPUs, gloo elsewhere.
    """
    if not dist.is_available() or (not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) < 2):
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_part)
    return Ranks(dist.get_rank(), dist.get_world_size())


def _part() -> None:
    """Leave the process group, if this process is still in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def wrapped(model: nn.Module, ranks: Ranks) -> Iterator[nn.Module]:
    """The module to call for the training forward pass.

    With several processes it is a wrapper of the model that averages gradients and synchronizes batch-norm.

    Raises:
        UserError: There are several processes, and batch-norm has no running statistics or no momentum.
    """
    if ranks.world == 1:
        yield model
        return
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if any(not norm.track_running_stats or norm.momentum is None for norm in norms):
        raise UserError("batch-norm over several processes needs running statistics with a momentum")
    for norm in norms:
        # Only `forward` of this instance is replaced: the module keeps its class, weights and name.
        norm.forward = partial(_synchronized_norm, norm, ranks=ranks)
    try:
        device = next(model.parameters()).device
        devices = [device.index] if device.type == "cuda" else None
        yield nn.parallel.DistributedDataParallel(model, device_ids=devices)
    finally:
        for norm in norms:
            del norm.forward


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes, with its gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Sum.apply(grads[0])  # type: ignore[return-value]


def _synchronized_norm(norm: _BatchNorm, input: Tensor, *, ranks: Ranks) -> Tensor:
    """Batch-norm with the statistics of the whole batch, of which this process has the share `input` [b, C, ...]."""
    x = input  # the parameter is named as in torch's own forward
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
