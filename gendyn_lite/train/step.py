"""One step of stochastic gradient descent, without a word between device and host."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.train.distributed import Ranks
from gendyn_lite.train.graph import GraphedPass
from gendyn_lite.train.guards import GradientShapes
from gendyn_lite.train.precision import Precision


def make_optimizer(parameters: Iterable[Tensor], config: RunConfig) -> torch.optim.SGD:
    """SGD with the configuration's momentum and weight decay over the parameters that require a gradient.

    The fused kernel walks through memory, so it is used only where no parameter has gaps or overlaps in its own.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
    }
    dense = all(torch.empty_like(parameter).stride() == parameter.stride() for parameter in trained)
    try:
        return torch.optim.SGD(trained, **settings, fused=dense)
    except RuntimeError:  # a device or dtype without the fused kernel
        return torch.optim.SGD(trained, **settings)


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
        *,
        forward: Callable[[Tensor], Tensor] | None = None,
        grad_hook: Callable[..., Any] | None = None,
        ranks: Ranks | None = None,
        cuda_graph: bool = False,
    ) -> None:
        """A step of `model`; `forward` is what runs it (a compiled or distributed wrapper), the model by default."""
        self.splits = 1
        self._model, self._optimizer, self._precision = model, optimizer, precision
        self._forward = model if forward is None else forward
        self._ranks = Ranks() if ranks is None else ranks
        self._whole = GraphedPass(model, self._backward) if cuda_graph else self._backward
        self._hook, self._shapes = grad_hook, GradientShapes(model, grad_hook)
        self._after_step = getattr(grad_hook, "after_step", None)

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
        if self._hook is not None:
            scaler.unscale_(optimizer)
            self._call_hook(epoch, step)
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
            raise UserError(
                f"batch-norm cannot normalize a batch of {len(y)}: choose batch_size or train_size so that no batch of "
                "the epoch has a single example"
            ) from error
        except RuntimeError as error:
            if not out_of_memory(error) or self._ranks.world > 1:
                raise
            reason = str(error).strip().splitlines()[0]
        # Outside the except clause: the traceback would keep the activations alive.
        self._halve(len(y), reason)
        return self._in_parts(x, y)

    def _backward(self, x: Tensor, y: Tensor) -> Tensor:
        """Forward and backward of a batch, or of this process's share of it."""
        with self._precision.autocast():
            if self._ranks.world == 1:
                loss = F.cross_entropy(self._forward(x), y)
            else:  # the mean over processes of these losses is the batch's mean loss, also for unequal shares
                logits = self._forward(self._ranks.share(x))
                loss = F.cross_entropy(logits, self._ranks.share(y), reduction="sum") * (self._ranks.world / len(y))
        self._precision.scaler.scale(loss).backward()
        return loss.detach()

    def _in_parts(self, x: Tensor, y: Tensor) -> Tensor:
        """The same gradient, accumulated over the parts of a batch."""
        total = torch.zeros((), device=y.device)
        try:
            for x_part, y_part in zip(x.chunk(self.splits), y.chunk(self.splits), strict=True):
                with self._precision.autocast():
                    loss = F.cross_entropy(self._forward(x_part), y_part) * (len(y_part) / len(y))
                self._precision.scaler.scale(loss).backward()
                total += loss.detach()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise UserError(f"out of memory even with batches of {len(y)} cut in two: lower batch_size") from error
        return total

    def _halve(self, batch: int, reason: str) -> None:
        if any(isinstance(module, _BatchNorm) and module.training for module in self._model.modules()):
            raise UserError(
                f"out of memory with batches of {batch} ({reason}), and cutting them would change batch-norm's "
                "statistics and so the numbers: lower batch_size, or use a smaller network or precision"
            )
        self._optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.splits = 2
        warnings.warn(
            f"out of memory: batches of {batch} are now computed in two halves (the same gradient, slower)",
            stacklevel=2,
        )

    def _call_hook(self, epoch: int, step: int) -> None:
        assert self._hook is not None
        try:
            self._hook(self._model, epoch=epoch, step=step)
        except RuntimeError as error:
            if re.search(r"assign(ed)?( a)? grad", str(error)):  # torch's own refusal of a gradient of another shape
                raise self._shapes.error(str(error)) from error
            raise
        self._shapes.check()


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the GPU's or the host's memory did not suffice.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), out_of_memory(RuntimeError("shape"))
    (True, False)
    """
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
