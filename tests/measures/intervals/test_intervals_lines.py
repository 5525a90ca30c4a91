"""Pieces along a line, linear maps and norms, and the directions of the paper."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gendyn_lite.measures import intervals
from gendyn_lite.models import build
from tests.measures.intervals.test_intervals_exact import random_lines
from tests.measures.networks import refused


def net(widths, seed=0):
    return build("mlp", num_classes=3, in_shape=(4,), widths=widths, seed=seed).double()


def line(seed=0):
    return random_lines((4,), 1, seed)


def test_knots_of_one_hidden_layer_have_a_closed_form():
    model, (x, d) = net((50,)), line()
    weight, bias = model[1].weight.data, model[1].bias.data
    knots = -(x @ weight.T + bias) / (d @ weight.T)
    inside = knots[(knots > -1) & (knots < 2)].sort().values
    found = intervals.pieces(model, x, d)[0]
    assert found.regions == len(inside) + 1
    assert torch.allclose(found.alpha[1:-1], inside, rtol=0, atol=1e-12)
    assert found.alpha[0].item() == -1 and found.alpha[-1].item() == 2


@pytest.mark.parametrize("widths", [(8,), (16, 16), (10, 10, 10, 10)], ids=str)
def test_the_network_is_linear_on_every_piece_and_no_piece_is_missing(widths):
    model, (x, d) = net(widths), line(1)
    found = intervals.pieces(model, x, d)[0]
    assert torch.allclose(found.logits, model(x + found.alpha[:, None] * d), rtol=0, atol=1e-12)
    middles = model(x + found.middles[:, None] * d)
    assert torch.allclose(middles, (found.logits[1:] + found.logits[:-1]) / 2, rtol=0, atol=1e-12)
    # Brute force: activation patterns of many samples, each run of equal ones a region.
    h, patterns = x + torch.linspace(-1, 2, 40_001).double()[:, None] * d, []
    for layer in model:
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            patterns.append(h > 0)
    changes = (torch.cat(patterns, 1).diff(dim=0) != 0).any(1).sum()
    assert int(changes) <= found.regions - 1 <= int(changes) + 2  # two knots may lie between two samples


def test_linear_maps_are_the_products_of_the_gated_weights():
    model, (x, _) = net((7, 6)), line(2)
    first = model[1].weight * (model[1](x) > 0).T
    second = model[3].weight * (model[3](torch.relu(model[1](x))) > 0).T
    assert torch.allclose(intervals.linear_maps(model, x)[0], model[5].weight @ second @ first, rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_no_region_has_a_larger_norm_than_the_product_of_norms(seed):
    model, (x, d) = net((9, 8), seed), line(seed)
    found = intervals.pieces(model, x, d)[0]
    norms = intervals.infinity_norm(intervals.linear_maps(model, x + found.middles[:, None] * d))
    assert float(norms.max()) <= intervals.weight_norms(model).product * (1 + 1e-12)
    # What the norm is for: along the line no logit changes faster.
    steps = found.logits.diff(dim=0).abs().amax(1) / found.alpha.diff()
    assert bool((steps <= norms * d.abs().max() * (1 + 1e-9)).all())


Y = torch.tensor([10**12, 1, 10**12, 1, 10**12, 2])  # labels may be any numbers


@pytest.mark.parametrize("size", [2, 3], ids=lambda n: f"size={n}")
def test_tuples_share_a_label_and_differ(size):
    found, again, other = (intervals.same_class_tuples(Y, 500, size=size, seed=seed) for seed in (1, 1, 2))
    assert found.shape == (500, size)
    assert bool((Y[found] == Y[found[:, :1]]).all())
    assert all(len(set(row)) == size for row in found.tolist())
    assert torch.equal(found, again) and not torch.equal(found, other)
    assert bool((Y[intervals.same_class_tuples(Y, 50, label=1)] == 1).all())
    assert set(found.flatten().tolist()) == ({0, 1, 2, 3, 4} if size == 2 else {0, 2, 4})


def test_components_are_ordered_orthogonal_and_of_one_length():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator).double() * torch.tensor([0.1, 5.0, 1.0])
    assert intervals.pair_distance(x) == pytest.approx(float(torch.cdist(x, x).square().mean().sqrt()))
    found = intervals.components(x, length=2.0)
    assert torch.allclose(found @ found.T, 4 * torch.eye(3).double(), atol=1e-9)
    assert found.abs().argmax(1).tolist() == [1, 2, 0]
    assert intervals.components(x[:3]).shape == (2, 3)  # three points span a plane


def test_means_are_orthogonal_to_the_first_component():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 5, generator=generator).double(), torch.arange(60) % 3
    x[y == 1] += 2
    found = intervals.between_means(x, y, 0, 1)
    assert abs(float(found @ intervals.components(x[y == 0], length=1.0)[0])) < 1e-9
    assert float(found.norm()) == pytest.approx(intervals.pair_distance(x[y == 0]))
    assert float(found @ (x[y == 1].mean(0) - x[y == 0].mean(0))) > 0


def test_random_directions_are_even():
    found = intervals.random_directions(torch.zeros(20_000, 3, dtype=torch.float64), length=1.0)
    assert torch.allclose(found.norm(dim=1), torch.ones(()).double())
    assert float(found.mean(0).abs().max()) < 0.02
    assert torch.allclose(found.T @ found / len(found), torch.eye(3).double() / 3, atol=0.01)


def test_weights_say_how_far_a_random_direction_moves_each_coordinate():
    """Of a Gaussian draw, so before the length is fixed: ratios of coordinates are those of the weights' draws."""
    weights = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    x = torch.zeros(20_000, 3, dtype=torch.float64)
    plain, found = (intervals.random_directions(x, length=1.0, seed=3, weights=given) for given in (None, weights))
    assert torch.allclose(found.norm(dim=1), torch.ones(()).double()) and bool((found[:, 0] == 0).all())
    assert torch.allclose(found[:, 2] / found[:, 1], 2 * plain[:, 2] / plain[:, 1])


