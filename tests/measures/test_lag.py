"""Measures say where running statistics of batch-norm lag, and nothing where they do not."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite.measures import fisher, relu_paths, stiffness
from gendyn_lite.train.probes import reestimated_statistics

X = torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(48) % 3


def network(steps: int, *, rate: float = 0.5, momentum: float = 0.1) -> nn.Module:
    """A small network with batch-norm after some steps."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=momentum), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)]
    model = nn.Sequential(*layers).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with torch.no_grad():
        next(model.parameters()).mul_(20)  # far from the statistics that batch-norm starts with
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return model.eval()


MEASURES: dict[str, Callable[[nn.Module], object]] = {
    "paths": lambda model: relu_paths.record_paths(model, X),
    "stiffness": lambda model: stiffness.gradient_gram(model, X, Y),
    "fisher": lambda model: fisher.diagonal(model, X, Y),
    "influence": lambda model: fisher.influence(model, X[:16], Y[:16], X[16:], eps=1e-3),
}


def told(measure: Callable[[nn.Module], object], model: nn.Module) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        measure(model)
    return [str(each.message) for each in found if "lag behind" in str(each.message)]


@pytest.mark.parametrize("name", MEASURES)
def test_a_lag_is_told_once_with_the_layer_and_the_remedy(name):
    found = told(MEASURES[name], network(steps=2))
    assert found and "'1' (BatchNorm2d)" in found[0] and "reestimated_statistics" in found[0]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("steps", [0, 60])
def test_nothing_is_told_of_a_network_that_was_never_trained_or_long_enough(name, steps):
    assert told(MEASURES[name], network(steps=steps, rate=0.01)) == []


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_is_told_where_statistics_were_taken_anew(name):
    model = network(steps=2)
    with reestimated_statistics(model, [(X, Y)]):
        assert told(MEASURES[name], model) == []


def test_a_warning_leaves_the_network_and_its_answer_as_they_were():
    model = network(steps=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = (stiffness.gradient_gram(model, X, Y) for _ in range(2))
    assert torch.equal(first, second)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_look_at_a_lag_is_not_taken_for_a_part_of_the_network():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        MEASURES["paths"](network(steps=2))
    assert len(found) == 1 and "lag behind" in str(found[0].message)
