"""Theorem 1 of Zhang et al. 2017 against the dense triangular system and rational sums, and at n = 10,000."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn_lite.measures.capacity import memorizing_network
from gendyn_lite.measures.capacity.exact import PROJECTION_BITS, exact_cumsum, exact_projection
from tests.measures.networks import check_refused, refused


def points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def classes(n: int, k: int = 10, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, k, (n,), generator=torch.Generator().manual_seed(seed))


TORN = torch.tensor([0.0, 1.0, 0.0, 1.0, 2.0, 0.0])[:, None]


def dense_hinges(z: torch.Tensor, biases: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The slow, obvious twin: the n × m matrix max(z_i − b_j, 0) times w."""
    return (z[:, None] - biases).clamp(min=0) @ weights


SIZES = [(1, 1), (1, 4), (2, 1), (5, 1), (7, 3), (60, 20), (300, 2)]


@pytest.mark.parametrize(("n", "d", "depth"), [(n, d, k) for n, d in SIZES for k in (2, 3, 6) if k - 1 <= n])
@pytest.mark.parametrize("kind", ["classes", "real"])
def test_fits_every_label(n, d, depth, kind):
    x, y = points(n, d), classes(n) if kind == "classes" else 1e3 * points(n, 1, seed=2)[:, 0]
    net = memorizing_network(x, y, depth=depth)
    assert (net(x) - y).abs().max() < 1e-11 * max(1, float(y.abs().max()))
    assert net.residual == (net(x) - y.double()).abs().max()
    if kind == "classes":
        assert torch.equal(net.classify(x), y)
    if depth == 2:
        assert sum(parameter.numel() for parameter in net.parameters()) == 2 * n + d and net.widths == (n,)


@pytest.mark.parametrize("d", [1, 2, 784], ids=lambda d: f"d={d}")
def test_residual_at_ten_thousand_points(d):
    x, y = points(10_000, d), classes(10_000)
    net = memorizing_network(x, y)
    assert (net(x) - y).abs().max() <= 1e-8
    # Again in other batches: the residual must not hang on one order of summation.
    assert (torch.cat([net(part) for part in x.split(999)]) - y).abs().max() <= 1e-8