def test_random_directions_of_a_basis_are_even_in_its_span():
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(4, 1, 2, 5, generator=generator, dtype=torch.float64) * torch.arange(1, 6)
    basis = intervals.components(own)
    found = intervals.random_directions(torch.zeros(20_000, 1, 2, 5).double(), length=2.0, basis=basis)
    flat, axes = found.flatten(1), basis.flatten(1) / intervals.pair_distance(own)
    assert torch.allclose(flat.norm(dim=1), torch.full((), 2.0).double())
    along = flat @ axes.T / 2
    assert torch.allclose(along @ axes * 2, flat)  # nothing of it is outside the span
    assert torch.allclose(along.T @ along / len(along), torch.eye(3).double() / 3, atol=0.01)


def test_adversarial_directions_end_soonest_on_a_linear_network():
    """There the distance to the boundary is margin / ‖w_rival − w_own‖, in no direction shorter."""
    torch.manual_seed(0)
    model = nn.Linear(6, 2).double()
    x = torch.randn(30, 6).double()
    d = intervals.adversarial_directions(model, x, length=1.0)
    logits, weight = model(x), model.weight
    distance = (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).norm()
    found = intervals.generalization_interval(model, x, d, low=-100.0, high=100.0)
    assert torch.allclose(found.upper, distance, rtol=1e-9)
    other = intervals.generalization_interval(
        model, x, intervals.random_directions(x, length=1.0), low=-100.0, high=100.0
    )
    assert bool((other.upper >= found.upper - 1e-12).all())


DEAD = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
DEAD[0].bias.data.fill_(-100)
TANH = build("mlp", num_classes=2, in_shape=(4,), activation="tanh").double()
STATISTICS = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.Flatten()).eval()
EIGHT, X34 = torch.randn(8, 3), torch.ones(1, 3, 4)
NO_LENGTH = "length is .*, expected a number above 0"
REFUSED = {
    "random": (intervals.random_directions, (EIGHT,), {"length": math.inf}, NO_LENGTH),
    "components": (intervals.components, (EIGHT,), {"length": 0.0}, NO_LENGTH),
    "means": (intervals.between_means, (EIGHT, torch.arange(8) % 2, 0, 1), {"length": "1"}, NO_LENGTH),
    "adversarial": (intervals.adversarial_directions, (nn.Linear(3, 2), EIGHT), {"length": math.nan}, NO_LENGTH),
    "smooth": (intervals.pieces, (TANH, *line()), {}, r"layer 'act1' \(Tanh\) is not piecewise linear: such a network"),
    "batch": (intervals.pieces, (STATISTICS, X34, X34), {}, "uses the statistics of the"),
    "convolution": (intervals.weight_norms, (STATISTICS,), {}, "layer '0' is a BatchNorm1d, expected a net"),
    "norms of nothing": (intervals.weight_norms, (nn.Sequential(nn.ReLU()),), {}, "the network has no Linear layer"),
    "few examples": (intervals.same_class_tuples, (Y, 1), {"label": 2}, "class 2 has 2 examples, needed for one tuple"),
    "many tuples": (intervals.same_class_tuples, (Y, 10**13), {}, "count is .*, expected a whole number from 0 to 1,0"),
    "few points": (intervals.components, (EIGHT[:2],), {}, "there are 2 points, expected at least 3"),
    "no gradient": (
        intervals.adversarial_directions,
        (DEAD, EIGHT),
        {"length": 1.0},
        r"points \[0, 1, .*\]: drop them",
    ),
}
UNEQUAL, NAN = torch.diag(torch.tensor([1.0, 9.0, 1.0])), torch.tensor([1.0, math.nan, 0.0])
RANDOM = [  # weights, a basis
    (torch.ones(3), torch.eye(3), "weights and a basis, expected one of them: leave the other out"),
    (torch.ones(8, 3), None, r"weights is \[8, 3\], expected finite numbers of the shape of one point, \[3\]"),
    (NAN, None, "weights holds NaN or infinity"),
    (torch.zeros(3), None, "are all zero"),
    (None, UNEQUAL, "not orthogonal and of one length"),
    (None, torch.eye(4), r"basis is \[4\], expected"),
    (None, torch.zeros(2, 3), "not orthogonal and of one length"),
]
for number, (weights, basis, told) in enumerate(RANDOM):
    options = {"length": 1.0, "weights": weights, "basis": basis}
    REFUSED[f"random {number}"] = intervals.random_directions, (EIGHT,), options, told


test_bad_input_gets_one_clear_line = refused(REFUSED)
