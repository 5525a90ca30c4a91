"""Kernel regression against dense solves, refits without one example, and what does not fit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn_lite.errors import UserError
from gendyn_lite.measures import capacity
from gendyn_lite.measures.capacity import KernelFactor, choose_width, kernel_regression, kernels
from gendyn_lite.measures.capacity.gram import Cholesky, triangle_bytes
from gendyn_lite.measures.per_example import checks as memory
from tests.measures.networks import refused

CPU = {"device": "cpu"}


def data(n: int = 60, d: int = 3, k: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, dtype=torch.float64, generator=generator), torch.randint(0, k, (n,), generator=generator)


def dense_gram(a: torch.Tensor, b: torch.Tensor, width: float) -> torch.Tensor:
    """The slow, obvious twin."""
    return torch.exp(-(a[:, None] - b[None]).square().sum(-1) / (2 * width**2))


@pytest.mark.parametrize("block", [1, 7, 60, 1000], ids=lambda b: f"block={b}")
@pytest.mark.parametrize("ridge", [0.0, 0.3], ids=lambda r: f"ridge={r}")
@pytest.mark.parametrize("n", [1, 2, 60], ids=lambda n: f"n={n}")
def test_is_the_dense_solution(n, ridge, block, monkeypatch):
    monkeypatch.setitem(kernels.BLOCK, "cpu", block)
    x, y = data(n)
    if ridge > 0:
        x[-1] = x[0]  # which without a ridge is refused
    found = kernel_regression(x, y, width=0.8, ridge=ridge, num_classes=4, **CPU)
    gram, targets = dense_gram(x, x, 0.8), torch.nn.functional.one_hot(y, 4).double()
    alpha = torch.linalg.solve(gram + ridge * torch.eye(n).double(), targets)
    torch.testing.assert_close(found.alpha, alpha, rtol=1e-8, atol=1e-8)
    new = data(23, seed=1)[0]
    torch.testing.assert_close(found.predict(new), dense_gram(new, x, 0.8) @ alpha, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.squared_norm, (alpha * (gram @ alpha)).sum(), rtol=1e-8, atol=1e-8)


def test_real_targets_keep_their_shape():
    x, _ = data(30)
    for y in (x[:, 0], x[:, :2]):
        assert kernel_regression(x, y, width=1.0, **CPU).predict(x).shape == y.shape


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e5])
def test_the_kernel_is_the_same_far_from_the_origin_in_float32(offset):
    a, b = (torch.randn(size, 5, generator=torch.Generator().manual_seed(size)) + offset for size in (30, 40))
    exact = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist").square().mul(-0.5).exp()
    torch.testing.assert_close(capacity.gaussian_kernel(a, b, 1.0).double(), exact, rtol=2e-5, atol=1e-7)


def test_pixels_are_scaled_once():
    x = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = data(20)[1]
    from_bytes, from_floats = (kernel_regression(inputs, y, width=1.0, **CPU) for inputs in (x, x / 255.0))
    torch.testing.assert_close(from_bytes.predict(x), from_floats.predict(x / 255.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 0.5], ids=lambda r: f"ridge={r}")
def test_leave_one_out_is_every_refit(ridge):
    x, y = data(25)
    found = KernelFactor(x, width=0.7, ridge=ridge, **CPU).leave_one_out(y, num_classes=4)
    for i in range(len(x)):
        keep = torch.arange(len(x)) != i
        refit = kernel_regression(x[keep], y[keep], width=0.7, ridge=ridge, num_classes=4, **CPU)
        torch.testing.assert_close(found[i], refit.predict(x[i : i + 1])[0], rtol=1e-7, atol=1e-7)


def test_width_is_the_best_of_the_rows_on_the_training_set_alone():
    x, _ = data(100, d=2)
    choice, few = (choose_width(x, (x.norm(dim=1) > 1).long(), ridge=1e-3, max_points=n, **CPU) for n in (100, 30))
    assert choice.median_distance == pytest.approx(float(torch.pdist(x).median())) != few.median_distance
    losses = {row["width"]: row["loss"] for row in choice.rows}
    assert choice.width == min(losses, key=losses.get)
    for row in choice.rows:
        assert row["width"] == pytest.approx(row["factor"] * choice.median_distance)


def test_singular_widths_are_skipped_and_shown():
    x = torch.linspace(0, 1, 60)[:, None].double()
    choice = choose_width(x, x[:, 0].sin(), factors=(0.01, 100.0), **CPU)
    assert math.isnan(choice.rows[1]["loss"]) and choice.width == choice.rows[0]["width"]
    with pytest.raises(UserError, match="no width gives a Gram matrix that is regular"):
        choose_width(x, x[:, 0].sin(), factors=(100.0,), **CPU)


X, Y, SINGULAR = *data(), torch.linspace(0, 1, 50)[:, None]
X3, Y3 = torch.rand(3, 2), torch.zeros(3, dtype=torch.int64)
REFUSED = {
    "zero": (X, Y, {"width": 0.0}, "width is 0.0, expected a number above 0"),
    "ridge": (X, Y, {"ridge": -0.1}, "ridge is -0.1, expected a finite number of at least 0"),
    "classes": (X, Y, {"num_classes": 2}, r"labels lie in \[0, 3\], expected classes in \[0, 2\)"),
    "many-classes": (X, Y, {"num_classes": 10**12}, "a column for each of 10+ classes of 60 labels takes"),
    "large-label": (X3, Y3 + 10**12, {}, "a column for each of 10+1 classes of 3 labels .*number the classes 0, 1"),
    "n=0": (X[:0], Y[:0], {}, "n ≥ 1"),
    "float-labels": (X3, X3[:, 0], {"num_classes": 3}, "labels are float32, expected integers"),
    "column": (X3, Y3[:, None], {}, r"labels are int64 of shape \(3, 1\), expected integers \[n\]"),
    "equal": (X[[0, 1, 2, 1]], Y[:4], {}, r"equal points make the Gram matrix singular: 1 = 3 \(indices\)"),
    "singular": (SINGULAR, SINGULAR[:, 0], {"width": 10.0}, r"singular to float64 at point \d+: .* ridge > 0"),
}


FITTED = kernel_regression(X, X[:, 0], width=1.0, **CPU)
CALLS = {
    name: (kernel_regression, (x, y), {"width": 1.0, **options, **CPU}, message)
    for name, (x, y, options, message) in REFUSED.items()
}
CALLS["real targets"] = lambda: FITTED.classify(X), "fitted to real targets"
CALLS["dimensions"] = lambda: FITTED.predict(X[:, :2]), "x has 2 dimensions, expected the 3"
test_bad_input_gets_one_line = refused(CALLS)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([-0.1, -0.0, 0.0, 0.1, 0.2]), min_size=1, max_size=20))
def test_duplicates_are_all_pairs(values):
    x = torch.tensor(values, dtype=torch.float64)[:, None]
    found = {(i, j) for group in capacity.duplicates(x) for i in group for j in group if i < j}
    assert found == {(i, j) for j in range(len(values)) for i in range(j) if values[i] == values[j]}


@pytest.mark.parametrize(("n", "block"), [(1, 5), (50, 8), (100, 100)], ids=str)
def test_the_triangle_takes_what_is_stated(n, block):
    factor = Cholesky(lambda start, stop: torch.eye(n, dtype=torch.float64)[start:stop, :stop].clone(), n, block=block)
    held = sum(rows.numel() * 8 for rows in factor.blocks)
    assert held <= triangle_bytes(n, block) <= held + 8 * 4 * min(block, n) ** 2


def test_nothing_is_allocated_before_the_refusal(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 10**9)
    x = torch.zeros(1, 1).expand(100_000, 1)
    message = r"Gram matrix of 100,000 points in float64 takes 4\d\.\d GB, 1.0 GB are free on cpu: take at most \d+"
    with pytest.raises(UserError, match=message):
        kernel_regression(x, torch.zeros(100_000).long(), width=1.0, **CPU)
