"""What the runs of chapter 3 measure: influence, the fit of right and of wrong labels, what a mask would leave out."""

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

EXAMPLES = {"smoke": (5, 20), "colab": (10, 40), "full": (20, 50)}  # stepped on, and watched
FEW = {"resnet18": (3, 12)}  # the same of slow networks
SHARES = (0.25, 0.75)  # of the weights kept, at which the gradients of right and wrong labels are split
PART = 500  # examples at a time


def influence_during(config: RunConfig, x: Tensor, y: Tensor, profile: str) -> Probe:
    """The influence probe of a run, at every epoch; the step size is that of the first epoch.

    Examples and watched inputs are the first of a class-balanced order.
    """
    stepped, watched = FEW.get(config.model, EXAMPLES[profile])
    order = data.balanced_order(y, seed=config.seed)[: stepped + watched]
    first, rest = order[:stepped], order[stepped:]
    return fisher.influence_probe(x[first], y[first], x[rest], y[rest], eps=config.learning_rate)


def by_part(config: RunConfig, x: Tensor, y: Tensor, true: Tensor, profile: str) -> dict[str, Probe]:
    """Probes of a run some of whose labels were redrawn, for the examples of either part.

    Args:
        config: The run.
        x: All training inputs.
        y: The labels that it trains with; wrong ones are those that differ from `true`.
        true: The labels of the data set.
        profile: Size, for how many examples are stepped on.

    Returns:
        ``fit``: the share of right and of wrong labels that the network gives, and of the wrong ones' true labels
        (``right``, ``wrong``, ``true_of_wrong``). For runs without a mask also ``right`` and ``wrong`` (``influence``
        and ``gradient``, the mean ‖g‖², of steps on examples of that part, the same inputs watched) and ``below``:
        the share of the squared gradients of each part that lies in the weights that a mask by Fisher information
        would hold (``right_25``: with a quarter of the weights kept).
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
    """The share of weights that move in the next epoch, and the length of the path of the last one."""
    del model, epoch
    return {"kept": round(getattr(hook.inner, "kept", 1.0), 6), "path": hook.path}


def _two_of(measure: Probe, model: nn.Module, epoch: int) -> dict[str, Any]:
    found = measure(model, epoch)
    return {"influence": found["quadratic_true"], "gradient": found["gradient"]}


def _fit(model: nn.Module, epoch: int, *, x: Tensor, y: Tensor, true: Tensor) -> dict[str, float]:
    """Shares of right and of wrong labels that are given, and of true labels where the given ones are wrong."""
    del epoch
    device = next(model.parameters()).device
    with torch.no_grad():
        said = torch.cat([model(part.to(device)).argmax(1).cpu() for part in x.split(PART)])
    given, wrong = (said == y).double(), y != true
    told = {"right": given[~wrong], "wrong": given[wrong], "true_of_wrong": (said == true)[wrong].double()}
    return {name: float(values.mean()) for name, values in told.items() if len(values)}


def _below(model: nn.Module, epoch: int, *, parts: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The share of each part's squared gradients in the weights below the threshold of the whole training set."""
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
