"""Conjugate gradients and ridge paths against direct solvers; mini-batches against the solution of smallest norm."""

from __future__ import annotations

import pytest
import torch

from gendyn_lite.errors import Failed, UserError
from gendyn_lite.measures import capacity
from gendyn_lite.measures.capacity import conjugate


def points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize(("n", "rows", "centres"), [(1, 4, 5), (7, 4, 3), (300, 64, 50), (300, 300, 300)])
def test_conjugate_gradients_find_what_the_factor_finds(n, rows, centres, ridge, monkeypatch):
    monkeypatch.setattr(conjugate, "ROWS", rows)
    x, y = points(n, 20), torch.arange(n) % 3
    options = {"width": 3.0, "ridge": ridge, "num_classes": 3}
    exact = capacity.kernel_regression(x, y, device="cpu", **options)
    found = capacity.conjugate_gradient_regression(x, y, tolerance=1e-5, centres=centres, **options)
    new = points(20, 20, seed=1)
    torch.testing.assert_close(found.predict(new), exact.predict(new), atol=1e-3, rtol=0)
    assert float(found.squared_norm) == pytest.approx(float(exact.squared_norm), rel=1e-3)
    residual = found.predict(x) + ridge * found.alpha - torch.nn.functional.one_hot(y, 3)
    assert residual.norm() < 1e-4 * n**0.5


def test_a_kernel_too_smooth_for_float32_is_not_passed_off_as_fitted():
    x, y = points(300, 2), torch.arange(300) % 3
    with pytest.raises(Failed, match="steps leave"):
        capacity.conjugate_gradient_regression(x, y, width=1.5, tolerance=1e-3, centres=50, most_steps=100)


def test_a_regression_that_does_not_get_there_says_so():
    x = points(100, 1)
    with pytest.raises(Failed, match=r"2 steps leave .* expected 1e-06: take a ridge or more centres"):
        capacity.conjugate_gradient_regression(
            x, torch.arange(100) % 2, width=3.0, tolerance=1e-6, centres=1, most_steps=2
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.0}, "width"),
        ({"tolerance": 2.0}, "tolerance is 2"),
        ({"centres": 0}, "centres"),
        ({"ridge": -1}, "ridge"),
    ],
)
def test_conjugate_gradients_refuse(options, message):
    with pytest.raises(UserError, match=message):
        capacity.conjugate_gradient_regression(points(5, 2), torch.arange(5) % 2, **{"width": 1.0, **options})


def test_conjugate_gradients_name_equal_points():
    x = points(6, 2)
    x[4] = x[1]
    with pytest.raises(UserError, match="1 = 4"):
        capacity.conjugate_gradient_regression(x, torch.arange(6) % 2, width=1.0)


@pytest.mark.parametrize("p", [3, 10, 11, 40], ids=lambda p: f"{p} features of 10 examples")
def test_a_ridge_path_is_least_squares_on_the_features(p):
    x, y = points(10, p), torch.arange(10) % 3
    onehot = torch.nn.functional.one_hot(y).double()
    for found in capacity.ridge_path(x @ x.T, y, [0.0, 1e-3, 2.0]):
        weights = x.T @ found.alpha
        if found.ridge:
            direct = torch.linalg.solve(x.T @ x + found.ridge * torch.eye(p, dtype=torch.float64), x.T @ onehot)
        else:
            direct = torch.linalg.pinv(x) @ onehot
        torch.testing.assert_close(weights, direct, atol=1e-7, rtol=1e-6)
        assert found.squared_norm == pytest.approx(float(direct.square().sum()), rel=1e-6)


def test_scaled_features_with_a_scaled_ridge_give_the_same_outputs():
    x, y = points(12, 30), torch.arange(12) % 2
    one, other = (capacity.ridge_path(c * c * x @ x.T, y, [0.0, 0.3 * c * c]) for c in (1.0, 7.0))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(x @ x.T @ a.alpha, 49 * x @ x.T @ b.alpha)
        assert a.squared_norm == pytest.approx(49 * b.squared_norm)  # and so a norm alone says nothing


@pytest.mark.parametrize(
    ("gram", "ridges", "message"),
    [
        (torch.ones(2, 3), [0.0], r"shape \(2, 3\), expected a symmetric"),
        (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), [0.0], "symmetric"),
        (torch.zeros(2, 2), [0.0], "gram is zero"),
        (torch.eye(2), [-1.0], "ridge is -1"),
        (torch.eye(3), [0.0], "holds 3 points"),
    ],
)
def test_a_ridge_path_refuses(gram, ridges, message):
    with pytest.raises(UserError, match=message):
        capacity.ridge_path(gram, torch.tensor([0, 1]), ridges)


@pytest.mark.parametrize("batch_size", [1, 3, 8, None])
def test_mini_batches_reach_the_minimum_norm_and_keep_what_lies_outside(batch_size):
    x, y = points(8, 12), points(8, 2, seed=1)
    options = {"steps": 8000, "batch_size": batch_size}
    assert capacity.gradient_descent_from_zero(x, y, **options).rows[-1]["relative_distance"] < 1e-6
    start = points(12, 2, seed=2)
    path = capacity.gradient_descent_from_zero(x, y, start=start, **options)
    outside = start - torch.linalg.pinv(x) @ (x @ start)
    assert path.rows[-1]["distance"] == pytest.approx(float(outside.norm()), rel=1e-6)


def test_an_epoch_of_mini_batches_takes_each_example_once():
    x, y = torch.eye(5, dtype=torch.float64), torch.arange(5.0)
    path = capacity.gradient_descent_from_zero(x, y, steps=3, batch_size=2, learning_rate=1.0, seed=3)
    assert sorted(path.weights.tolist()) == pytest.approx([0.0, *sorted(path.weights.tolist())[1:]])
    assert (path.weights != 0).sum() == 4 and path.weights[4] in (2.0, 4.0)  # the last batch has one example


def test_a_batch_of_all_examples_is_gradient_descent_at_the_same_rate():
    x, y = points(6, 9), points(6, 1, seed=1)
    one = capacity.gradient_descent_from_zero(x, y, steps=20, batch_size=6, learning_rate=0.1)
    all_at_once = capacity.gradient_descent_from_zero(x, y, steps=20, learning_rate=0.1)
    torch.testing.assert_close(one.weights, all_at_once.weights)


def test_mini_batches_refuse():
    x, y = points(6, 9), points(6, 1, seed=1)
    with pytest.raises(UserError, match=r"batch_size is 7, expected .* the number of points"):
        capacity.gradient_descent_from_zero(x, y, batch_size=7)
    with pytest.raises(UserError, match="diverged at step"):
        capacity.gradient_descent_from_zero(x, y, steps=2000, batch_size=2, learning_rate=50.0)
