"""Gabor and random convolutional features against slow twins; the streamed regression against dense ones."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from gendyn_lite.measures import capacity
from gendyn_lite.measures.capacity.features import CONTRAST
from gendyn_lite.measures.per_example import checks
from tests.measures.networks import check_refused, refused

CPU, MODULE = {"device": "cpu"}, sys.modules[capacity.feature_regression.__module__]


def images(n: int = 12, channels: int = 1, side: int = 14, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("wavelength", "orientations"), [(2.0, 1), (4.0, 4), (7.5, 8)])
def test_gabor_filters_have_mean_zero_and_norm_one(wavelength, orientations):
    bank = capacity.gabor_bank(wavelength, orientations).double()
    assert bank.sum(dim=(-2, -1)).abs().max() < 1e-5
    torch.testing.assert_close(bank.square().sum(dim=(-2, -1)), torch.ones(2, orientations).double())


def test_gabor_features_are_the_averaged_magnitudes():
    x = images(3, channels=2, side=12)
    found = capacity.gabor_features(x, wavelengths=(4.0,), orientations=3, grid=4)
    bank = capacity.gabor_bank(4.0, 3)
    padded = torch.nn.functional.pad(x, [bank.shape[-1] // 2] * 4)
    windows = padded.unfold(2, bank.shape[-1], 1).unfold(3, bank.shape[-1], 1)  # [n, C, H, W, s, s]
    even, odd = (torch.einsum("nchwij,oij->ncohw", windows, filters) for filters in bank)
    magnitude = (even**2 + odd**2).sqrt()
    cells = magnitude.unflatten(-1, (4, 3)).unflatten(-3, (4, 3)).mean(dim=(-3, -1))
    torch.testing.assert_close(found, cells.reshape(3, -1).double(), rtol=1e-5, atol=1e-5)


def test_a_grating_excites_its_own_direction():
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    turn = math.pi / 4 * torch.arange(4.0)[:, None, None, None]
    gratings = torch.cos(2 * math.pi * (column * turn.cos() + row * turn.sin()) / 4 + 0.7)
    response = capacity.gabor_features(gratings, wavelengths=(4.0,), orientations=4, grid=1)
    assert response.argmax(1).tolist() == [0, 1, 2, 3]


def slow_part(features, x: torch.Tensor) -> torch.Tensor:
    """Patch by patch: normalize, multiply with the filters, rectify on both sides, average by quadrant."""
    m, _, side, _ = features.filters.shape
    rows = []
    for image in x.double():
        places = image.shape[-1] - side + 1
        response = torch.empty(m, places, places, dtype=torch.float64)
        for i in range(places):
            for j in range(places):
                patch = image[:, i : i + side, j : j + side].reshape(-1)
                patch = patch - patch.mean()
                patch = patch / (patch.square().mean() + CONTRAST).sqrt()
                response[:, i, j] = features.filters.double().reshape(m, -1) @ patch - features.offsets.double()
        both = torch.stack([(response - features.threshold).relu(), (-response - features.threshold).relu()], dim=1)
        rows.append(torch.nn.functional.adaptive_avg_pool2d(both.flatten(0, 1), features.grid).flatten())
    return torch.stack(rows)


@pytest.mark.parametrize(("channels", "grid"), [(1, 2), (3, 1), (3, 3)], ids=str)
def test_random_features_are_the_slow_ones(channels, grid):
    x = images(3, channels, 10)
    features = capacity.random_conv_features(x, 5, patch=4, grid=grid)
    assert features.num_features == 5 * 2 * grid**2
    expected = slow_part(features, x)
    torch.testing.assert_close(features(x), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(features.part(x, 2, 4), expected[:, 4 * grid**2 : 8 * grid**2], rtol=1e-3, atol=1e-4)
    again, other = (capacity.random_conv_features(x, 5, patch=4, grid=grid, seed=seed).filters for seed in (0, 1))
    assert torch.equal(features.filters, again) and not torch.equal(again, other)


def test_flat_and_repeated_patches_are_no_filters():
    x = torch.zeros(30, 1, 12, 12)
    x[:, :, 4:8, 5:9] = images(30, 1, 4)
    filters = capacity.random_conv_features(x, 200).filters.flatten(1)
    assert torch.unique(filters, dim=0).shape == filters.shape


class Plain:
    """Inputs as features: what turns the regression into a linear model of them."""

    per_group = 1

    def __init__(self, x):
        self.groups = self.num_features = x.shape[1]

    def part(self, x, first, last):
        return x[:, first:last]


def points(n, p, seed=0):
    return torch.randn(n, p, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 3


@pytest.mark.parametrize(("n", "p"), [(30, 6), (6, 30), (7, 7)], ids=["primal", "dual", "square"])
@pytest.mark.parametrize("rows", [3, 1000], ids=["blocks", "whole"])
def test_is_ridge_regression_with_an_intercept(n, p, rows, monkeypatch):
    for name in ("BLOCK", "CHUNK", "IMAGES"):
        monkeypatch.setattr(MODULE, name, rows)
    x, ridge = points(n, p), 0.7
    y = x[:, 0] * 2 - 5
    found = capacity.feature_regression(Plain(x), x, y, ridge=ridge, **CPU)
    centred = x - x.mean(0)
    weights = torch.linalg.solve(centred.T @ centred + ridge * torch.eye(p).double(), centred.T @ (y - y.mean()))
    torch.testing.assert_close(found.weights.squeeze(1), weights)
    torch.testing.assert_close(found.predict(x), centred @ weights + y.mean())


def test_without_ridge_it_interpolates_with_the_smallest_norm(monkeypatch):
    monkeypatch.setattr(MODULE, "CHUNK", 30)
    monkeypatch.setattr(MODULE, "BLOCK", 7)
    x = images(25, 1, 12)
    features, y = capacity.random_conv_features(x, 20), torch.arange(25) % 3
    found = capacity.feature_regression(features, x, y, **CPU)
    assert found.error(x, y) == 0.0
    centred = features(x) - features(x).mean(0)
    targets = torch.nn.functional.one_hot(y).double()
    wanted = capacity.minimum_norm_solution(centred, targets - targets.mean(0))
    torch.testing.assert_close(found.weights, wanted, rtol=1e-5, atol=1e-5)


def test_a_constant_feature_gets_weight_zero():
    x = points(20, 3)
    x[:, 1] = 0.1
    found = capacity.feature_regression(Plain(x), x, x[:, 0], **CPU)
    assert found.weights[1].abs() < 1e-12
    torch.testing.assert_close(found.predict(x), x[:, 0])


def test_dependent_features_without_ridge_are_told():
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, x.sum(1, keepdim=True)], dim=1)
    with pytest.raises(capacity.SingularGramError, match="ridge > 0"):
        capacity.feature_regression(Plain(x), x, x[:, 0], **CPU)


FEW, DRAWN, LABELS = images(12, 1, 10), capacity.random_conv_features(images(12, 1, 10), 1), torch.arange(12) % 3


def test_a_matrix_that_would_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda device: 1000)
    message = "the matrix of 8 features in float64 takes .*: take fewer examples or fewer features"
    check_refused(capacity.feature_regression, message, DRAWN, FEW, LABELS, **CPU)


FLAT = torch.rand(4, 9)
conv, gabor, fit = capacity.random_conv_features, capacity.gabor_features, capacity.feature_regression
REFUSED = {
    "ridge": (fit, (DRAWN, FEW, LABELS), {"ridge": -1.0}, "ridge is -1.0, expected"),
    "classes": (fit, (DRAWN, FEW, LABELS), {"num_classes": 2}, r"labels lie in \[0, 2\], expected"),
    "no-filters": (conv, (images(), 0), {}, "num_filters is 0, expected .* from 1 to 32,000"),
    "patch": (conv, (images(), 4), {"patch": 14}, r"patch is 14, grid 2: .* that fit \(14, 14\)"),
    "threshold": (conv, (images(), 4), {"threshold": -1.0}, "threshold is -1.0"),
    "no-images": (conv, (FLAT, 4), {}, r"images have shape \(4, 9\), expected \[n, C, H, W\]"),
    "flat": (conv, (torch.ones(5, 1, 12, 12), 4), {}, "num_filters is 4, and only 0 different patches"),
    "channels": (conv(images(), 4), (images(channels=3),), {}, "images have 3 channels, expected"),
    "gabor-no-images": (gabor, (FLAT,), {}, r"images have shape \(4, 9\)"),
    "gabor-grid": (gabor, (images(),), {"grid": 15}, "grid is 15, expected a whole number from 1 to 14"),
    "gabor-wavelength": (gabor, (images(),), {"wavelengths": (1.0,)}, "wavelengths of at least 2 pixels"),
    "gabor-orientations": (gabor, (images(),), {"orientations": 0}, "orientations is 0"),
    "gabor-n=0": (gabor, (torch.empty(0, 1, 14, 14),), {}, "n ≥ 1"),
}


test_bad_features_get_one_line = refused(REFUSED)
