"""One step of stochastic gradient descent, without synchronizing device and host; its learning rate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError, first_line
from gendyn_lite.train.device import GraphedPass, Precision, out_of_memory
from gendyn_lite.train.distributed import ALONE, Ranks


def learning_rate(config: RunConfig, epoch: int) -> float:
    """The step size used during an epoch.

    - ``"constant"``: learning_rate.
    - ``"exponential"``: learning_rate · decay^(epoch−1).
    - ``"step"``: learning_rate · decay^k, where k of the milestones are epochs finished before this one.
    - ``"cosine"``: learning_rate · (1 + cos(π(epoch−1)/epochs))/2, which would be 0 in the epoch after the last.

    Args:
        config: Its learning_rate, schedule, decay, milestones and epochs are used.
        epoch: The epoch, counted from 1; 0 (before training) gives the first epoch's.

    Returns:
        The step size, at least 0.

    >>> config = RunConfig(experiment="demo", learning_rate=0.1, schedule="step", decay=0.5, milestones=(2, 3))
    >>> [learning_rate(config, epoch) for epoch in range(1, 5)]
    [0.1, 0.1, 0.05, 0.025]
    """
    finished = max(epoch - 1, 0)
    if config.schedule == "exponential":
        return config.learning_rate * config.decay**finished
    if config.schedule == "step":
        return config.learning_rate * config.decay ** sum(milestone <= finished for milestone in config.milestones)
    if config.schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * finished / config.epochs)) / 2
    return config.learning_rate


def make_optimizer(parameters: Iterable[Tensor], config: RunConfig) -> torch.optim.SGD:
    """SGD with the configuration's momentum and weight decay over the parameters that require a gradient.

    The fused kernel walks through memory, so it is used only where no parameter has gaps or overlaps in its own. In
    float16 its momentum starts as zeros: where the first gradients overflow, as is usual, the kernel skips the step and
    would leave a momentum that nobody has written.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    rate, momentum, decay = config.learning_rate, config.momentum, config.weight_decay
    sgd = partial(torch.optim.SGD, trained, lr=rate, momentum=momentum, weight_decay=decay)
    dense = all(torch.empty_like(parameter).stride() == parameter.stride() for parameter in trained)
    try:
        optimizer = sgd(fused=dense)
    except RuntimeError:  # a device or dtype without the fused kernel
        return sgd()
    if dense and config.precision == "float16" and config.momentum:
        for parameter in trained:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


