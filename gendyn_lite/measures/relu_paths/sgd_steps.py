"""Steps of SGD with momentum and weight decay, as a weighting of the gradients that were taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.relu_paths.image_functions import ImageFunctions


@dataclass
class Step:
    """The image functions of one step (with step size 1/|B|) and how the optimizer took it."""

    images: Tensor
    functions: ImageFunctions
    rate: float = float("nan")
    momentum: float = 0.0
    weight_decay: float = 0.0


def step_weights(steps: Sequence[Step]) -> tuple[float, list[float]]:
    """How much the initial weights and each step's gradient count in the last weights: α and c_1 … c_T.

    With momentum μ and weight decay λ, a step is v_t = μ v_{t−1} + g_t + λ w_{t−1}, w_t = w_{t−1} − η_t v_t, with g_t
    the batch's mean gradient. This is linear in w_0 and the g_t, so w_T = α w_0 + Σ_t c_t g_t with numbers that depend
    on the schedule alone. They follow backwards from A_T = ∂w_T/∂w_T = 1 and V_T = ∂w_T/∂v_T = 0:

        c_t = V_t − η_t A_t,    V_{t−1} = μ c_t,    A_{t−1} = A_t + λ c_t,    α = A_0.

    For constant η and λ = 0: c_t = −η (1 − μ^{T−t+1}) / (1 − μ), which is η for the last step and nearly η/(1 − μ) for
    early ones: an image function keeps acting after its step, and only μ = 0 gives the sum of the paper.

    Args:
        steps: The T steps, with their learning rate η_t, momentum μ and weight decay λ.

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
    """Learning rate, momentum and weight decay of an optimizer.

    Raises:
        UserError: It is no plain SGD (one setting for all parameters; no Nesterov, dampening or maximizing).

    >>> sgd_settings(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9))
    (0.1, 0.9, 0.0)
    """
    groups = optimizer.param_groups
    settings = {key: [group.get(key, 0.0) for group in groups] for key in ("lr", "momentum", "weight_decay")}
    odd = [key for key in ("nesterov", "dampening", "maximize") if any(group.get(key) for group in groups)]
    if type(optimizer) is not torch.optim.SGD or odd or any(len(set(each)) > 1 for each in settings.values()):
        told = f" with {', '.join(odd)}" if odd else ""
        raise UserError(
            f"the optimizer is {type(optimizer).__name__}{told}: a history follows torch.optim.SGD with one lr, "
            "momentum and weight_decay, and no Nesterov or dampening"
        )
    rate, momentum, decay = (float(each[0]) for each in settings.values())
    return rate, momentum, decay
