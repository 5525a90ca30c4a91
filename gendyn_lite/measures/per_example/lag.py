"""A warning about batch-norm layers whose running statistics lag behind those of the inputs.

In eval mode such a layer changes the outputs, and so the measures, for a reason other than the weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import _disable_current_modes

LOOKED_AT = 32  # most inputs from which statistics are computed
FEWEST = 8  # fewest inputs
SHIFT = 1.0  # largest squared distance of the means, in units of the running variance, averaged over channels
RATIO = 4.0  # largest ratio of the variances, averaged over channels, either way
REMEDY = "take them anew over the training set first (gendyn_lite.train.probes.reestimated_statistics)"


class LagWarning(UserWarning):
    """The measurement depends on lagging batch-norm statistics, not on the weights only."""


@contextmanager
def lag_is_told(model: nn.Module) -> Iterator[None]:
    """Warn of the first batch-norm layer whose running statistics are far from those of its inputs.

    Running statistics are averages over earlier steps, at which the weights were different. There is no warning for
    layers that were never trained.

    Args:
        model: The network, in eval mode, which is run inside the context.

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
            if first or not isinstance(norm, _BatchNorm):
                return
            with _disable_current_modes():  # this look is no part of what the network computes
                if _lags(norm, args[0]):
                    first.append(f"{name!r} ({type(norm).__name__})")

        for name, norm in model.named_modules():
            if isinstance(norm, _BatchNorm) and not norm.training and _was_trained(norm):
                stack.callback(norm.register_forward_pre_hook(partial(look, name)).remove)
        yield
    if first:
        told = f"the running statistics of {first[0]} lag behind those of these inputs"
        warnings.warn(f"{told}: what is measured tells of the lag as well; {REMEDY}", LagWarning, stacklevel=4)


@contextmanager
def lag_is_wanted() -> Iterator[None]:
    """Silence `LagWarning` where the lag is what is measured.

    >>> with warnings.catch_warnings(record=True) as told, lag_is_wanted():
    ...     warnings.warn("the running statistics lag behind", LagWarning)
    >>> told
    []
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LagWarning)
        yield


def _was_trained(norm: _BatchNorm) -> bool:
    steps = norm.num_batches_tracked
    return norm.running_mean is not None and steps is not None and int(steps) > 0


@torch.no_grad()
def _lags(norm: _BatchNorm, x: Tensor) -> bool:
    """Return whether a layer's running statistics are far from those of its inputs [n, C, ...]."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    if len(x) < FEWEST or x.dim() < 2:
        return False
    found, center = torch.var_mean(x[:LOOKED_AT].to(mean.dtype), dim=[0, *range(2, x.dim())])
    shift = ((center - mean).square() / (variance + norm.eps)).mean()
    ratio = (found.mean() + norm.eps) / (variance.mean() + norm.eps)
    return bool((shift > SHIFT) | (ratio > RATIO) | (ratio < 1 / RATIO))
