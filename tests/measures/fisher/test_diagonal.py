"""The diagonal Fisher information equals the mean of squared gradients taken one by one, for every network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import models
from gendyn_lite.measures import fisher
from tests.measures import naive
from tests.measures.networks import Net, Own, examples, scrambled
from tests.measures.relu_paths.nets import check_refused

NETWORKS = {  # in_shape, options
    "mlp": ((5,), {"widths": [7, 6], "activation": "tanh"}),
    "alexnet_small": ((3, 7, 7), {}),
    "inception_small": ((3, 4, 4), {}),
    "resnet18": ((3, 8, 8), {}),
    "vgg19": ((3, 32, 32), {}),
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def loop(model, x, y, loss=None):
    """The mean of squared gradients, one backward pass for each example."""
    rows = naive.gradients(model, x, y, loss)
    shapes = {name: value.shape for name, value in model.named_parameters()}
    return {name: torch.stack([row[name] for row in rows]).square().mean(0).view(shapes[name]) for name in rows[0]}


def same(found, expected, tolerance):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        worst = (found[name].double() - value.double()).abs().max()
        assert worst <= tolerance * value.abs().max().clamp(min=1e-300), (name, worst, value.abs().max())


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_equals_the_loop(name, dtype, count):
    shape, options = NETWORKS[name]
    model = scrambled(models.build(name, num_classes=3, in_shape=shape, seed=0, **options))
    x, y = examples(count, shape)
    expected = loop(model, x, y)
    same(fisher.diagonal(model.to(dtype), x.to(dtype), y), expected, TOLERANCE[dtype])


def test_softmax_regression_has_a_closed_form():
    """F_true of W is E[p_c (1 − p_c) x_j²], the empirical one E[(p_c − [y = c])² x_j²]."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    x, y = examples(9, (4,))
    p = model(x).softmax(1).detach()
    true = torch.einsum("nc,nj->cj", p * (1 - p), x.square()) / len(x)
    observed = torch.einsum("nc,nj->cj", (p - F.one_hot(y, 3)).square(), x.square()) / len(x)
    torch.testing.assert_close(fisher.diagonal(model, x, kind="true")["weight"], true)
    torch.testing.assert_close(fisher.diagonal(model, x, kind="true")["bias"], (p * (1 - p)).mean(0))
    torch.testing.assert_close(fisher.diagonal(model, x, y)["weight"], observed)


@pytest.mark.parametrize("name", ["mlp", "alexnet_small"])
def test_the_true_fisher_is_the_expectation_over_the_networks_labels(name):
    shape, options = NETWORKS[name]
    model = scrambled(models.build(name, num_classes=3, in_shape=shape, seed=0, **options))
    x, _ = examples(4, shape)
    p = model(x).softmax(1).detach()
    expected = None
    for label in range(3):
        for i in range(len(x)):
            one = loop(model, x[i : i + 1], torch.tensor([label]))
            part = {key: p[i, label] * value / len(x) for key, value in one.items()}
            expected = part if expected is None else {key: expected[key] + part[key] for key in part}
    same(fisher.diagonal(model, x, kind="true"), expected, 1e-10)


def test_the_monte_carlo_fisher_tends_to_the_true_one_and_repeats_with_its_seed():
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    x, _ = examples(5, (4,))
    true = fisher.diagonal(model, x, kind="true")
    few, again, other = (
        fisher.diagonal(model, x, kind="monte_carlo", samples=2, seed=seed)["weight"] for seed in (0, 0, 1)
    )
    assert torch.equal(few, again) and not torch.equal(few, other)
    many = fisher.diagonal(model, x, kind="monte_carlo", samples=2000)
    for name, value in true.items():
        assert ((many[name] - value).abs() / value).max() < 0.15


def test_half_precision_is_summed_in_float32():
    model = models.build("mlp", num_classes=3, in_shape=(6,), seed=0, widths=[32]).eval()
    x, y = examples(64, (6,), dtype=torch.float32)
    exact = fisher.diagonal(model, x, y)
    found = fisher.diagonal(model, x, y, precision="bfloat16")
    for name, value in exact.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - value).abs().max() < 0.02 * value.max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: compares GPU and CPU")
@pytest.mark.parametrize("name", ["mlp", "resnet18"])
def test_a_gpu_gives_the_same(name):
    shape, options = NETWORKS[name]
    model = scrambled(models.build(name, num_classes=3, in_shape=shape, seed=0, **options))
    x, y = examples(7, shape)
    expected = fisher.diagonal(model, x, y)
    found = fisher.diagonal(model.cuda(), x.cuda(), y.cuda())
    same({key: value.cpu() for key, value in found.items()}, expected, 1e-10)


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)).double()
    model[0].weight.requires_grad_(False)
    assert set(fisher.diagonal(model, *examples(2, (3,)))) == {"0.bias", "1.weight", "1.bias"}


def linear():
    return nn.Linear(3, 3).double()


def idle(layer):
    return Net(lambda m, x: m.used(x), used=nn.Linear(3, 3), idle=layer).double()


def with_nan(place):
    x, y = examples(4, (3,))
    x[place] = float("nan")
    return x, y


TWO = examples(2, (3,))
LARGE = 1e21 * torch.ones(2, 3), torch.tensor([0, 1])
BAD = {  # network, inputs and labels, options
    "train mode": (nn.Sequential(nn.BatchNorm1d(3), linear()), TWO, {}, r"'0' \(BatchNorm1d\) is in train mode"),
    "no gradient": (idle(nn.Linear(3, 3)), TWO, {}, "parameter 'idle.weight' gets no gradient: the loss does not"),
    "no gradient, no formula": (idle(Own()), TWO, {}, "parameter 'idle.scale' gets no gradient"),
    "NaN": (linear(), with_nan(2), {}, "the gradient of example 2 is not finite"),
    "square": (
        nn.Linear(3, 3),
        LARGE,
        {},
        "or its square is beyond float32",
    ),
    "NaN in a later batch": (linear(), with_nan(3), {"batch_size": 2}, "the gradient of example 3 is not finite"),
    "NaN, true": (linear(), with_nan(1), {"kind": "true"}, "the output of example 1 is not finite"),
    "NaN, Monte-Carlo": (linear(), with_nan(3), {"kind": "monte_carlo"}, "the output of example 3 is not finite"),
    "no labels": (linear(), TWO[:1], {}, "the empirical Fisher needs the observed labels y"),
    "kind": (linear(), TWO, {"kind": "empiric"}, "unknown kind of Fisher information 'empiric': did you mean 'emp"),
    "precision": (linear(), TWO, {"precision": "float8"}, "unknown precision 'float8'"),
    "samples": (linear(), TWO, {"samples": 0}, "samples is 0, expected a whole number of at least 1"),
    "batch size": (linear(), TWO, {"batch_size": 0}, "batch_size is 0, expected a whole number of at least 1, or None"),
    "no examples": (linear(), examples(0, (3,)), {}, "x has 0 examples, expected at least 1"),
    "labels": (linear(), (TWO[0], torch.tensor([0, 3])), {}, "labels span 0 to 3, expected 0 to 2"),
}


@pytest.mark.filterwarnings("ignore:no formula")
@pytest.mark.parametrize(("model", "given", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(model, given, options, message):
    check_refused(fisher.diagonal, message, model, *given, **options)


def test_no_batches_are_refused():
    check_refused(fisher.DiagonalSum(linear()).mean, "there is no example to take the Fisher information of")
