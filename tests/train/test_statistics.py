"""Batch-norm's statistics, re-estimated with the weights as they are before anything is measured."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gendyn_lite.train import fit
from gendyn_lite.train.probes import reestimated_statistics
from tests.train.conftest import make_network, plain, same, weights


def with_batch_norm(config, digits):
    torch.manual_seed(2)
    return nn.Sequential(nn.BatchNorm2d(1, momentum=0.01), nn.Dropout(0.2), make_network(config, digits))


@pytest.mark.parametrize("sizes", [(10,), (4, 6), (3, 3, 4), (9, 1)], ids=str)
def test_averages_of_batches_by_their_examples(sizes):
    torch.manual_seed(1)
    x = torch.randn(10, 3, 2, 2) * 3 + 1
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, nn.Dropout(0.5)).eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    parts = [part for part in x.split(sizes) if len(part) > 1]
    total = sum(len(part) for part in parts)
    mean = sum(part.mean((0, 2, 3)) * len(part) for part in parts) / total
    variance = sum(part.transpose(0, 1).flatten(1).var(1) * len(part) for part in parts) / total
    with reestimated_statistics(model, [(part, None) for part in x.split(sizes)]):
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)
        assert not any(module.training for module in model.modules())
        inside = model(x)
    torch.testing.assert_close(inside, (x - mean[:, None, None]) / (variance[:, None, None] + norm.eps).sqrt())
    assert same(norm.state_dict(), before)
    assert norm.momentum == 0.1


def test_two_layers_see_each_other_as_in_training():
    """The second layer's statistics are those of what the first one passes on when it normalizes by its batch."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3), nn.BatchNorm1d(3)).eval()
    x = torch.randn(20, 4)
    twin = copy.deepcopy(model).train()
    for module in twin:
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 1.0
    twin(x)
    with reestimated_statistics(model, [(x, None)]):
        torch.testing.assert_close(model(x), twin.eval()(x))


def test_put_back_after_an_error():
    norm = nn.BatchNorm1d(2).eval()
    with pytest.raises(ZeroDivisionError), reestimated_statistics(norm, [(torch.randn(8, 2), None)]):
        raise ZeroDivisionError
    assert norm.running_mean.tolist() == [0, 0]


def test_of_a_run_training_is_the_same_and_what_is_measured_is_not(config, digits):
    seen = {}
    for statistics in ("running", "re-estimated"):
        network = with_batch_norm(config, digits)
        probes = {"p": lambda model, epoch: {"mean": float(model[0].running_mean[0])}}
        history = fit(network, digits, config.replace(batch_norm_statistics=statistics), device="cpu", probes=probes)
        seen[statistics] = history, weights(network)
    (running, one), (anew, other) = seen.values()
    assert same(one, other)
    assert all(abs(value) < 1e-2 for value in anew.column("p/mean"))  # every image is standardized
    assert running.column("train_loss") != anew.column("train_loss")


def test_without_batch_norm_nothing_changes(config, digits):
    histories = [
        fit(make_network(config, digits), digits, config.replace(batch_norm_statistics=name), device="cpu")
        for name in ("running", "re-estimated")
    ]
    assert plain(histories[0].rows) == plain(histories[1].rows)
