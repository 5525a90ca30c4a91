"""Stiffness during training: a probe for `gendyn_lite.train.fit`."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gendyn_lite.measures.stiffness.averages import by_pair
from gendyn_lite.measures.stiffness.distance import critical_length, pair_distances
from gendyn_lite.measures.stiffness.gram import gradient_gram
from gendyn_lite.measures.stiffness.matrices import cosine, sign, zero_gradients

Probe = Callable[[nn.Module, int], dict[str, float]]


def stiffness_probe(
    x: Tensor,
    y: Tensor,
    *,
    test: tuple[Tensor, Tensor] | None = None,
    lengths: bool = False,
    float64: bool = False,
) -> Probe:
    """A probe that records mean stiffness over pairs of the given examples at each evaluated epoch.

    Its values are ``"<which>_<kind>"``, with which in all, within, between (pairs of one class, of two) and kind in
    cosine, sign: over pairs of training examples, and as ``"test_…"`` over pairs of a training and a test example.
    ``"zero_gradients"`` counts examples whose gradient is zero; ``"critical_length"`` is ξ of the pairs within a class.

    Args:
        x: Training inputs [n, ...], as the network takes them.
        y: Their labels, as trained with.
        test: Test inputs and labels.
        lengths: Whether to record ``"critical_length"`` (cosine stiffness against cosine distance of inputs).
        float64: Whether to measure on a copy in float64. In float32 the gradient of an example that is fitted with a
            loss below about 1e-6 is mostly rounding.

    >>> probe = stiffness_probe(torch.eye(4), torch.tensor([0, 0, 1, 1]))
    >>> values = probe(nn.Linear(4, 2), 0)
    >>> list(values)[:4], values["zero_gradients"]
    (['all_cosine', 'within_cosine', 'between_cosine', 'all_sign'], 0)
    """
    pairs = y[:, None] == y[None]
    distances = pair_distances(x) if lengths else None
    count = len(y)
    inputs, labels = (x, y) if test is None else (torch.cat([x, test[0]]), torch.cat([y, test[1]]))

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        gram = gradient_gram(*_prepared(model, inputs, labels, float64))
        assert isinstance(gram, Tensor)
        values: dict[str, float] = {}
        for kind, matrix in (("cosine", cosine(gram).cpu()), ("sign", sign(gram).cpu())):
            found = by_pair(matrix[:count, :count], y, resamples=0)
            values |= {f"{which}_{kind}": each.mean for which, each in found.items()}
            if test is not None:
                found = by_pair(matrix[:count, count:], y, test[1], resamples=0)
                values |= {f"test_{which}_{kind}": each.mean for which, each in found.items()}
            if distances is not None and kind == "cosine":
                length = critical_length(matrix[:count, :count], distances, pairs, resamples=0)
                values["critical_length"] = length.mean
        return {**values, "zero_gradients": zero_gradients(gram)}

    return probe


def _prepared(model: nn.Module, x: Tensor, y: Tensor, float64: bool) -> tuple[nn.Module, Tensor, Tensor]:
    """The network (or its copy in float64), and inputs and labels where it is."""
    device = next(model.parameters()).device
    if not float64:
        return model, x.to(device), y.to(device)
    return copy.deepcopy(model).double(), x.to(device).double(), y.to(device)


def layer_probe(x: Tensor, y: Tensor, *, float64: bool = False) -> Probe:
    """A probe that records the mean cosine stiffness of each layer: ``"<layer>:all"``, ``":within"``, ``":between"``.

    Args:
        x: Inputs [n, ...], for instance a class-balanced sample of the training set.
        y: Their labels.
        float64: Whether to measure on a copy in float64.

    >>> probe = layer_probe(torch.eye(4), torch.tensor([0, 0, 1, 1]))
    >>> list(probe(nn.Linear(4, 2), 0))
    ['model:all', 'model:within', 'model:between']
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        grams = gradient_gram(*_prepared(model, x, y, float64), per_layer=True)
        assert isinstance(grams, dict)
        values: dict[str, float] = {}
        for layer, gram in grams.items():
            found = by_pair(cosine(gram).cpu(), y, resamples=0)
            values |= {f"{layer}:{which}": each.mean for which, each in found.items()}
        return values

    return probe
