"""Refined solutions and ridge paths against direct solvers; mini-batches against the solution of smallest norm."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from gendyn_lite.errors import Failed, UserError
from gendyn_lite.measures import capacity
from gendyn_lite.measures.capacity import kernels
from tests.measures.capacity.test_memorize import points
from tests.measures.networks import refused


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize(("n", "rows"), [(1, 4), (7, 4), (300, 64), (300, 300)])
def test_a_refined_solution_is_what_the_factor_in_float64_gives(n, rows, ridge, monkeypatch):
    monkeypatch.setitem(kernels.BLOCK, "cpu", rows)
    x, y = points(n, 20), torch.arange(n) % 3
    options = {"width": 3.0, "ridge": ridge, "num_classes": 3, "device": "cpu"}
    exact = capacity.kernel_regression(x, y, **options)
    found = capacity.kernel_regression(x, y, tolerance=1e-8, **options)
    new = points(20, 20, seed=1)
    torch.testing.assert_close(found.predict(new), exact.predict(new), atol=1e-6, rtol=0)
    assert float(found.squared_norm) == pytest.approx(float(exact.squared_norm), rel=1e-6)
    residual = found.predict(x) + ridge * found.alpha - torch.nn.functional.one_hot(y, 3)
    assert residual.norm() < 1e-8 * n**0.5
    assert found.alpha.dtype == torch.float64


@pytest.mark.parametrize(("width", "message"), [(1.5, "singular to float32 at point"), (0.1, "solutions in float32")])
def test_a_kernel_too_smooth_for_float32_is_not_passed_off_as_fitted(width, message):
    x, y = points(300, 2), torch.arange(300) % 3
    with pytest.raises((UserError, Failed), match=message):
        capacity.kernel_regression(x, y, width=width, tolerance=1e-18, device="cpu")


def test_real_targets_of_one_column_are_refined_too():
    x = torch.linspace(0, 6, 50)[:, None]
    found = capacity.kernel_regression(x, x.sin()[:, 0], width=0.1, tolerance=1e-6, device="cpu")
    assert found.predict(x).shape == (50,) and (found.predict(x) - x.sin()[:, 0]).abs().max() < 1e-5


def test_targets_of_any_size_are_fitted():
    x = points(20, 3)
    found = capacity.kernel_regression(x, x[:, 0] * 1e-170, width=1.0, tolerance=1e-9, device="cpu")
    torch.testing.assert_close(found.predict(x) * 1e170, x[:, 0], rtol=1e-6, atol=1e-6)


def test_points_in_two_far_places_keep_their_distances():
    near = torch.arange(4.0, dtype=torch.float64)
    x = torch.cat([near - 3e7, near + 3e7])[:, None]
    here = capacity.kernel_regression(near[:, None], near.sin(), width=0.7, device="cpu")
    found = capacity.kernel_regression(x, near.sin().repeat(2), width=0.7, device="cpu")
    torch.testing.assert_close(found.predict(x + 0.5), here.predict(near[:, None] + 0.5).repeat(2))
    with pytest.raises(UserError, match="singular to float32"):  # which cannot tell such points apart
        capacity.kernel_regression(x, near.sin().repeat(2), width=0.7, tolerance=1e-9, device="cpu")


def test_inputs_that_require_a_gradient_are_points_too():
    x = points(9, 2).requires_grad_()
    found = capacity.kernel_regression(x, x[:, 0], width=1.0, device="cpu")
    torch.testing.assert_close(found.predict(x), x.detach()[:, 0])


def test_leaving_an_example_out_needs_float64():
    factor = capacity.KernelFactor(points(20, 3), width=1.0, tolerance=1e-6, device="cpu")
    with pytest.raises(UserError, match=r"^leave-one-out predictions need the factor in float64: tolerance=None$"):
        factor.leave_one_out(torch.arange(20) % 2)


def smooth_images(n: int, side: int = 28, seed: int = 0) -> torch.Tensor:
    """Different images whose neighbouring pixels are alike, uint8 [n, 1, side, side]."""
    coarse = torch.rand(n, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    return (255 * torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")).to(torch.uint8)


def test_a_refined_solution_at_the_settings_of_the_published_run_is_the_factor():
    """Images of 784 pixels, ten classes, the kernel's chosen width, several blocks of rows, float32."""
    images = smooth_images(3200)
    y = torch.randint(10, (3200,), generator=torch.Generator().manual_seed(1))
    (x, y), new = (images[:3000], y[:3000]), images[3000:]
    width = capacity.choose_width(x, y, max_points=500, device="cpu").width
    exact = capacity.kernel_regression(x, y, width=width, num_classes=10, device="cpu")
    found = capacity.kernel_regression(x, y, width=width, num_classes=10, tolerance=0.003, device="cpu")
    left = found.predict(x) - torch.nn.functional.one_hot(y, 10)
    lengths = torch.nn.functional.one_hot(y, 10).double().norm(dim=0)
    assert float((left.norm(dim=0) / lengths).max()) < 0.003  # in float64, from the points
    assert (found.classify(x) == y).all()
    difference = (found.predict(new) - exact.predict(new)).norm() / exact.predict(new).norm()
    assert difference < 0.01
    assert float(found.squared_norm) == pytest.approx(float(exact.squared_norm), rel=0.01)


