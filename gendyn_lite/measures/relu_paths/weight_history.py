"""The history H of a network: its initial weights plus the image functions of every step of SGD."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.passes import Loss, cross_entropy
from gendyn_lite.measures.per_example.unchanged import digests
from gendyn_lite.measures.relu_paths.image_functions import ImageFunctions, image_functions


@dataclass
class Step:
    """The image functions of one step (with step size 1/|B|) and the optimizer's settings at that step."""

    images: Tensor
    functions: ImageFunctions
    rate: float = float("nan")
    momentum: float = 0.0
    weight_decay: float = 0.0


def step_weights(steps: Sequence[Step]) -> tuple[float, list[float]]:
    """Compute the coefficients of the initial weights and of each step's gradient in the last weights: α and c_1 … c_T.

    With momentum μ and weight decay λ, a step is v_t = μ v_{t−1} + g_t + λ w_{t−1}, w_t = w_{t−1} − η_t v_t, where g_t
    is the batch's mean gradient. This is linear in w_0 and the g_t, so w_T = α w_0 + Σ_t c_t g_t, with coefficients
    that depend on the schedule only. They follow backwards from A_T = ∂w_T/∂w_T = 1 and V_T = ∂w_T/∂v_T = 0:

        c_t = V_t − η_t A_t,    V_{t−1} = μ c_t,    A_{t−1} = A_t + λ c_t,    α = A_0.

    For constant η and λ = 0, c_t = −η (1 − μ^{T−t+1}) / (1 − μ). That is −η for the last step and nearly −η/(1 − μ) for
    early ones: an image function keeps acting after its step. Only μ = 0 gives the plain sum of the paper.

    Args:
        steps: The T steps, with their learning rate η_t, momentum μ and weight decay λ.

    Returns:
        α, and the list of c_1 … c_T.

    >>> step_weights([Step(torch.zeros(0), ImageFunctions({}, 0, 1.0), rate=0.5, momentum=0.5)] * 3)
    (1.0, [-0.875, -0.75, -0.5])
    """
    weight, velocity = 1.0, 0.0
    found = []
    for step in reversed(steps):
        coefficient = velocity - step.rate * weight
        velocity = step.momentum * coefficient
        weight += step.weight_decay * coefficient
        found.append(coefficient)
    return weight, found[::-1]


def sgd_settings(optimizer: torch.optim.Optimizer) -> tuple[float, float, float]:
    """Return the learning rate, momentum and weight decay of an optimizer.

    Raises:
        UserError: It is not plain SGD (one setting for all parameters; no Nesterov, dampening or maximizing).

    >>> sgd_settings(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9))
    (0.1, 0.9, 0.0)
    """
    groups = optimizer.param_groups
    settings = {key: [group.get(key, 0.0) for group in groups] for key in ("lr", "momentum", "weight_decay")}
    odd = [key for key in ("nesterov", "dampening", "maximize") if any(group.get(key) for group in groups)]
    if type(optimizer) is not torch.optim.SGD or odd or any(len(set(each)) > 1 for each in settings.values()):
        told = type(optimizer).__name__ + (f" with {', '.join(odd)}" if odd else "")
        wanted = "torch.optim.SGD with one lr, momentum and weight_decay, and no Nesterov or dampening"
        raise UserError(f"the optimizer is {told}: a history follows {wanted}")
    rate, momentum, decay = (float(each[0]) for each in settings.values())
    return rate, momentum, decay


