"""Norms, margins and flatness against plain loops in float64 and closed forms."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from gendyn_lite.errors import UserError
from gendyn_lite.measures import complexity
from gendyn_lite.measures.stiffness import gradient_gram
from gendyn_lite.models import build
from tests.measures.networks import Net, refused


def dense(*widths: int, seed: int = 0) -> nn.Module:
    return build("mlp", num_classes=3, in_shape=(4,), widths=list(widths), seed=seed).eval()


def conv(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2, 3)).eval()


def test_frobenius_and_distance_are_sums_over_all_entries():
    network = dense(5, 2)
    flat = torch.cat([value.detach().flatten() for value in network.parameters()]).double()
    assert complexity.frobenius(network) == pytest.approx(float(flat.norm()), rel=1e-12)
    start = {name: value.detach().clone() for name, value in network.named_parameters()}
    assert complexity.distance(network, start) == 0
    with torch.no_grad():
        next(network.parameters())[0, 0] += 3.0
    assert complexity.distance(network, start) == pytest.approx(3.0, rel=1e-6)


def test_a_distance_from_another_network_is_refused():
    with pytest.raises(UserError, match="missing in what the network was"):
        complexity.distance(dense(5), {})
    other = {name: value.detach() for name, value in dense(6).named_parameters()}
    with pytest.raises(UserError, match="expected"):
        complexity.distance(dense(5), other)


@pytest.mark.parametrize("widths", [(1,), (3,), (3, 2)])
def test_path_norm_is_the_sum_over_every_path(widths):
    network = dense(*widths)
    weights = [layer.weight.detach().double() for layer in network.modules() if isinstance(layer, nn.Linear)]
    biases = [layer.bias.detach().double() for layer in network.modules() if isinstance(layer, nn.Linear)]
    total, sizes = 0.0, [4, *widths, 3]
    for path in product(*map(range, sizes)):
        steps = [float(weights[k][path[k + 1], path[k]]) for k in range(len(weights))]
        total += math.prod(steps) ** 2
    for start in range(len(weights)):  # a path may begin at a bias
        for path in product(*map(range, sizes[start + 1 :])):
            steps = [float(weights[k][path[k - start], path[k - start - 1]]) for k in range(start + 1, len(weights))]
            total += (float(biases[start][path[0]]) * math.prod(steps)) ** 2
    assert complexity.path_norm(network, (4,)) == pytest.approx(math.sqrt(total), rel=1e-10)


@pytest.mark.parametrize(
    "options", [{}, {"padding": 1}, {"padding": 1, "count_include_pad": False}, {"divisor_override": 3}]
)
def test_path_norm_squares_the_weights_of_an_average_pooling(options):
    pooling = nn.AvgPool2d(2, **options)
    side = 2 if not options.get("padding") else 3
    weights = torch.func.jacrev(pooling)(torch.zeros(1, 2, 4, 4)).reshape(2 * side * side, 32)
    linear, last = nn.Linear(32, 2 * side * side, bias=False), nn.Linear(2 * side * side, 3)
    linear.weight.data = weights
    same = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), linear, last)
    network = nn.Sequential(same[0], nn.ReLU(), pooling, nn.Flatten(), last)
    one, other = (complexity.path_norm(each.eval(), (1, 4, 4)) for each in (network, same))
    assert one == pytest.approx(other, rel=1e-6)


def test_path_norm_stays_where_a_unit_is_scaled_up_and_its_outputs_down():
    network = dense(5)
    before = complexity.path_norm(network, (4,)), complexity.frobenius(network)
    first, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    with torch.no_grad():
        first.weight[0] *= 8
        first.bias[0] *= 8
        last.weight[:, 0] /= 8
    assert complexity.path_norm(network, (4,)) == pytest.approx(before[0], rel=1e-6)
    assert complexity.frobenius(network) > before[1]


def test_spectral_norms_are_those_of_the_whole_matrices():
    network, shape = conv(), (2, 4, 4)
    total, x = 0.0, torch.zeros(1, *shape, dtype=torch.float64)
    for layer in network.double():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            none = layer(torch.zeros_like(x))  # the bias alone
            rows = torch.eye(x.numel(), dtype=torch.float64)
            matrix = torch.stack([(layer(row.view_as(x)) - none)[0].flatten() for row in rows], 1)
            total += math.log(float(torch.linalg.svdvals(matrix.detach())[0]))
        x = layer(x)
    assert complexity.spectral(conv(), shape) == pytest.approx(total, abs=1e-4)


def test_a_layer_that_is_used_twice_counts_twice():
    twice = nn.Linear(3, 3)
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), twice, nn.ReLU(), twice)
    first, again = (float(torch.linalg.matrix_norm(layer.weight.double(), ord=2)) for layer in (network[0], twice))
    assert complexity.spectral(network, (4,)) == pytest.approx(math.log(first) + 2 * math.log(again), abs=1e-9)


def test_norms_refuse_layers_that_they_do_not_know():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval()
    for norm in (complexity.path_norm, complexity.spectral):
        with pytest.raises(UserError, match="layer '1' is a BatchNorm1d"):
            norm(network, (4,))
    with pytest.raises(UserError, match="no linear"):
        complexity.spectral(nn.Flatten(), (4,))


def test_margin_is_a_quantile_over_examples():
    network, x = dense(5), torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(40) % 3
    logits = network(x).detach().double()
    each = [
        float(row[label] - max(row[k] for k in range(3) if k != label)) for row, label in zip(logits, y, strict=True)
    ]
    assert complexity.margin(network, x, y) == pytest.approx(float(torch.tensor(each).double().quantile(0.1)))
    assert complexity.margin(network, x, y, quantile=1) == pytest.approx(max(each))
    for wrong, told in ((-0.1, "quantile is -0.1"), (2, "quantile is 2")):
        with pytest.raises(UserError, match=told):
            complexity.margin(network, x, y, quantile=wrong)


def test_sharpness_of_small_noise_is_half_the_weighted_trace_of_the_hessian():
    """E L(w(1 + σξ)) − L(w) = ½ σ² Σ w² ∂²L/∂w² + O(σ⁴): of a linear network, whose Hessian is known."""
    x, y = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)).double(), torch.arange(30) % 3
    network = nn.Linear(4, 3).double()
    torch.manual_seed(0)
    nn.init.normal_(network.weight)
    flat = torch.cat([network.weight.detach().flatten(), network.bias.detach()])

    def loss(values: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(x @ values[:12].view(3, 4).T + values[12:], y)

    hessian = torch.func.hessian(loss)(flat)
    expected = 0.5 * 1e-4 * float((flat.square() * hessian.diagonal()).sum())
    found = complexity.sharpness(network, x, y, sigma=0.01, draws=2000)
    assert found == pytest.approx(expected, rel=0.05)
    before = network.weight.detach().clone()
    assert complexity.sharpness(network, x, y) == complexity.sharpness(network, x, y)
    assert torch.equal(network.weight, before)


def test_gradient_noise_is_that_of_the_gradients():
    network, x = dense(5), torch.randn(12, 4, generator=torch.Generator().manual_seed(2))
    y = torch.arange(12) % 3
    rows = []
    for i in range(12):
        loss = F.cross_entropy(network(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(network.parameters()))]))
    gradients = torch.stack(rows).double()
    expected = float(gradients.var(0).sum() / gradients.mean(0).square().sum())
    gram = gradient_gram(network, x, y)
    assert isinstance(gram, torch.Tensor)
    assert complexity.gradient_noise(gram) == pytest.approx(expected, rel=1e-4)
    assert complexity.gradient_noise(torch.ones(3, 3)) == pytest.approx(0, abs=1e-12)
    assert complexity.gradient_noise(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])) == math.inf
    with pytest.raises(UserError, match="at least two"):
        complexity.gradient_noise(torch.ones(1, 1))


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


X, Y = torch.eye(4), torch.tensor([0, 1, 2, 0])
TWO = Net(lambda s, x: (s.out(x), x), out=nn.Linear(4, 3))
GRAM = torch.ones(3, 3)
test_what_would_pass_for_a_number_is_refused = refused(
    {
        "a start that moves": (
            lambda: complexity.distance(TWO, TWO.state_dict()),
            "is that of the network, and moves with it: keep copies",
        ),
        "weights of parameters": (
            lambda: complexity.frobenius(parametrizations.weight_norm(nn.Linear(3, 3))),
            r"layer '' \(ParametrizedLinear\) computes its weights from other parameters",
        ),
        "weights of parameters, moved": (
            lambda: complexity.distance(nn.Sequential(parametrizations.orthogonal(nn.Linear(3, 3))), {}),
            "layer '0' .* computes its weights from other parameters",
        ),
        "weights of an older norm": (
            lambda: complexity.frobenius(nn.utils.spectral_norm(nn.Linear(3, 3))),
            "computes its weights from other parameters",
        ),
        "a sequence of its own": (lambda: complexity.path_norm(Residual(nn.Linear(4, 4)), (4,)), "it is a Residual"),
        "a margin of NaN": (lambda: complexity.margin(dense(5), X * torch.nan, Y), "the network gives NaN"),
        "a margin of a tuple": (lambda: complexity.margin(TWO, X, Y), "the network gives tuple for 4 examples"),
        "a margin of no class": (lambda: complexity.margin(dense(5), X, Y + 1), "labels span 1 to 3, expected 0 to 2"),
        "a margin of fewer labels": (lambda: complexity.margin(dense(5), X, Y[:2]), "x has 4 examples and y 2"),
        "a sharpness of NaN": (lambda: complexity.sharpness(dense(5), X * torch.nan, Y), "the network gives NaN"),
        "a noise of NaN": (lambda: complexity.gradient_noise(GRAM * torch.nan), "values that are not finite"),
        "a noise of a part": (lambda: complexity.gradient_noise(GRAM[:2]), r"is \[2, 3\], expected \[n, n\]"),
        "a noise of layers": (
            lambda: complexity.gradient_noise({"0": GRAM}),
            "is dict, .* of layers take one",
        ),
    }
)


def test_the_spectral_norm_of_a_network_with_a_layer_of_zeros_is_zero():
    network = dense(5)
    nn.init.zeros_(next(network.parameters()))
    assert complexity.spectral(network, (4,)) == -math.inf