def test_it_is_the_true_residual_that_ends_the_refinement(monkeypatch):
    """A factor that is wrong by a little, as rounding makes it, and one that is wrong by much."""
    x, y = points(300, 20), torch.arange(300) % 3
    plain, solved = kernels.Cholesky.solve, []
    monkeypatch.setattr(kernels.Cholesky, "solve", lambda *given: solved.append(1) or 1.01 * plain(*given))
    found = capacity.kernel_regression(x, y, width=3.0, tolerance=1e-5, device="cpu")
    left = found.predict(x) - torch.nn.functional.one_hot(y)
    assert left.norm(dim=0).max() < 1e-5 * 100**0.5 and len(solved) == 3  # it began again from what was left
    monkeypatch.setattr(kernels.Cholesky, "solve", lambda *given: 0.3 * plain(*given))
    with pytest.raises(Failed, match=r"after 1 solutions in float32, 0\.7 of the labels is left, expected 1e-05"):
        capacity.kernel_regression(x, y, width=3.0, tolerance=1e-5, device="cpu")


def least_squares(x: torch.Tensor, y: torch.Tensor, ridge: float) -> torch.Tensor:
    """The weights by solve on the features; without a ridge those of smallest norm, by lstsq."""
    if ridge:
        return torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y)
    return torch.linalg.lstsq(x, y, rcond=1e-9, driver="gelsd").solution


@pytest.mark.parametrize("p", [500, 1000, 2000], ids=lambda p: f"{p} features of 1,000 images")
def test_a_ridge_path_is_least_squares_at_the_size_of_the_published_runs(p):
    """Random filters, centred, below, at and above the threshold."""
    images = smooth_images(1100, side=14)
    conv = capacity.random_conv_features(images[:1000], round(p / 8), patch=4)
    every = conv(images) - conv(images[:1000]).mean(0)
    x, new = every[:1000], every[1000:]
    onehot = torch.nn.functional.one_hot(torch.randint(10, (1000,), generator=torch.Generator().manual_seed(1)), 10)
    y = onehot.double() - onehot.double().mean(0)
    gram = x @ x.T
    scale = float(gram.diagonal().mean())
    for found in capacity.ridge_path(gram, y, [0.0, 1e-4 * scale, 0.1 * scale, 100 * scale]):
        direct = least_squares(x, y, found.ridge)
        outputs, expected = new @ (x.T @ found.alpha), new @ direct
        assert float((outputs - expected).norm() / expected.norm()) < 1e-5
        assert found.squared_norm == pytest.approx(float(direct.square().sum()), rel=1e-4)


