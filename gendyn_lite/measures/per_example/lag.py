"""Batch-norm whose running statistics are not those of the inputs: in eval mode they, not the weights, are measured."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

LOOKED_AT = 32  # inputs of a batch; a statistic is taken from as few
FEWEST = 8
# Of the squared distance of the means in running variances, averaged over channels, and of the ratio of the variances.
SHIFT, RATIO = 1.0, 4.0
REMEDY = "take them anew over the training set first (gendyn_lite.train.probes.reestimated_statistics)"


class LagWarning(UserWarning):
    """What is measured tells of statistics that lag, as well as of the weights."""


@contextmanager
def lag_is_told(model: nn.Module) -> Iterator[None]:
    """Warn of the first batch-norm layer whose running statistics are far from those of what passes through it.

    Running statistics are averages over earlier steps, when the weights were others. A network that was never trained
    has none of its own yet, and is left alone.

    Args:
        model: The network, in eval mode, which is run inside.

    >>> norm = nn.BatchNorm1d(2).train()
    >>> _ = norm(torch.randn(16, 2))
    >>> with warnings.catch_warnings(record=True) as told, lag_is_told(norm.eval()):
    ...     _ = norm(100 + torch.randn(16, 2))
    >>> str(told[0].message).split(":")[0]
    "the running statistics of '' (BatchNorm1d) lag behind those of these inputs"
    """
    with ExitStack() as stack:
        first: list[str] = []

        def look(name: str, norm: nn.Module, args: tuple[Any, ...]) -> None:
            if not first and isinstance(norm, _BatchNorm) and _lags(norm, args[0]):
                first.append(f"{name!r} ({type(norm).__name__})")

        for name, norm in model.named_modules():
            if isinstance(norm, _BatchNorm) and not norm.training and _was_trained(norm):
                stack.callback(norm.register_forward_pre_hook(partial(look, name)).remove)
        yield
    if first:
        told = f"the running statistics of {first[0]} lag behind those of these inputs"
        warnings.warn(f"{told}: what is measured tells of the lag as well; {REMEDY}", LagWarning, stacklevel=4)


def _was_trained(norm: _BatchNorm) -> bool:
    steps = norm.num_batches_tracked
    return norm.running_mean is not None and steps is not None and int(steps) > 0


@torch.no_grad()
def _lags(norm: _BatchNorm, x: Tensor) -> bool:
    """Whether a layer's running statistics are far from those of its inputs [n, C, ...]."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    if len(x) < FEWEST or x.dim() < 2:
        return False
    found, center = torch.var_mean(x[:LOOKED_AT].to(mean.dtype), dim=[0, *range(2, x.dim())])
    shift = ((center - mean).square() / (variance + norm.eps)).mean()
    ratio = (found.mean() + norm.eps) / (variance.mean() + norm.eps)
    return bool((shift > SHIFT) | (ratio > RATIO) | (ratio < 1 / RATIO))
