"""Measuring the lengths of training steps, and training with steps of given lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError


class StepLengths:
    """A gradient hook for `gendyn_lite.train.fit` that measures each step, and may rescale it.

    A mask makes steps shorter. The control for this is a training without a mask in which every step is scaled to the
    length of the masked run's step with the same number, so that both runs cover equal distances in each epoch. The
    momentum is not changed.

    Args:
        inner: Another hook that is called too, such as a `GradientMask`, or None.
        lengths: The lengths ‖θ after − θ before‖ to which steps are scaled; None does not scale them.

    Attributes:
        taken: The length of each step so far [steps].
        path: Sum of the step lengths of the last complete epoch; 0 before the first one.

    Raises:
        UserError: When called: there are fewer lengths than steps.

    Source: ours; a control that Jiang's paper lacks.

    >>> model = nn.Linear(2, 2)
    >>> hook, optimizer = StepLengths(lengths=[0.5]), torch.optim.SGD(model.parameters(), lr=0.1)
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> hook(model, epoch=1, step=1)
    >>> optimizer.step()
    >>> hook.after_step(model, optimizer)
    >>> [round(length, 6) for length in hook.taken]
    [0.5]
    """

    def __init__(self, inner: Callable[..., Any] | None = None, *, lengths: Sequence[float] | None = None) -> None:
        self.inner, self.taken, self.path = inner, list[float](), 0.0
        self._lengths, self._before, self._first = lengths, dict[str, Tensor](), 0

    def __call__(self, model: nn.Module, *, epoch: int, step: int) -> None:
        """Call the inner hook and remember the weights, after backward and before the optimizer's step."""
        if self._lengths is not None and step > len(self._lengths):
            raise UserError(f"there are {len(self._lengths)} step lengths, none for step {step}")
        if self.inner is not None:
            self.inner(model, epoch=epoch, step=step)
        self._before = {name: value.detach().clone() for name, value in _trained(model).items()}

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Call the inner hook, measure the length of the step, and rescale it if lengths are given."""
        if hasattr(self.inner, "after_step"):
            self.inner.after_step(model, optimizer)  # type: ignore[union-attr]
        with torch.no_grad():
            moved = {name: value - self._before[name] for name, value in _trained(model).items()}
            length = float(torch.stack([part.double().square().sum() for part in moved.values()]).sum().sqrt())
            if self._lengths is not None and length > 0:
                scale, length = self._lengths[len(self.taken)] / length, self._lengths[len(self.taken)]
                for name, value in _trained(model).items():
                    value.copy_(self._before[name] + scale * moved[name])
        self.taken.append(length)

    def epoch_end(self, model: nn.Module, epoch: int) -> None:
        """Sum the lengths of the epoch's steps, and call the inner hook."""
        self.path, self._first = sum(self.taken[self._first :]), len(self.taken)
        if hasattr(self.inner, "epoch_end"):
            self.inner.epoch_end(model, epoch)  # type: ignore[union-attr]

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to resume to the bit: the inner hook's state, and the steps so far."""
        inner = self.inner.state_dict() if hasattr(self.inner, "state_dict") else {}  # type: ignore[union-attr]
        return {**inner, "taken": list(self.taken), "path": self.path, "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        own = dict(state)
        self.taken, self.path, self._first = list(own.pop("taken")), float(own.pop("path")), int(own.pop("first"))
        if hasattr(self.inner, "load_state_dict"):
            self.inner.load_state_dict(own)  # type: ignore[union-attr]


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