def test_a_ridge_path_of_a_kernel_is_the_solved_system_at_the_size_of_the_published_runs():
    x = smooth_images(1000).flatten(1).double() / 255
    y = torch.randint(10, (1000,), generator=torch.Generator().manual_seed(1))
    onehot, eye = torch.nn.functional.one_hot(y, 10).double(), torch.eye(1000, dtype=torch.float64)
    gram = capacity.gaussian_kernel(x, x, capacity.median_distance(x))
    gram = (gram + gram.T) / 2
    for found in capacity.ridge_path(gram, y, [0.0, 1e-4, 0.1, 100.0]):
        direct = torch.linalg.solve(gram + found.ridge * eye, onehot)
        torch.testing.assert_close(found.alpha, direct, rtol=1e-6, atol=1e-6 * float(direct.abs().max()))
        assert found.squared_norm == pytest.approx(float((direct * (gram @ direct)).sum()), rel=1e-6)


@pytest.mark.parametrize("p", [3, 10, 11, 40], ids=lambda p: f"{p} features of 10 examples")
def test_a_ridge_path_is_least_squares_on_the_features(p):
    x, y = points(10, p), torch.arange(10) % 3
    onehot = torch.nn.functional.one_hot(y).double()
    for found in capacity.ridge_path(x @ x.T, y, [0.0, 1e-3, 2.0]):
        weights = x.T @ found.alpha
        direct = least_squares(x, onehot, found.ridge)
        torch.testing.assert_close(weights, direct, atol=1e-7, rtol=1e-6)
        assert found.squared_norm == pytest.approx(float(direct.square().sum()), rel=1e-6)


def test_scaled_features_with_a_scaled_ridge_give_the_same_outputs():
    x, y = points(12, 30), torch.arange(12) % 2
    one, other = (capacity.ridge_path(c * c * x @ x.T, y, [0.0, 0.3 * c * c]) for c in (1.0, 7.0))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(x @ x.T @ a.alpha, 49 * x @ x.T @ b.alpha)
        assert a.squared_norm == pytest.approx(49 * b.squared_norm)  # and so a norm alone says nothing


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


KERNEL, DESCENT = partial(capacity.kernel_regression, tolerance=1e-6), capacity.gradient_descent_from_zero
PATH = capacity.ridge_path
FIVE, EQUAL, TWO = (points(5, 2), torch.arange(5) % 2), points(6, 2)[[0, 1, 2, 3, 1, 5]], torch.tensor([0, 1])
ROWS = points(6, 9), points(6, 1, seed=1)
REFUSED = {
    "width": (KERNEL, FIVE, {"width": 0.0}, "width"),
    "tolerance": (KERNEL, FIVE, {"width": 1.0, "tolerance": 2.0}, "tolerance is 2"),
    "no tolerance": (KERNEL, FIVE, {"width": 1.0, "tolerance": float("nan")}, "tolerance is nan"),
    "ridge": (KERNEL, FIVE, {"width": 1.0, "ridge": -1}, "ridge"),
    "equal points": (KERNEL, (EQUAL, torch.arange(6) % 2), {"width": 1.0}, "1 = 4"),
    "no targets": (KERNEL, (points(5, 2), torch.zeros(5, 0)), {"width": 1.0}, r"targets of shape \(5, 0\)"),
    "no square": (PATH, (torch.ones(2, 3), TWO, [0.0]), {}, r"shape \(2, 3\), expected a symmetric"),
    "not symmetric": (PATH, (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), TWO, [0.0]), {}, "symmetric"),
    "zero": (PATH, (torch.zeros(2, 2), TWO, [0.0]), {}, "gram is zero"),
    "ridge below 0": (PATH, (torch.eye(2), TWO, [-1.0]), {}, "ridge is -1"),
    "other points": (PATH, (torch.eye(3), TWO, [0.0]), {}, "holds 3 points"),
    "batch": (DESCENT, ROWS, {"batch_size": 7}, "batch_size is 7, expected .* the number of points"),
    "diverged": (DESCENT, ROWS, {"steps": 2000, "batch_size": 2, "learning_rate": 50.0}, "diverged at step"),
}


test_bad_input_gets_one_line = refused(REFUSED)