class Step:
    """A step: forward, backward, gradient hook, optimizer.

    Attributes:
        splits: Parts into which a batch is cut; 2 once the memory did not suffice.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        forward: Callable[[Tensor], Tensor] | None = None,
        *,
        grad_hook: Callable[..., Any] | None = None,
        ranks: Ranks = ALONE,
        graph: bool = False,
    ) -> None:
        """A step of `model`; `forward` is what runs it (a distributed wrapper), the model by default.

        With `graph` the pass is captured in a CUDA graph: see `gendyn_lite.train.device.repeatable`.
        """
        self.splits = 1
        self._model, self._optimizer, self._precision = model, optimizer, precision
        self._forward = model if forward is None else forward
        self._ranks = ranks
        # In a graph the optimizer is part of the pass, unless something comes between or it waits for the host.
        between = grad_hook is not None or precision.scaler.is_enabled()
        self._takes_steps = graph and not between and bool(optimizer.defaults["fused"])
        if self._takes_steps:
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)
        graphed = optimizer if self._takes_steps else None
        self._whole = GraphedPass(model, self._backward, graphed) if graph else self._backward
        self._hook, self._after_step = grad_hook, getattr(grad_hook, "after_step", None)
        self._shapes = [(name, parameter, parameter.shape) for name, parameter in model.named_parameters()]

    def set_rate(self, rate: float) -> None:
        """Take steps of another learning rate from now on."""
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def __call__(self, x: Tensor, y: Tensor, *, epoch: int, step: int) -> Tensor:
        """Train on a batch.

        Args:
            x: Inputs [b, *in_shape].
            y: Labels, int64 [b].
            epoch: The epoch, counted from 1, for the gradient hook.
            step: The step, counted from 1, for the gradient hook.

        Returns:
            The mean loss of the batch before the step, 0-dimensional, on the device.
        """
        loss = self._gradients(x, y)
        scaler, optimizer = self._precision.scaler, self._optimizer
        if self._takes_steps and self.splits == 1:
            return loss
        if self._hook is not None:
            scaler.unscale_(optimizer)
            self._call_hook(self._hook, epoch, step)
        scaler.step(optimizer)
        scaler.update()
        if self._after_step is not None:
            self._after_step(self._model, optimizer)
        optimizer.zero_grad(set_to_none=True)
        return loss

    def _gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """Leave the gradient of the batch's mean loss in the parameters; on lack of memory once in two halves."""
        if self.splits > 1:
            return self._in_parts(x, y)
        try:
            return self._whole(x, y)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            advice = "choose batch_size or train_size so that no batch of the epoch has a single example"
            raise UserError(f"batch-norm cannot normalize a batch of {len(y)}: {advice}") from error
        except RuntimeError as error:
            if not out_of_memory(error) or self._ranks.world > 1:
                raise
            reason = first_line(error)
        # Outside the except clause: the traceback would keep the activations alive.
        self._halve(len(y), reason)
        return self._in_parts(x, y)

    def _backward(self, x: Tensor, y: Tensor, share: float = 1.0) -> Tensor:
        """Forward and backward of a batch, of a part of it by its share, or of this process's examples of it."""
        with self._precision.autocast():
            if self._ranks.world > 1:  # the mean over processes is the batch's mean loss, also for unequal shares
                logits = self._forward(self._ranks.share(x))
                loss = F.cross_entropy(logits, self._ranks.share(y), reduction="sum") * (self._ranks.world / len(y))
            else:
                loss = F.cross_entropy(self._forward(x), y)
            if share < 1:
                loss = loss * share
        self._precision.scaler.scale(loss).backward()
        return loss.detach()

    def _in_parts(self, x: Tensor, y: Tensor) -> Tensor:
        """The same gradient, accumulated over the parts of a batch."""
        parts = zip(x.chunk(self.splits), y.chunk(self.splits), strict=True)
        return torch.stack([self._backward(part, labels, len(labels) / len(y)) for part, labels in parts]).sum()

    def _halve(self, batch: int, reason: str) -> None:
        if any(isinstance(module, _BatchNorm) and module.training for module in self._model.modules()):
            why = f"({reason}), and cutting them would change batch-norm's statistics and so the numbers"
            advice = "lower batch_size, or use a smaller network or precision"
            raise UserError(f"out of memory with batches of {batch} {why}: {advice}")
        self._optimizer.zero_grad(set_to_none=True)
        self.splits = 2
        said = f"out of memory: batches of {batch} are now computed in two halves (the same gradient, slower)"
        warnings.warn(said, stacklevel=2)

    def _call_hook(self, hook: Callable[..., Any], epoch: int, step: int) -> None:
        """Call the gradient hook; weights and gradients must keep their shapes, and gradients get their layout back."""
        hook(self._model, epoch=epoch, step=step)  # torch itself refuses a gradient of another shape
        for name, parameter, shape in self._shapes:
            grad = parameter.grad
            found = parameter.shape if grad is None else grad.shape
            if shape != parameter.shape or shape != found:
                shapes = f"a gradient of shape {tuple(found)}, expected {tuple(shape)}"
                raise UserError(f"grad_hook {hook_name(hook)} changed shapes: {name} has {shapes}")
            if grad is not None and grad.stride() != parameter.stride():
                parameter.grad = laid_out_as(parameter, grad)


def laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A gradient or momentum on the parameter's device and, if it has its shape, in its memory layout.

    Fused optimizers walk through memory, not through indices. One whose layout differs from that of its weights, as a
    contiguous one does from channels-last weights, would silently be added to the wrong ones.
    """
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def hook_name(hook: object) -> str:
    """The name by which messages call a hook."""
    return getattr(hook, "__name__", type(hook).__name__)
