"""Probes of chapter 3: influence, the fit of right and wrong labels, and the gradients that a mask would hold back."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.measures import fisher
from gendyn_lite.measures.fisher import StepLengths
from gendyn_lite.train.probes import Probe

EXAMPLES = {"smoke": (5, 20), "colab": (10, 40), "full": (20, 50)}  # numbers of examples stepped on, and watched
FEW = {"resnet18": (3, 12)}  # the same for slow networks
SHARES = (0.25, 0.75)  # shares of the weights kept, for which the gradients of right and wrong labels are split
PART = 500  # examples at a time


def influence_during(config: RunConfig, x: Tensor, y: Tensor, profile: str) -> Probe:
    """Make the influence probe of a run; the step size is the run's initial learning rate.

    The examples that are stepped on, and then the watched ones, are the first in a class-balanced order.
    """
    stepped, watched = FEW.get(config.model, EXAMPLES[profile])
    order = data.balanced_order(y, seed=config.seed)[: stepped + watched]
    first, rest = order[:stepped], order[stepped:]
    return fisher.influence_probe(x[first], y[first], x[rest], y[rest], eps=config.learning_rate)


def by_part(config: RunConfig, x: Tensor, y: Tensor, true: Tensor, profile: str) -> dict[str, Probe]:
    """Make the probes of a run with some wrong labels, which treat right and wrong labels separately.

    Args:
        config: The run.
        x: All training inputs.
        y: The labels that it trains with; those that differ from `true` are wrong.
        true: The labels of the data set.
        profile: The profile, which decides how many examples are stepped on.

    Returns:
        The probes by name:

        - ``fit``: of the examples with a right label, the share predicted as labelled (``right``); of those with a
          wrong label, the shares predicted as labelled (``wrong``) and as the true class (``true_of_wrong``).
        - ``right`` and ``wrong``, for runs without a mask: ``influence`` of steps on such examples, and ``gradient``,
          their mean ‖g‖². Both watch the same inputs.
        - ``below``, for runs without a mask: the share of each part's squared gradients that lies in weights that a
          Fisher mask would hold (``right_25``: with a quarter of the weights kept).
    """
    parts = {"right": (y == true).nonzero()[:, 0], "wrong": (y != true).nonzero()[:, 0]}
    probes: dict[str, Probe] = {"fit": partial(_fit, x=x, y=y, true=true)}
    if config.mask_keep == 1:
        stepped, watched = FEW.get(config.model, EXAMPLES[profile])
        seen = data.balanced_order(y, seed=config.seed)[-watched:]
        for name, part in parts.items():
            own = part[~torch.isin(part, seen)][:stepped]
            measure = fisher.influence_probe(x[own], y[own], x[seen], y[seen], eps=config.learning_rate)
            probes[name] = partial(_two_of, measure)
        probes["below"] = partial(_below, parts={name: (x[part], y[part]) for name, part in parts.items()})
    return probes


def of_steps(hook: StepLengths, model: nn.Module, epoch: int) -> dict[str, float]:
    """Return the share of the weights that move in the next epoch, and the path length of the last epoch."""
    del model, epoch
    return {"kept": round(getattr(hook.inner, "kept", 1.0), 6), "path": hook.path}


def _two_of(measure: Probe, model: nn.Module, epoch: int) -> dict[str, Any]:
    found = measure(model, epoch)
    return {"influence": found["quadratic_true"], "gradient": found["gradient"]}


def _fit(model: nn.Module, epoch: int, *, x: Tensor, y: Tensor, true: Tensor) -> dict[str, float]:
    """Compute the values of the probe ``fit``: see `by_part`."""
    del epoch
    device = next(model.parameters()).device
    with torch.no_grad():
        said = torch.cat([model(part.to(device)).argmax(1).cpu() for part in x.split(PART)])
    given, wrong = (said == y).double(), y != true
    told = {"right": given[~wrong], "wrong": given[wrong], "true_of_wrong": (said == true)[wrong].double()}
    return {name: float(values.mean()) for name, values in told.items() if len(values)}


def _below(model: nn.Module, epoch: int, *, parts: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Compute the values of the probe ``below``: see `by_part`. The mask is that of the whole training set."""
    del epoch
    device = next(model.parameters()).device
    sizes = {name: len(y) for name, (_, y) in parts.items()}
    each = {name: fisher.diagonal(model, x.to(device), y.to(device)) for name, (x, y) in parts.items()}
    total = sum(sizes.values())
    whole = {
        name: torch.stack([size / total * each[part][name] for part, size in sizes.items()]).sum(0)
        for name in next(iter(each.values()))
    }
    found = {}
    for keep in SHARES:
        masks = fisher.largest(whole, keep)
        for part, squares in each.items():
            out = sum(float(value[~masks[name]].sum()) for name, value in squares.items())
            found[f"{part}_{keep:.0%}".rstrip("%")] = out / sum(float(value.sum()) for value in squares.values())
    return found