class Batches(Protocol):
    """A source of batches that gives the same batches (x [b, ...], y [b]) of an epoch at every call."""

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the batches of an epoch."""
        ...


class WeightHistory:
    """All image functions of a training run by SGD, from which the weights of any step can be rebuilt.

    For plain SGD, w_T = w_0 + Σ_t Σ_{i∈B_t} f_i^t with f_i^t = −(η_t/|B_t|) ∇ℓ_i(w_{t−1}) (Eq. 4 and 7).

    With momentum and weight decay, the weights are α w_0 + Σ_t c_t g_t, where g_t is the batch's mean gradient.
    `gendyn_lite.measures.relu_paths.weight_history.step_weights` derives the numbers α and c_t.

    To use it as the ``grad_hook`` of `gendyn_lite.train.fit`, pass `batches` and `labels`. In a loop of your own, call
    ``record`` before ``optimizer.step()`` and ``after_step`` after it.

    It keeps the inputs and output gradients of every layer at each step in memory.

    Args:
        model: The network before training.
        batches: The batches of training by epoch (from 1), with the index of each image in place of its label:
            ``batcher(data.with_train_labels(torch.arange(n)), config)``.
        labels: Labels of all images that training uses, int64 [n].
        loss: Loss of each image. Training minimizes its mean over the batch.

    Attributes:
        steps: The recorded steps.

    Raises:
        UserError: Only one of `batches` and `labels` is given.

    Source: Image functions (n.d.), Eq. 4 and 7.

    >>> model, x, y = nn.Linear(2, 2), torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    >>> optimizer, history = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), WeightHistory(model)
    >>> for _ in range(5):
    ...     history.record(model, x, y)
    ...     optimizer.zero_grad()
    ...     nn.functional.cross_entropy(model(x), y).backward()
    ...     optimizer.step()
    ...     history.after_step(model, optimizer)
    >>> max(history.errors(model).values()) < 1e-5
    True
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        batches: Batches | None = None,
        labels: Tensor | None = None,
        loss: Loss = cross_entropy,
    ) -> None:
        if (batches is None) != (labels is None):
            raise UserError("give both batches and labels (as the hook of fit), or neither (for a loop of your own)")
        self.steps: list[Step] = []
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._initial = {name: value.detach().clone() for name, value in trained.items()}
        self._batches, self._labels, self._loss, self._last = batches, labels, loss, digests(model)
        self._epoch, self._iterator, self._open = 0, iter(()), False

    def record(self, model: nn.Module, x: Tensor, y: Tensor, *, images: Tensor | None = None) -> None:
        """Record a step that is about to be taken on the mean loss of a batch.

        Args:
            model: The network before the step.
            x: Images of the batch [b, ...].
            y: Labels [b].
            images: Indices by which `image` finds them, int64 [b]; None for 0 … b − 1.

        Raises:
            UserError: The step before was not closed by ``after_step``, or weights have changed since; or as for
                `image_functions`.
        """
        if self._open:
            raise UserError("the step before was not closed: call after_step(model, optimizer) after optimizer.step()")
        now, since = digests(model), f"step {len(self.steps)} was recorded" if self.steps else "the history was made"
        if moved := [name for name in self._initial if now.get(name) != self._last[name]]:
            raise UserError(f"{moved[0]} has changed since {since}: record every step, from before training on")
        numbers = torch.arange(len(x)) if images is None else images.detach().cpu()
        functions = image_functions(model, x, y, step_size=1 / len(x), loss=self._loss)
        self.steps.append(Step(numbers, functions))
        self._open = True

    def __call__(self, model: nn.Module, *, epoch: int, step: int) -> None:
        """Record a step as the gradient hook of `gendyn_lite.train.fit`."""
        if self._batches is None or self._labels is None:
            raise UserError("a grad_hook needs batches and labels: WeightHistory(model, batches=, labels=)")
        if step != len(self.steps) + 1:
            raise UserError(f"the history begins at step {step}: record from the first step on, without resuming")
        first = epoch != self._epoch
        if first:
            self._epoch, self._iterator = epoch, self._batches.epoch(epoch)
        x, images = next(self._iterator, (None, None))
        if x is None or images is None:
            raise UserError(f"batches has fewer batches in epoch {epoch} than training")
        self.record(model, x, self._labels.to(images.device)[images], images=images)
        if first:
            self._check_gradient(model, epoch, step)

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Close a step: store the learning rate, momentum and weight decay that the optimizer used.

        Raises:
            UserError: It is not plain SGD (one setting for all parameters; no Nesterov, dampening or maximizing), or
                does not hold a parameter of the history.
        """
        held = {id(value) for group in optimizer.param_groups for value in group["params"]}
        for name, value in model.named_parameters():
            if name in self._initial and id(value) not in held:
                raise UserError(f"the optimizer does not hold {name!r}: freeze it first, or add it")
        step = self.steps[-1]
        step.rate, step.momentum, step.weight_decay = sgd_settings(optimizer)
        self._open, self._last = False, digests(model)

    def weights(self, upto: int | None = None) -> dict[str, Tensor]:
        """Rebuild the weights after the first `upto` steps (all by default), in float64 by parameter.

        Raises:
            UserError: There are fewer steps.
        """
        steps = self._first(upto)
        total = {name: step_weights(steps)[0] * value.double() for name, value in self._initial.items()}
        return _add(total, steps, torch.ones_like)

    def image(self, number: int, upto: int | None = None) -> dict[str, Tensor]:
        """Return what one image added to the weights over the first `upto` steps, in float64 by parameter.

        The weights are the sum over all images, plus α w_0.

        Raises:
            UserError: The image was in no batch of these steps.
        """
        steps = self._first(upto)
        if not any((step.images == number).any() for step in steps):
            raise UserError(f"image {number} was in no batch of the {len(steps)} recorded steps")
        zeros = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in self._initial.items()}
        return _add(zeros, steps, lambda images: images == number)

    def errors(self, model: nn.Module, upto: int | None = None) -> dict[str, float]:
        """Return the relative error ‖rebuilt − w‖ / ‖w‖ of the rebuilt weights by parameter (‖rebuilt‖ if w is 0)."""
        current = dict(model.named_parameters())
        found = {}
        for name, value in self.weights(upto).items():
            expected = current[name].detach().double()
            found[name] = float((value - expected).norm()) / (float(expected.norm()) or 1.0)
        return found

    def _first(self, upto: int | None) -> Sequence[Step]:
        closed = self.steps[:-1] if self._open else self.steps
        if upto is not None and not 0 <= upto <= len(closed):
            raise UserError(f"step {upto} is missing from the history: it has {len(closed)} steps")
        return closed[:upto]

    def _check_gradient(self, model: nn.Module, epoch: int, step: int) -> None:
        """Check that the image functions add up to the batch's gradient: if not, training used other batches."""
        functions = self.steps[-1].functions
        for name, value in functions.total().items():
            grad = model.get_parameter(name).grad
            expected = torch.zeros_like(value) if grad is None else grad.double()
            if float((value + expected).norm()) > 1e-2 * float(expected.norm()) + 1e-12:
                what = f"at step {step} (epoch {epoch}) the images' gradients do not add up to that of {name!r}"
                raise UserError(f"{what}: batches and labels must be those of the training run")


def _add(total: dict[str, Tensor], steps: Sequence[Step], choose: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Add −c_t f_i of the chosen images of every step, in place."""
    for step, coefficient in zip(steps, step_weights(steps)[1], strict=True):
        chosen = choose(step.images).double()
        for name, value in step.functions.total(-coefficient * chosen).items() if chosen.any() else ():
            total[name] += value
    return total
