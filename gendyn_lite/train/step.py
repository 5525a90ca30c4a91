"""One step of stochastic gradient descent, which never waits for the GPU; its optimizer and its learning rate."""

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
    """The learning rate of an epoch.

    - ``"constant"``: learning_rate.
    - ``"exponential"``: learning_rate · decay^(epoch−1).
    - ``"step"``: learning_rate · decay^k, where k is the number of milestones before this epoch.
    - ``"cosine"``: learning_rate · (1 + cos(π(epoch−1)/epochs))/2, which would reach 0 in the epoch after the last.

    Args:
        config: Its learning_rate, schedule, decay, milestones and epochs are used.
        epoch: The epoch, counted from 1; 0, before training, gives the rate of the first.

    Returns:
        The learning rate, at least 0.

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
    """Make the SGD optimizer of a run, with its momentum and weight decay, for parameters that require a gradient.

    The fused kernel reads memory sequentially, so it is used only if no parameter has gaps or overlaps in memory, or is
    complex. In
    float16 the momentum buffers are set to zero beforehand: if the first gradients overflow, which is common, the fused
    kernel skips the step and would leave the buffers uninitialized.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    rate, momentum, decay = config.learning_rate, config.momentum, config.weight_decay
    sgd = partial(torch.optim.SGD, trained, lr=rate, momentum=momentum, weight_decay=decay)
    dense = all(torch.empty_like(value).stride() == value.stride() and not value.is_complex() for value in trained)
    try:
        optimizer = sgd(fused=dense)
    except RuntimeError:  # the device or dtype has no fused kernel
        return sgd()
    if dense and config.precision == "float16" and config.momentum:
        for parameter in trained:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


class Step:
    """Performs training steps: forward pass, backward pass, gradient hook, optimizer step.

    Attributes:
        splits: Number of parts that a batch is computed in: 1, or 2 after the memory has run out once.
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
        """Prepare the steps.

        Args:
            model: The network.
            optimizer: Its optimizer.
            precision: Precision of the forward and backward pass.
            forward: Called instead of the model to compute logits, as a distributed wrapper; by default the model.
            grad_hook: As for `gendyn_lite.train.fit`.
            ranks: This process among those that train together.
            graph: Whether to capture the pass as a CUDA graph; see `gendyn_lite.train.device.repeatable`.
        """
        self.splits = 1
        optimizer.zero_grad(set_to_none=True)  # the network may come with gradients, which the first step would add
        self._model, self._optimizer, self._precision = model, optimizer, precision
        self._forward = model if forward is None else forward
        self._ranks = ranks
        # The optimizer step is part of the graph, unless a hook or the gradient scaler has to act before it.
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
        """Set the learning rate of the following steps."""
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def __call__(self, x: Tensor, y: Tensor, *, epoch: int, step: int) -> Tensor:
        """Take one step on a batch.

        Args:
            x: Inputs [b, *in_shape].
            y: Labels, int64 [b].
            epoch: The epoch, counted from 1; passed to the gradient hook.
            step: The step, counted from 1; passed to the gradient hook.

        Returns:
            The mean loss of the batch before the step (nats), a tensor [] on the device.

        Raises:
            UserError: The memory does not suffice and the batch cannot be split, batch-norm got a single example, or
                the hook changed shapes.
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
        """Compute loss and gradients of a batch; if the memory runs out, in two halves from now on."""
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
        # Not inside the except clause, where the traceback would keep the activations alive.
        self._halve(len(y), reason)
        return self._in_parts(x, y)

    def _backward(self, x: Tensor, y: Tensor, share: float = 1.0) -> Tensor:
        """Forward and backward pass of a batch, or of a part that is the given `share` of its batch."""
        with self._precision.autocast():
            if self._ranks.world > 1:  # scaled so that the mean over processes is the mean loss, also of unequal shares
                logits = self._forward(self._ranks.share(x))
                loss = F.cross_entropy(logits, self._ranks.share(y), reduction="sum") * (self._ranks.world / len(y))
            else:
                loss = F.cross_entropy(self._forward(x), y)
            if share < 1:
                loss = loss * share
        self._precision.scaler.scale(loss).backward()
        return loss.detach()

    def _in_parts(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the same gradient by accumulating those of the parts of a batch."""
        parts = zip(x.chunk(self.splits), y.chunk(self.splits), strict=True)
        return torch.stack([self._backward(part, labels, len(labels) / len(y)) for part, labels in parts]).sum()

    def _halve(self, batch: int, reason: str) -> None:
        """Compute batches in two halves from now on; refuse if that would change the result."""
        if any(isinstance(module, _BatchNorm) and module.training for module in self._model.modules()):
            why = f"({reason}), and cutting them would change batch-norm's statistics and so the numbers"
            advice = "lower batch_size, or use a smaller network or precision"
            raise UserError(f"out of memory with batches of {batch} {why}: {advice}")
        self._optimizer.zero_grad(set_to_none=True)
        self.splits = 2
        said = f"out of memory: batches of {batch} are now computed in two halves (the same gradient, slower)"
        warnings.warn(said, stacklevel=2)

    def _call_hook(self, hook: Callable[..., Any], epoch: int, step: int) -> None:
        """Call the gradient hook, check that shapes are unchanged, and restore the memory layout of gradients."""
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
    """Copy a gradient or momentum to the parameter's device and, if the shapes agree, into its memory layout.

    Fused optimizers read memory sequentially. A gradient whose layout differs from that of the weights, as a contiguous
    one does from channels-last weights, would silently be added to the wrong weights.
    """
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def hook_name(hook: object) -> str:
    """The name of a hook in error messages."""
    return getattr(hook, "__name__", type(hook).__name__)
