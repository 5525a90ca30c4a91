"""What one step on an example really does to the other losses, beside what the gradients predict."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures._per_example import Loss, cross_entropy
from gendyn_lite.measures._per_example_checks import check_eps, check_examples, check_model, usable
from gendyn_lite.measures.stiffness.gram import gradient_gram


class LossChange(NamedTuple):
    """Changes of every example's loss by a step on one: predicted −ε g_i·g_j and actual, float64 [steps, n]."""

    predicted: Tensor
    actual: Tensor

    @property
    def slope(self) -> float:
        """Least-squares slope of actual against predicted change, through the origin: 1 for small steps."""
        return float((self.predicted * self.actual).sum() / self.predicted.square().sum())


@torch.inference_mode(False)
def loss_change(
    model: nn.Module, x: Tensor, y: Tensor, *, examples: Sequence[int], eps: float, loss: Loss = cross_entropy
) -> LossChange:
    """Take a step θ − ε g_i on each of some examples, each from the same θ, and see every loss change.

    The steps are taken on a copy in float64: in float32 the change of a loss by a small step is mostly rounding.

    Args:
        model: The network; left as it was.
        x: Inputs [n, ...].
        y: Labels int64 [n].
        examples: Which examples i to take a step on.
        eps: Step size ε.
        loss: Function of (logits, y) that gives the loss of each example.

    Raises:
        UserError: eps is no step size, there are no examples, or one does not exist.

    >>> model = nn.Linear(1, 2, bias=False)
    >>> x, y = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([0, 0, 0])
    >>> found = loss_change(model, x, y, examples=[0], eps=1e-4)
    >>> (found.actual < 0).tolist(), round(found.slope, 3)
    ([[True, True, False]], 1.0)
    """
    check_eps(eps)
    examples = examples.tolist() if isinstance(examples, Tensor) else list(examples)
    if not examples:
        raise UserError("examples is empty: give at least one example to take a step on")
    wrong = [i for i in examples if not isinstance(i, Integral) or not 0 <= int(i) < len(x)]
    if wrong:
        raise UserError(f"example {wrong[0]!r} does not exist: there are {len(x)}, counted from 0")
    check_model(model)
    check_examples(model, x, y)
    twin = copy.deepcopy(model).double()
    inputs, y = usable(x.double() if x.is_floating_point() else x), usable(y)
    gram = gradient_gram(twin, inputs, y, loss=loss)
    assert isinstance(gram, Tensor)
    values = [value for value in twin.parameters() if value.requires_grad]
    with torch.no_grad():
        before = loss(twin(inputs), y)
    rows = []
    for i in examples:
        gradients = torch.autograd.grad(loss(twin(inputs[i : i + 1]), y[i : i + 1]).sum(), values, allow_unused=True)
        with torch.no_grad():
            saved = [value.clone() for value in values]
            for value, gradient in zip(values, gradients, strict=True):
                if gradient is not None:
                    value.sub_(gradient, alpha=eps)
            rows.append(loss(twin(inputs), y) - before)
            for value, old in zip(values, saved, strict=True):
                value.copy_(old)
    return LossChange(-eps * gram[examples], torch.stack(rows))
