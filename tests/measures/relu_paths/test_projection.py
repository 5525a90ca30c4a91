"""p | H: the forward pass on stored gates; and functions in isolation beside the end-to-end one."""

from __future__ import annotations

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from gendyn_lite import models
from gendyn_lite.measures import relu_paths
from tests.measures.networks import check_refused, refused
from tests.measures.relu_paths import nets


def gates():
    """Every kind of gate that can be replayed."""
    kinds = nn.PReLU(5), nn.LeakyReLU(0.2, inplace=True), nn.RReLU(), nn.Hardtanh(0, 2, True), nn.Threshold(0, 0)
    layers = [part for kind in kinds for part in (kind, nn.Linear(5, 5))]
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU6(), nn.Linear(5, 5), *layers[:-1], nn.Linear(5, 3))


ALEXNET = partial(models.build, "alexnet_small", num_classes=3, in_shape=(2, 8, 8), seed=0)
NETS = nets.NETS | {"overwriting": (nets.Overwriting, (6,)), "gates": (gates, (6,)), "alexnet": (ALEXNET, (2, 8, 8))}


@pytest.mark.parametrize("packed", [relu_paths.record_paths, relu_paths.record_packed], ids=["bool", "packed"])
@pytest.mark.parametrize("name", NETS)
def test_own_paths_give_the_networks_own_output(name, packed):
    torch.manual_seed(0)
    make, shape = NETS[name]
    model, x = nets.scrambled(make()), 3 * nets.images(5, shape)
    expected = model(x)
    assert torch.allclose(relu_paths.forward_with_paths(model, x, packed(model, x)), expected, rtol=1e-5, atol=1e-6)
    some = dict(list(packed(model, x).items())[1:])  # the first gate follows itself
    assert torch.allclose(relu_paths.forward_with_paths(model, x, some, partial=True), expected, rtol=1e-5, atol=1e-6)
    other = relu_paths.forward_with_paths(model, x, packed(model, x.flip(0)))
    assert not torch.allclose(other, expected, rtol=1e-3, atol=1e-3)


