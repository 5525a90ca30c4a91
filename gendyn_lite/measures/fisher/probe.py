"""Influence during training: a probe for `gendyn_lite.train.fit`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gendyn_lite.measures.fisher.one_step import influence
from gendyn_lite.measures.stiffness.norms import squared_norms

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