def test_solves_the_triangular_system():
    x, y = points(40, 3), torch.randn(40, dtype=torch.float64)
    net = memorizing_network(x, y)
    z, order = net.project(x).sort()
    biases, weights = net.biases[0], net.weights[0]
    assert torch.all(biases < z) and torch.all(biases[1:] > z[:-1])  # b_1 < z_1 < b_2 < z_2 < …
    matrix = (z[:, None] - biases).clamp(min=0)
    assert torch.equal(matrix, matrix.tril())
    wanted = torch.linalg.solve_triangular(matrix, y[order][:, None], upper=False).squeeze(1)
    torch.testing.assert_close(weights.data, wanted.data, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("depth", [2, 3, 4, 11], ids=lambda k: f"depth={k}")
def test_every_depth_is_the_same_function_and_the_sum_of_its_layers(depth):
    n, new = 50, 3 * points(200, 3, seed=1)
    x, y = points(n, 3), classes(n)
    net = memorizing_network(x, y, depth=depth)
    assert len(net.widths) == depth - 1 and max(net.widths) <= math.ceil(n / (depth - 1)) + 5
    carried = [2 * (layer > 0) + 2 * (layer < depth - 2) for layer in range(depth - 1)]
    assert net.widths == tuple(len(b) + more for b, more in zip(net.biases, carried, strict=True))
    layers = [dense_hinges(new @ net.projection, b, w) for b, w in zip(net.biases, net.weights, strict=True)]
    torch.testing.assert_close(sum(layers), net(new), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(net(new), memorizing_network(x, y)(new), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net(new[:1]), net(new)[:1])


def test_gradients_are_those_of_the_plain_network():
    x, y = points(20, 3), classes(20)
    net = memorizing_network(x, y)
    new = points(10, 3, seed=5).requires_grad_()
    net(new).square().sum().backward()
    found = [new.grad, *(parameter.grad for parameter in net.parameters())]
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (new, *net.parameters())]
    dense_hinges(leaves[0] @ leaves[1], leaves[2], leaves[3]).square().sum().backward()
    for got, leaf in zip(found, leaves, strict=True):
        torch.testing.assert_close(got, leaf.grad, rtol=1e-6, atol=1e-6)


def test_equal_points_with_equal_labels_are_one_point():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    net = memorizing_network(x, torch.tensor([1, 0, 1]))
    assert sum(parameter.numel() for parameter in net.parameters()) == 2 * 2 + 2
    assert net.classify(x).tolist() == [1, 0, 1]


def test_equal_projections_are_redrawn(monkeypatch):
    drawn, draw = [], torch.randint

    def first_draw_is_bad(*args, **options):
        drawn.append(torch.tensor([0, 2**25]) if not drawn else draw(*args, **options))
        return drawn[-1]

    monkeypatch.setattr(torch, "randint", first_draw_is_bad)
    x = torch.tensor([[1.0, 2.0], [5.0, 2.0], [0.0, 1.0]])  # ⟨(0, 1), x⟩ is 2 twice
    net = memorizing_network(x, torch.tensor([0, 1, 2]))
    assert len(drawn) == 2
    assert net.classify(x).tolist() == [0, 1, 2]


def test_projections_that_stay_equal_are_refused(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda *args, **options: torch.tensor([0, 2**25]))
    x = torch.tensor([[0.0, 1.0], [1.0, 2.0], [5.0, 2.0]])
    message = r"no projection of 4 .* points 1 and 2 lie too close \(residual inf"
    check_refused(memorizing_network, message, x, torch.tensor([0, 1, 2]), draws=4)


def test_points_too_close_for_float64_are_refused_by_name():
    x = torch.tensor([[0.0], [1.0], [1.0 + 2.0**-52], [1.0 + 2.0**-50], [2.0], [900.0]], dtype=torch.float64)
    y = torch.tensor([0.1, 1e3 / 7, -1e3 / 7, 1e3 / 3, 0.3, 5.0], dtype=torch.float64)
    message = r"no projection of 1 tells all 6 points apart .* points \d and \d lie too close"
    check_refused(memorizing_network, message, x, y)


REFUSED = {
    "n=0": (torch.empty(0, 3), torch.empty(0), {}, r"n ≥ 1"),
    "scalar": (torch.tensor(1.0), torch.tensor([1]), {}, r"expected \[n, ...\]"),
    "d=0": (torch.empty(2, 0), torch.zeros(2), {}, "have no dimension"),
    "list": ([[1.0]], torch.zeros(1), {}, "x is a list, expected a tensor"),
    "nan": (torch.tensor([[0.0], [math.nan]]), torch.zeros(2), {}, r"x\[1\] is not finite"),
    "length": (torch.rand(3, 2), torch.zeros(2), {}, r"x holds 3 points and y has shape \(2,\)"),
    "2-d-y": (torch.rand(3, 2), torch.zeros(3, 2), {}, r"labels of shape \(3, 2\)"),
    "inf-y": (torch.rand(2, 2), torch.tensor([0.0, math.inf]), {}, "expected finite numbers"),
    "negative": (torch.rand(2, 2), torch.tensor([0, -1]), {}, r"labels lie in \[-1, 0\]"),
    "torn": (TORN, torch.tensor([0, 1, 1, 0, 0, 0]), {}, r"equal points have different labels: 0 = 2 = 5, 1 = 3 \(ind"),
    "depth=1": (torch.rand(3, 2), torch.zeros(3), {"depth": 1}, "depth is 1, expected a whole number from 2 to 4"),
    "too-deep": (torch.rand(3, 2), torch.zeros(3), {"depth": 5}, "depth is 5, .* from 2 to 4 for 3 distinct points"),
}
CALLS = {name: (memorizing_network, (x, y), *rest) for name, (x, y, *rest) in REFUSED.items()}
NET = memorizing_network(points(5, 3), classes(5))
CALLS["dimensions"] = NET, (points(5, 2),), {}, "points have 2 dimensions, expected the 3"
test_bad_input_gets_one_line = refused(CALLS)


FLOATS = st.floats(-1e12, 1e12, allow_subnormal=False).map(lambda value: 0.0 if abs(value) < 1e-30 else value)


def rational_dot(x: torch.Tensor, a: torch.Tensor) -> list[float]:
    return [float(sum(Fraction(u) * Fraction(v) for u, v in zip(row, a.tolist(), strict=True))) for row in x.tolist()]


@pytest.mark.parametrize("d", [1, 2, 17, 784, 3000], ids=lambda d: f"d={d}")
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9], ids=lambda s: f"scale={s:g}")
def test_projection_is_the_rational_one_rounded_once(d, scale):
    generator, limit = torch.Generator().manual_seed(d), 2**PROJECTION_BITS
    x = scale * torch.randn(8, d, dtype=torch.float64, generator=generator)
    a = torch.randint(-limit, limit + 1, (d,), generator=generator).double() / limit
    assert exact_projection(x, a).tolist() == rational_dot(x, a)


def test_projection_of_cancelling_terms_is_exact():
    x = torch.tensor([[1e15, -1e15, 1e-3], [1.0, -1.0, 1e-16]], dtype=torch.float64)
    a = torch.tensor([0.5, 0.5, 0.75], dtype=torch.float64)
    assert exact_projection(x, a).tolist() == rational_dot(x, a)


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_cumsum_is_the_rational_one(values):
    x = torch.tensor(values, dtype=torch.float64)
    total, wanted = Fraction(0), []
    for value in x.tolist():
        total += Fraction(value)
        wanted.append(float(total))
    allowed = 2.0**-80 * float(x.abs().max()) * len(values)
    for got, want in zip(exact_cumsum(x).tolist(), wanted, strict=True):
        assert abs(got - want) <= allowed + 2.0**-52 * abs(want)


@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e-25, 1e25, 1e300])
def test_numbers_that_float32_cannot_hold(value):
    x = torch.tensor([value, value / 3, -value], dtype=torch.float64)
    wanted = [float(sum(map(Fraction, x.tolist()[:count]))) for count in (1, 2, 3)]
    torch.testing.assert_close(exact_cumsum(x).tolist(), wanted, rtol=1e-15, atol=0.0)
