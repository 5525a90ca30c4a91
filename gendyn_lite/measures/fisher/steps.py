"""How long the steps of a training are, and a training whose steps are as long as another one's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError


class StepLengths:
    """A gradient hook for `gendyn_lite.train.fit` around another one: it measures each step, and may rescale it.

    A mask makes steps shorter. The control is a training without a mask whose every step is scaled to the length of the
    masked run's step of the same number: a learning rate of its own for each step, so that both cover the same
    distance in each epoch. Its momentum is left alone.

    Args:
        inner: The hook whose steps are measured, such as a `GradientMask`, or None.
        lengths: ‖θ after − θ before‖ of each step to come, by which it is scaled; None leaves steps as they are.

    Attributes:
        taken: The length of each step so far [steps].
        path: Sum of the lengths of the steps of the last whole epoch; 0 before the first.

    Raises:
        UserError: When called: there is no length for a step.

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
        """Between backward and the optimizer's step: the other hook, and where the weights are."""
        if self._lengths is not None and step > len(self._lengths):
            raise UserError(f"there are {len(self._lengths)} step lengths, none for step {step}")
        if self.inner is not None:
            self.inner(model, epoch=epoch, step=step)
        self._before = {name: value.detach().clone() for name, value in _trained(model).items()}

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """The other hook; then the length of the step, and the step made as long as it is to be."""
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
        """The path of the epoch; then the other hook."""
        self.path, self._first = sum(self.taken[self._first :]), len(self.taken)
        if hasattr(self.inner, "epoch_end"):
            self.inner.epoch_end(model, epoch)  # type: ignore[union-attr]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on to the bit: the other hook's, and the steps so far."""
        inner = self.inner.state_dict() if hasattr(self.inner, "state_dict") else {}  # type: ignore[union-attr]
        return {**inner, "taken": list(self.taken), "path": self.path, "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        own = dict(state)
        self.taken, self.path, self._first = list(own.pop("taken")), float(own.pop("path")), int(own.pop("first"))
        if hasattr(self.inner, "load_state_dict"):
            self.inner.load_state_dict(own)  # type: ignore[union-attr]


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
