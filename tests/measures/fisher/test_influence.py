"""Influence of one example's step equals what a real step and an explicit Fisher matrix give; Theorem 1 holds."""

from __future__ import annotations

import copy
from itertools import repeat

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import models
from gendyn_lite.measures import fisher
from gendyn_lite.measures.fisher import stepped as module
from tests.measures.networks import refused

NETWORKS = {
    "mlp": ((4,), {"widths": [5], "activation": "tanh"}),
    "alexnet_small": ((3, 7, 7), {}),
    "resnet18": ((3, 8, 8), {}),
}


def made(name, count=8):
    shape, options = NETWORKS[name]
    model = models.build(name, num_classes=3, in_shape=shape, seed=0, **options).double().eval()
    generator = torch.Generator().manual_seed(0)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(5.0, 6.0, generator=generator)
    x = torch.randn(count, *shape, dtype=torch.float64, generator=generator)
    return model, x, torch.randint(0, 3, (count,), generator=generator)


def gradient(model, x, y):
    return torch.autograd.grad(F.cross_entropy(model(x[None]), y[None]), list(model.parameters()))


def real_kl(model, x, y, x_eval, eps, masks=None):
    """KL after a step on a copy, by the definition."""
    twin = copy.deepcopy(model)
    for value, g, mask in zip(twin.parameters(), gradient(model, x, y), masks or repeat(1), strict=False):
        value.data -= eps * g * mask
    before, after = model(x_eval).log_softmax(1), twin(x_eval).log_softmax(1)
    return (before.exp() * (before - after)).sum(1).detach()


def forms(model, x, y, x_eval, y_eval, eps):
    """Quadratic forms from the explicit gradients of every log-probability: slow, and obvious."""
    g = torch.cat([part.flatten() for part in gradient(model, x, y)])
    true, empirical = [], []
    squares = torch.zeros_like(g)
    for one, label in zip(x_eval, y_eval, strict=True):
        log_p = model(one[None]).log_softmax(1)[0]
        p = log_p.exp().tolist()
        found = [torch.autograd.grad(each, list(model.parameters()), retain_graph=True) for each in log_p]
        rows = [torch.cat([part.flatten() for part in each]) for each in found]
        true.append(sum(each * float(row @ g) ** 2 for each, row in zip(p, rows, strict=True)))
        empirical.append(float(rows[int(label)] @ g) ** 2)
        squares += rows[int(label)].square() / len(x_eval)
    half = eps**2 / 2
    true, empirical = (half * torch.tensor(part, dtype=torch.float64) for part in (true, empirical))
    return true, empirical, half * float(squares @ g.square())


@pytest.mark.parametrize(
    ("name", "many"),
    [("mlp", True), ("mlp", False), ("alexnet_small", True), ("alexnet_small", False), ("resnet18", False)],
)
def test_it_equals_a_real_step_and_explicit_matrices(name, many, monkeypatch):
    monkeypatch.setattr(module, "STEP_BYTES", 1 << 40 if many else 1)
    model, x, y = made(name, 6 if name == "mlp" else 4)
    found = fisher.influence(model, x[:2], y[:2], x[2:], y_eval=y[2:], eps=1e-3)
    assert found.empirical is not None and found.diagonal is not None
    for i in range(2):
        true, empirical, diagonal = forms(model, x[i], y[i], x[2:], y[2:], 1e-3)
        torch.testing.assert_close(found.true[i], true, rtol=1e-9, atol=0)
        torch.testing.assert_close(found.empirical[i], empirical, rtol=1e-9, atol=0)
        assert float(found.diagonal[i]) == pytest.approx(diagonal, rel=1e-9)
        expected = real_kl(model, x[i], y[i], x[2:], 1e-3)
        torch.testing.assert_close(found.kl[i], expected, rtol=1e-4, atol=1e-15)


@pytest.mark.parametrize("name", ["mlp", "alexnet_small"])
def test_theorem_1_has_slope_3(name):
    """Steps so small that no ReLU changes its side: with larger ones a ReLU network has no third derivative."""
    model, x, y = made(name, 4)
    norms = [torch.stack([g.square().sum() for g in gradient(model, x[i], y[i])]).sum() for i in range(2)]
    eps = [scale * 1e-5 / float(max(norms)) ** 0.5 for scale in (1.0, 0.5, 0.25)]
    found = fisher.remainder(model, x[:2], y[:2], x, eps=eps)
    assert ((found.slopes - 3).abs() <= 0.1).all(), found.slopes
    assert ((found.kl / found.quadratic - 1).abs() < 1e-3).all()


def test_a_mask_keeps_part_of_the_step():
    model, x, y = made("mlp")
    none = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    found = fisher.influence(model, x[:2], y[:2], x, eps=1e-2, masks=none)
    assert found.kl.abs().max() < 1e-30  # nothing moves: only the rounding of two forward passes is left
    some = {name: torch.rand(value.shape) > 0.5 for name, value in model.named_parameters()}
    masked = fisher.influence(model, x[:1], y[:1], x, eps=1e-2, masks=some)
    expected = real_kl(model, x[0], y[0], x, 1e-2, some.values())
    torch.testing.assert_close(masked.kl[0], expected, rtol=1e-6, atol=1e-15)


def test_the_probe_does_not_depend_on_a_small_step_size():
    model, x, y = made("mlp")
    given = x[:3], y[:3], x[3:], y[3:]
    small, smaller = (fisher.influence_probe(*given, eps=eps)(model, 0) for eps in (1e-4, 1e-5))
    assert set(small) == {"kl", "quadratic_true", "quadratic_empirical", "quadratic_diagonal", "median", "gradient"}
    assert small["kl"] == pytest.approx(small["quadratic_true"], rel=1e-2)
    assert small["quadratic_diagonal"] == pytest.approx(smaller["quadratic_diagonal"])
    squares = [float(torch.stack([g.square().sum() for g in gradient(model, x[i], y[i])]).sum()) for i in range(3)]
    assert small["gradient"] == pytest.approx(sum(squares) / 3)


def test_a_saturated_softmax_has_a_finite_kl():
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 3), 1e4 * torch.randn(3, 4), torch.tensor([0, 1, 2])
    found = fisher.influence(model, x, y, x, eps=1e-3).kl
    twin = copy.deepcopy(model).double()
    expected = torch.stack([real_kl(twin, x[i].double(), y[i], x.double(), 1e-3) for i in range(3)])
    assert torch.isfinite(expected).all() and expected.max() > 1e4
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


MODEL, INPUTS, LABELS = made("mlp")
GIVEN, SMALL = (MODEL, INPUTS, LABELS, INPUTS), {"eps": 1e-3}
BAD = {
    "eps": (fisher.influence, GIVEN, {"eps": 0.0}, "eps is 0.0, expected a step size above 0"),
    "eps lost": (fisher.influence, GIVEN, {"eps": 1e-16}, "a step of eps = 1e-16 is lost in the rounding of the wei"),
    "labels": (fisher.influence, GIVEN, SMALL | {"y_eval": torch.full((8,), 3)}, "labels span 3 to 3, expected 0 to 2"),
    "labels missing": (fisher.influence, GIVEN, SMALL | {"y_eval": LABELS[:3]}, "x_eval: x has 8 examples and y 3"),
    "one step size": (fisher.remainder, GIVEN, {"eps": [0.1]}, "eps has 1 step sizes, expected at least 2"),
}
test_bad_input_is_one_line = refused(BAD)
