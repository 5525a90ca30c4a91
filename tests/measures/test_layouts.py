"""What is made of per-example gradients equals the slow twin in any layout of inputs and weights, block by block."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from gendyn_lite.measures import fisher, relu_paths, stiffness
from tests.measures import naive
from tests.measures.networks import Net, examples, scrambled


def check(model, x, y, *, block):
    """The Gram matrix of one set and of two, squared norms, the Fisher diagonal, and image functions."""
    loop = naive.gradients(model, x, y)
    each = {name: torch.stack([row[name] for row in loop]) for name in loop[0]}
    gram = sum(rows @ rows.T for rows in each.values())

    def same(found, expected):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * float(gram.abs().max()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no formula for …
        if len(x) > 1:
            same(stiffness.gradient_gram(model, x, y, block=block), gram)
            two = stiffness.gradient_gram(model, x[:1], y[:1], other=(x[1:], y[1:]), block=block)
            same(two, gram[:1, 1:])
        same(stiffness.squared_norms(model, x, y), gram.diagonal())
        for name, value in fisher.diagonal(model, x, y, batch_size=block).items():
            same(value.flatten(), each[name].square().mean(0))
        functions = relu_paths.image_functions(model, x, y)
    for name, rows in each.items():
        same(functions.each(name).flatten(1), -rows)


def conv(channels=4):
    return nn.Sequential(
        nn.Conv2d(2, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 1, 1), nn.Flatten(), nn.Linear(20, 3)
    )


NETWORKS = {  # and the shape of an input
    "dense": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), (3, 4)),
    "convolution": (conv, (2, 4, 5)),
    "one channel": (lambda: conv(1), (2, 4, 5)),
    "sequence": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(9, 3)), (2, 5)),
    "one unit": (lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(1, 2)), (1, 1, 1)),
    "one class": (lambda: nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)), (1,)),
}
LAYOUTS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.transpose(1, -1).contiguous().transpose(1, -1),
    "every second": lambda x: torch.stack([x, -x], dim=-1)[..., 0],
    "examples that are one": lambda x: x[:1].expand(x.shape),
    "places that are one": lambda x: x[..., :1].expand(x.shape),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("make", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_inputs_in_any_layout(make, shape, layout):
    torch.manual_seed(0)
    model = scrambled(make())
    x, y = examples(5, shape, classes=model[-1].out_features)
    check(model, layout(x), y, block=2)


@pytest.mark.parametrize(("count", "block"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 9)])
@pytest.mark.parametrize("name", ["dense", "convolution"])
def test_blocks_of_any_size(name, count, block):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    check(scrambled(make()), *examples(count, shape), block=block)


@pytest.mark.parametrize("name", ["dense", "convolution", "sequence"])
def test_weights_in_any_layout(name):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model = scrambled(make())
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            weight = module.weight.data
            module.weight.data = weight.transpose(0, 1).contiguous().transpose(0, 1)
    check(model, *examples(4, shape), block=3)


def length_first():
    """Sequences with their places in front while the layers work on them, as nn.LSTM and nn.Transformer have it."""
    layers = {"first": nn.Linear(3, 4), "norm": nn.LayerNorm(4), "last": nn.Linear(4, 3)}
    return Net(lambda self, x: self.last(self.norm(torch.tanh(self.first(x.transpose(0, 1))))).mean(0), **layers)


@pytest.mark.parametrize("length", [1, 2, 4, 5])
@pytest.mark.parametrize("block", [2, 4, 5])
def test_a_length_that_is_the_number_of_examples_is_not_taken_for_it(length, block):
    torch.manual_seed(0)
    check(scrambled(length_first()), *examples(5, (length, 3)), block=block)
