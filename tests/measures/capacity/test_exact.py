"""Sums without rounding, against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn_lite.measures.capacity.exact import PROJECTION_BITS, cut, exact_cumsum, exact_projection, two_sum

FLOATS = st.floats(-1e12, 1e12, allow_subnormal=False).map(lambda value: 0.0 if abs(value) < 1e-30 else value)


def draw_projection(d: int, seed: int = 0) -> torch.Tensor:
    limit = 2**PROJECTION_BITS
    return torch.randint(-limit, limit + 1, (d,), generator=torch.Generator().manual_seed(seed)).double() / limit


def rational_dot(x: torch.Tensor, a: torch.Tensor) -> list[float]:
    return [float(sum(Fraction(u) * Fraction(v) for u, v in zip(row, a.tolist(), strict=True))) for row in x.tolist()]


@pytest.mark.parametrize("d", [1, 2, 17, 784, 3000], ids=lambda d: f"d={d}")
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9], ids=lambda s: f"scale={s:g}")
def test_projection_is_the_rational_one_rounded_once(d, scale):
    x = scale * torch.randn(8, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d))
    a = draw_projection(d)
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


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=10), st.integers(2, 40))
def test_cut_loses_nothing_and_keeps_few_bits(values, bits):
    x = torch.tensor(values, dtype=torch.float64)
    leading, rest = cut(x, bits)
    for whole, first, second in zip(x.tolist(), leading.tolist(), rest.tolist(), strict=True):
        assert Fraction(first) + Fraction(second) == Fraction(whole)
    if x.abs().max() > 0:
        assert rest.abs().max() <= x.abs().max() * 2.0 ** (1 - bits)


@given(FLOATS, FLOATS)
@settings(max_examples=100, deadline=None)
def test_two_sum_is_exact(a, b):
    total, error = two_sum(torch.tensor(a).double(), torch.tensor(b).double())
    a, b = float(torch.tensor(a).double()), float(torch.tensor(b).double())
    assert Fraction(float(total)) + Fraction(float(error)) == Fraction(a) + Fraction(b)
