"""The minimum-norm solution, and that gradient descent from zero reaches it, against closed forms."""

from __future__ import annotations

import pytest
import torch

from gendyn_lite.measures.capacity import gradient_descent_from_zero, minimum_norm_solution
from tests.measures.networks import refused


def problem(n: int, d: int, k: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.randn(n, d + k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return both[:, :d], both[:, d:]


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 5), (5, 1), (10, 30), (30, 10), (20, 20)], ids=str)
def test_is_the_pseudo_inverse(n, d):
    x, y = problem(n, d, k=3)
    torch.testing.assert_close(minimum_norm_solution(x, y), torch.linalg.pinv(x) @ y)
    x, y = torch.cat([x, x]), torch.cat([y[:, 0], y[:, 1]])  # dependent rows, targets [n]
    torch.testing.assert_close(minimum_norm_solution(x, y), torch.linalg.pinv(x) @ y)
    zero = minimum_norm_solution(torch.zeros_like(x), torch.arange(len(x)) % 2)
    assert zero.tolist() == [[0.0, 0.0]] * d


@pytest.mark.parametrize(("n", "d"), [(8, 20), (20, 8)], ids=["interpolating", "least squares"])
def test_descent_is_the_closed_form_at_every_step(n, d):
    x, y = problem(n, d)
    path = gradient_descent_from_zero(x, y, steps=40, records=40, learning_rate=0.05)
    best = torch.linalg.pinv(x) @ y
    shrink = torch.eye(d).double() - 0.05 * x.T @ x / n
    for row in path.rows:
        w = best - torch.linalg.matrix_power(shrink, int(row["step"])) @ best  # w_t = (I − (I − ηXᵀX/n)^t) w*
        assert row["distance"] == pytest.approx(float((w - best).norm()), rel=1e-9)
        assert row["norm"] == pytest.approx(float(w.norm()), abs=1e-12)
        assert row["loss"] == pytest.approx(float((x @ w - y).square().sum()) / (2 * n), rel=1e-9)


def test_descent_reaches_the_minimum_norm_solution_and_never_leaves_the_span():
    x, y = problem(15, 60, k=2)
    path = gradient_descent_from_zero(x, y, steps=3000)
    assert path.rows[-1]["relative_distance"] < 1e-6
    assert max(row["outside"] for row in path.rows) < 1e-12
    torch.testing.assert_close(path.weights, torch.linalg.pinv(x) @ y, rtol=1e-5, atol=1e-5)


def test_another_start_keeps_what_it_has_outside_the_span():
    x, y = problem(10, 40)
    start = torch.randn(40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    path = gradient_descent_from_zero(x, y, steps=3000, start=start)
    outside = start - torch.linalg.pinv(x) @ (x @ start)
    torch.testing.assert_close(path.weights - minimum_norm_solution(x, y), outside, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(path.best, minimum_norm_solution(x, y))
    given = gradient_descent_from_zero(x, y, steps=5, start=lambda best: 3 * best)
    assert given.rows[0]["relative_distance"] == pytest.approx(2)
    assert path.rows[-1]["distance"] == pytest.approx(float(outside.norm()), rel=1e-6)


def test_records_are_the_first_the_last_and_some_between():
    steps = [row["step"] for row in gradient_descent_from_zero(*problem(5, 8), steps=500, records=10).rows]
    assert steps == sorted(set(steps)) and len(steps) <= 11
    assert (steps[:2], steps[-1]) == ([0, 1], 500)


DIVERGED = r"diverged at step \d+: learning_rate is 1000, expected below [\d.]+ \(2/λ\)"
REFUSED = {
    "steps": ({"steps": 0}, "steps is 0"),
    "records": ({"records": 1}, "records 1"),
    "rate": ({"learning_rate": 0.0}, "learning_rate is 0.0, expected a number above 0"),
    "diverged": ({"learning_rate": 1e3, "steps": 50}, DIVERGED),
    "labels": ({"num_classes": 3}, "expected integers where num_classes is given"),
}


test_bad_options_get_one_line = refused(
    {name: (gradient_descent_from_zero, problem(5, 8), *given) for name, given in REFUSED.items()}
)
