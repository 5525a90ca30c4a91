"""What a GPU gives is what a CPU gives."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from gendyn_lite.measures import capacity, fisher, intervals, relu_paths, stiffness
from tests.measures.intervals.test_intervals_exact import network, random_lines
from tests.measures.networks import built
from tests.measures.relu_paths.nets import LAYOUTS, random_paths
from tests.measures.relu_paths.test_similarity import arithmetic  # noqa: F401 (a fixture)

skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: compares GPU and CPU")
pytestmark = [pytest.mark.gpu, skip]
same = partial(torch.testing.assert_close, check_device=False)


@pytest.mark.parametrize("measure", [fisher.diagonal, stiffness.gradient_gram])
@pytest.mark.parametrize("name", ["mlp", "alexnet_small", "resnet18"])
def test_per_example_gradients(name, measure):
    model, x, y = built(name)
    expected = measure(model, x, y)
    same(measure(model.cuda(), x.cuda(), y.cuda()), expected, rtol=1e-9, atol=1e-12)


def kernel(x, y, device):
    return capacity.kernel_regression(x, y, width=5.0, ridge=0.01, device=device).predict(x)


def memorized(x, y, device, depth):
    return capacity.memorizing_network(x.to(device), y.to(device), depth=depth)(x.to(device))


def features(x, y, device):
    images = x.float().view(-1, 3, 8, 8)
    return capacity.feature_regression(
        capacity.random_conv_features(images, 40), images, y, ridge=0.1, device=device
    ).predict(images)


FITS = {
    "kernel": (kernel, 1e-8),
    "depth 2": (partial(memorized, depth=2), 1e-8),
    "depth 5": (partial(memorized, depth=5), 1e-8),
    "features": (features, 1e-3),
}


@pytest.mark.parametrize(("fit", "tolerance"), FITS.values(), ids=FITS)
def test_capacity(fit, tolerance):
    x, y = torch.randn(500, 192, dtype=torch.float64), torch.randint(10, (500,))
    same(fit(x, y, "cuda"), fit(x, y, "cpu"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["mlp", "max_pool", "functional"])
def test_interval_ends(name):
    model, shape = network(name)
    x, d = random_lines(shape, 200)
    expected = intervals.generalization_interval(model, x, d)
    found = intervals.generalization_interval(model.cuda(), x.cuda(), d.cuda())
    assert found.exact and found.lower.is_cuda
    same((found.lower, found.upper), (expected.lower, expected.upper), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("count", "units"), [(2, 1), (37, 1001), (129, 16), (300, 1)])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_paths(count, units, layout, arithmetic):  # noqa: F811
    now, before = (layout(random_paths(count, units, seed=seed)) for seed in (0, 1))
    packed = relu_paths.PackedPaths.pack(before.cuda())
    assert torch.equal(packed.bits.cpu(), relu_paths.PackedPaths.pack(before).bits)
    found = relu_paths.cross_paths(now.cuda(), packed.unpack(), dtype=torch.float64)
    same(found, relu_paths.cross_paths(now, before, dtype=torch.float64), rtol=0, atol=1e-15)
