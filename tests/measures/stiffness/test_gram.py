"""The Gram matrix without gradients equals the one of gradients taken one by one, for every network and layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gendyn_lite import models
from gendyn_lite.measures import stiffness
from tests.measures import naive
from tests.measures.networks import Net, examples, scrambled

TOLERANCE = 1e-10
NETWORKS = {  # in_shape, examples, options
    "mlp": ((5,), 9, {"widths": [7, 6], "activation": "tanh"}),
    "mlp_1x512": ((1, 4, 4), 5, {}),
    "mlp_3x512": ((1, 4, 4), 5, {}),
    "alexnet_small": ((3, 7, 7), 5, {}),
    "inception_small": ((3, 4, 4), 3, {}),
    "resnet18": ((3, 8, 8), 3, {}),
    "vgg19": ((3, 32, 32), 2, {}),
    "resnet18_imagenet": ((3, 32, 32), 2, {}),
    "resnet50": ((3, 32, 32), 2, {}),
    "inception_v3": ((3, 75, 75), 2, {}),
    "alexnet": ((3, 63, 63), 2, {}),
}


def same(found, expected):
    for layer, gram in expected.items():
        worst = (found[layer] - gram).abs().max()
        assert worst <= TOLERANCE * gram.abs().max().clamp(min=1e-300), (layer, worst)


@pytest.mark.parametrize("name", models.names())
def test_every_network_equals_the_loop(name):
    shape, count, options = NETWORKS[name]
    model = scrambled(models.build(name, num_classes=3, in_shape=shape, seed=0, **options))
    x, y = examples(count, shape)
    expected = naive.gram(model, x, y)
    found = stiffness.gradient_gram(model, x, y, per_layer=True)
    assert list(found) == list(expected)
    same(found, expected)
    same({"all": stiffness.gradient_gram(model, x, y)}, {"all": sum(expected.values())})


@pytest.mark.parametrize("used", [lambda s, x: s.used(x) + 0 * s.idle(x).detach(), lambda s, x: s.used(x)])
def test_a_layer_that_the_loss_does_not_depend_on_counts_as_zero(used, monkeypatch):
    monkeypatch.setattr(stiffness.gram, "MOST", 4)
    model, (x, y) = Net(used, used=nn.Linear(4, 3), idle=nn.Linear(4, 3)).double(), examples(6, (4,))
    same(stiffness.gradient_gram(model, x, y, per_layer=True), naive.gram(model, x, y))


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    model[0].weight.requires_grad_(False)
    x, y = examples(6, (4,))
    found = stiffness.gradient_gram(model, x, y, per_layer=True)
    same(found, naive.gram(model, x, y))
    assert not model[0].weight.requires_grad


def test_groups_are_sums_of_their_layers():
    model = scrambled(models.build("resnet18", num_classes=3, in_shape=(3, 8, 8), seed=0))
    x, y = examples(3, (3, 8, 8))
    layers = stiffness.gradient_gram(model, x, y, per_layer=True)
    found = stiffness.gradient_gram(model, x, y, groups={"first": ["conv", "norm"], "block": "block1a", "head": ["fc"]})
    assert list(found) == ["first", "block", "head"]
    block = sum(gram for name, gram in layers.items() if name.startswith("block1a."))
    same(found, {"first": layers["conv"] + layers["norm"], "block": block, "head": layers["fc"]})


def test_a_loss_of_ones_own():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x, _ = examples(6, (4,))
    y = x[:, :1].sin()

    def squared(output, y):
        return (output - y).square().sum(1)

    expected = naive.gram(model, x, y, loss=squared)
    same(stiffness.gradient_gram(model, x, y, loss=squared, per_layer=True), expected)


def test_inputs_that_require_a_gradient_and_grad_mode_do_not_matter():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    x, y = examples(6, (4,))
    expected = stiffness.gradient_gram(model, x, y)
    assert torch.equal(stiffness.gradient_gram(model, x.clone().requires_grad_(), y), expected)
    with torch.no_grad():
        assert torch.equal(stiffness.gradient_gram(model, x, y), expected)


def test_half_precision_is_summed_in_float32():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).bfloat16()
    x, y = examples(6, (4,))
    found = stiffness.gradient_gram(model, x.bfloat16(), y)
    assert found.dtype == torch.float32
    exact = stiffness.gradient_gram(model.double(), x.bfloat16().double(), y)
    assert (found - exact).abs().max() < 0.05 * exact.abs().max()