def test_a_stored_path_is_a_product_of_matrices():
    """W₂ diag(p) W₁ x, whatever the sign of W₁x; and so are its gradients."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    x = nets.images(3, (4,), dtype=torch.float64).requires_grad_()
    path = torch.tensor([[1, 0, 1, 1, 0, 0]], dtype=torch.bool)
    expected = (model[0](x) * path) @ model[2].weight.T + model[2].bias
    for given in (path, path.expand(3, 6)):
        found = relu_paths.forward_with_paths(model, x, {"1": given})
        gradients = (torch.autograd.grad(each.sum(), x, retain_graph=True)[0] for each in (found, expected))
        assert torch.allclose(found, expected) and torch.allclose(*gradients)


@pytest.mark.parametrize("record", [relu_paths.record_paths, relu_paths.record_packed], ids=["bool", "packed"])
@pytest.mark.parametrize("batch", [2, 128], ids=["batches", "whole"])
def test_loss_along_paths(batch, record, monkeypatch):
    monkeypatch.setattr(relu_paths.projection, "BATCH", batch)
    model, x, y = nets.scrambled(nets.conv()), nets.images(5, (2, 8, 8)), torch.tensor([0, 1, 2, 0, 1])
    other, first = record(model, x.flip(0)), record(model, x[:1])
    for paths in (record(model, x), other, first):
        logits = relu_paths.forward_with_paths(model, x, paths).detach()
        loss, accuracy = relu_paths.loss_along(model, x, y, paths)
        assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-5)
        assert accuracy == pytest.approx(float((logits.argmax(1) == y).float().mean()))
    check_refused(relu_paths.loss_along, "x has 5 images and y 4 labels", model, x, y[:4], other)
    check_refused(relu_paths.loss_along, r"labels span . to ., expected 0 to 2", model, x, 4 * y, other)


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_what_is_not_finite_correlates_with_nothing(value):
    outputs = torch.tensor([[[0.0], [1.0], [2.0]], [[0.0], [1.0], [value]]])
    assert relu_paths.function_correlation(outputs, outputs[0]).isnan().tolist() == [False, True]
    assert relu_paths.pairwise_correlation(outputs).isnan().tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
def test_a_constant_up_to_rounding_correlates_with_nothing_and_no_correlation_is_above_1(dtype):
    outputs = torch.randn(40, 50, 1, generator=torch.Generator().manual_seed(0), dtype=dtype)
    constant = 1 + torch.finfo(dtype).eps * (outputs[1] > 0)
    outputs[0], outputs[2] = 3, constant
    found, expected = relu_paths.pairwise_correlation(outputs), np.corrcoef(outputs[..., 0].double().numpy())
    assert (found[[0, 2]] == 0).all() and (found[:, [0, 2]] == 0).all() and np.isnan(expected[0]).all()
    rest = [i for i in range(40) if i not in (0, 2)]
    np.testing.assert_allclose(found[rest][:, rest], expected[rest][:, rest], atol=1e-12)
    assert found.max() <= 1 and relu_paths.function_correlation(outputs, outputs).max() <= 1


def test_an_isolated_network_has_one_images_weights_alone():
    torch.manual_seed(0)
    model, x, y = nets.scrambled(nets.conv()), nets.images(4, (2, 8, 8)), torch.tensor([0, 1, 2, 0])
    model[8].bias.requires_grad_(False)
    model[5].weight.requires_grad_(False)  # a fixed feature stays
    functions = relu_paths.image_functions(model, x, y, step_size=0.1)
    update = functions.of(2)
    alone = relu_paths.isolated_network(model, {"8.weight": update["8.weight"]})
    assert alone[0].bias.tolist() == [0] * 4  # without an update
    network = relu_paths.isolated_network(model, update)
    parameters = dict(network.named_parameters())
    for name in ("0.weight", "0.bias", "5.bias", "8.weight"):
        assert torch.equal(parameters[name], update[name])
    assert torch.equal(parameters["1.weight"], model[1].weight.double())  # batch-norm stays
    assert torch.equal(parameters["5.weight"], model[5].weight.double())
    inputs = nets.images(6, (2, 8, 8), seed=1)
    found = relu_paths.isolated_outputs(model, functions, inputs)
    assert torch.equal(found[2], network(inputs.double()).detach())
    assert found.dtype == torch.float64


def test_correlation_is_pearsons():
    outputs = torch.randn(4, 10, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centred = outputs - outputs.mean(1, keepdim=True)
    expected = torch.corrcoef(centred.flatten(1))  # means are 0 already
    assert torch.allclose(relu_paths.pairwise_correlation(outputs), expected)
    assert torch.allclose(relu_paths.function_correlation(outputs, outputs[1]), expected[:, 1])
    shifted = -1e-40 * outputs + torch.tensor([1.0, 2.0, 3.0]) * 1e-40
    assert torch.allclose(relu_paths.function_correlation(shifted, outputs[1]), -expected[:, 1])


def test_a_function_alone_has_no_bias_and_weights_of_the_norms_of_the_network():
    model, x, y = nets.scrambled(nets.conv()).double(), nets.images(2, (2, 8, 8)).double(), torch.tensor([0, 1])
    own = dict(model.named_parameters())
    for step in (1e-9, 1.0):
        update = relu_paths.image_functions(model, x, y, step_size=step).of(0)
        network = relu_paths.alone(model, update)
        for name, value in network.named_parameters():
            if name in ("0.weight", "5.weight", "8.weight"):
                torch.testing.assert_close(value, update[name] * (own[name].norm() / update[name].norm()))
            elif name in ("0.bias", "5.bias", "8.bias"):
                assert not value.any()
            else:
                assert torch.equal(value, own[name])  # batch-norm stays


def test_a_probe_follows_the_correlation_and_does_not_depend_on_the_size_of_the_update():
    """Where the loss is as small as at the end of training, float32 and biases would leave nothing but rounding."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x, inputs = nets.images(4, (5,)), nets.images(6, (5,), seed=1)
    y = model(x).argmax(1)
    with torch.no_grad():
        for value in model[4].parameters():
            value.mul_(200)  # every image is fitted to a loss of nearly 0
    values = relu_paths.isolation_probe(x, y, inputs, seed=3)(model, 1)
    network = copy.deepcopy(model).double()
    functions = relu_paths.image_functions(network, x.double(), y)
    outputs = []
    for image in range(4):  # by hand: products of the weights alone
        a = inputs.double()
        for layer in (0, 2, 4):
            weight = functions.of(image)[f"{layer}.weight"]
            a = a @ (weight * (network[layer].weight.norm() / weight.norm())).T
            a = a.clamp(min=0) if layer < 4 else a
        outputs.append(a)
    each = torch.stack(outputs).detach()
    found = relu_paths.function_correlation(each, network(inputs.double()).detach())
    assert values["mean"] == pytest.approx(float(found.mean())) and values["zeros"] == int((found == 0).sum())
    assert values["least"] <= values["median"] <= values["most"] <= 1
    upper = relu_paths.pairwise_correlation(each)[torch.triu(torch.ones(4, 4), 1).bool()]
    assert values["between"] == pytest.approx(float(upper.mean()))
    again, other = (relu_paths.isolation_probe(x, y, inputs, seed=seed)(model, 1)["random"] for seed in (3, 4))
    assert values["random"] == again != other


