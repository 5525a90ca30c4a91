"""Influence during training (a probe for `gendyn_lite.train.fit`) and over step sizes (Theorem 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.fisher.one_step import influence
from gendyn_lite.measures.stiffness.matrices import squared_norms

Probe = Callable[[nn.Module, int], dict[str, float]]


def influence_probe(x: Tensor, y: Tensor, x_eval: Tensor, y_eval: Tensor, *, eps: float) -> Probe:
    """A probe that records the mean influence of a step on the given examples at each evaluated epoch.

    Its values are ``kl``, ``quadratic_true``, ``quadratic_empirical``, ``quadratic_diagonal``: means over examples and
    watched inputs, divided by ½ε² so that they do not depend on the step size while it is small; ``median`` is the
    median over examples of ``quadratic_true``, which a few large gradients do not rule; ``gradient`` the mean ‖g‖².

    Args:
        x: Examples [n, ...] to step on, as the network takes them.
        y: Their labels, as trained with.
        x_eval: Inputs whose predictions are watched.
        y_eval: Their labels, as trained with.
        eps: Step size ε.

    Source:
        Jiang, Fig. 1 and 2 (a).

    >>> probe = influence_probe(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), torch.tensor([0, 1]), eps=1e-3)
    >>> sorted(probe(nn.Linear(2, 2), 0))
    ['gradient', 'kl', 'median', 'quadratic_diagonal', 'quadratic_empirical', 'quadratic_true']
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        del epoch
        device = next(model.parameters()).device
        given = [part.to(device) for part in (x, y, x_eval, y_eval)]
        found = influence(model, given[0], given[1], given[2], y_eval=given[3], eps=eps).means()
        scaled = {name: value / (eps**2 / 2) for name, value in found.items()}
        row = {name: float(value.mean()) for name, value in scaled.items()}
        row["median"] = float(torch.median(scaled["quadratic_true"]))
        row["gradient"] = float(squared_norms(model, given[0], given[1]).mean())
        return row

    return probe


class Remainder(NamedTuple):
    """KL and quadratic form over step sizes, float64.

    Attributes:
        eps: Step sizes, [steps].
        kl: Mean KL over the watched inputs, [steps, n].
        quadratic: ½ε² gᵀFg with the true Fisher information, [steps, n].
    """

    eps: Tensor
    kl: Tensor
    quadratic: Tensor

    @property
    def gap(self) -> Tensor:
        """|KL − ½ε² gᵀFg|, [steps, n]."""
        return (self.kl - self.quadratic).abs()

    @property
    def slopes(self) -> Tensor:
        """Least-squares slope of log gap against log ε for each example, [n]; 3 by Theorem 1."""
        x = self.eps.log()
        x = (x - x.mean())[:, None]
        y = self.gap.log()
        return (x * (y - y.mean(0))).sum(0) / x.square().sum()


def remainder(model: nn.Module, x: Tensor, y: Tensor, x_eval: Tensor, *, eps: Sequence[float]) -> Remainder:
    """KL and quadratic form of one example's step for several step sizes, in float64.

    A ReLU network is smooth only while no unit changes its side; with steps small enough that none does, the slope is 3
    there too.

    Args:
        model: The network, in eval mode.
        x: Examples [n, ...] to step on.
        y: Their labels.
        x_eval: Inputs whose predictions are watched.
        eps: At least two step sizes.

    Source:
        Jiang, Theorem 1 (Eq. 4).

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    >>> x = torch.linspace(-1, 1, 15).view(5, 3)
    >>> found = remainder(model, x[:2], torch.tensor([0, 1]), x, eps=[0.01, 0.003, 0.001])
    >>> found.gap.shape, bool((found.slopes - 3).abs().max() < 0.5)
    (torch.Size([3, 2]), True)
    """
    if len(eps) < 2:
        raise UserError(f"eps has {len(eps)} step sizes, expected at least 2")
    parts = [influence(model, x, y, x_eval, eps=float(each)).means() for each in eps]
    return Remainder(
        torch.tensor(list(eps), dtype=torch.float64),
        torch.stack([part["kl"] for part in parts]),
        torch.stack([part["quadratic_true"] for part in parts]),
    )