def hessian(model, x):
    """The largest second derivative of the outputs along a line, by differences: 0 of an affine function."""
    a, b, c = (model(x + step * torch.ones_like(x)) for step in (0.0, 1.0, 2.0))
    return float((a - 2 * b + c).abs().max() / (a - c).abs().max())


BENDING = {
    "gates alone": ((), True),
    "batch-norm and average-pooling": ((nn.BatchNorm2d(4), nn.AvgPool2d(2)), True),
    "max-pooling": ((nn.MaxPool2d(2),), False),
    "response normalization": ((nn.LocalResponseNorm(3),), False),
}


@pytest.mark.parametrize(("layers", "affine"), BENDING.values(), ids=BENDING)
def test_along_a_path_a_network_is_affine_unless_something_else_bends(layers, affine):
    """The path says which units are on, not which of them wins in a max-pooling."""
    torch.manual_seed(0)
    parts = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), *layers, nn.Flatten(), nn.LazyLinear(3)
    model = nn.Sequential(*parts).double().eval()
    x = 3 * nets.images(3, (2, 8, 8)).double()
    model(x)
    paths = relu_paths.record_paths(model, x)
    bent = hessian(lambda at: relu_paths.forward_with_paths(model, at, paths).detach(), x)
    assert (bent < 1e-9) == affine and hessian(lambda at: model(at).detach(), x) > 1e-3


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


MODEL, X, EYE = nets.Functional(), nets.images(3, (6,)), torch.eye(3)
PATHS = relu_paths.record_paths(MODEL, X)
GATE = PATHS["gate"]
CHANGED = {
    r"paths has no layer 'gate' \(it has relu\)": {"relu": GATE},
    "unknown gate layer 'gat': did you mean 'gate'": PATHS | {"gat": GATE},
    r"'gate'\] has 4 units and the layer 5: .* another": PATHS | {"gate": GATE[:, 1:]},
    r"has 2 images and x 3: expected one path": PATHS | {"gate": GATE[:2]},
    r"paths\['gate'\] is float32": PATHS | {"gate": GATE.float()},
}
REFUSED = {said: (relu_paths.forward_with_paths, (MODEL, X, paths), {}, said) for said, paths in CHANGED.items()}
REFUSED |= {
    "chance": (
        lambda: relu_paths.forward_with_paths(nn.Sequential(nn.ReLU(), Noise()), EYE, {"0": EYE > 0}),
        r"draws at random when it is run, in '1' \(Noise\)",
    ),
    "name": (lambda: relu_paths.isolated_network(nn.Linear(2, 2), {"w": EYE}), "no such parameter: it is of another"),
    "shape": (lambda: relu_paths.isolated_network(nn.Linear(2, 2), {"weight": EYE}), r"the network \[2, 2\]"),
    "outputs": (lambda: relu_paths.function_correlation(torch.zeros(2, 3, 4), EYE), r"expected \[b, m, k\]"),
    "one-input": (lambda: relu_paths.pairwise_correlation(torch.zeros(2, 1, 4)), "at least two inputs"),
    "no output": (
        lambda: relu_paths.pairwise_correlation(torch.zeros(2, 3, 0)),
        r"outputs are float32 \[2, 3, 0\], exp",
    ),
    "complex": (
        lambda: relu_paths.pairwise_correlation(torch.zeros(2, 3, 1) * 1j),
        r"outputs are complex64 \[2, 3, 1\]",
    ),
    "array": (
        lambda: relu_paths.pairwise_correlation(np.zeros((2, 3, 1))),
        "outputs are ndarray, expected real numbers",
    ),
    "references": (
        lambda: relu_paths.function_correlation(torch.zeros(2, 3, 3), torch.zeros(1, 2, 3, 3)),
        r"the reference is float32 \[1, 2, 3, 3\] and outputs float32 \[2, 3, 3\]",
    ),
}


test_bad_input_is_one_line = refused(REFUSED)
