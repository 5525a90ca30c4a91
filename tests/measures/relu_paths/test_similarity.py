"""Similarities equal the formulas pair by pair in float64, counts are exact, and zero norms are 0 and counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn_lite.measures import relu_paths
from gendyn_lite.measures.relu_paths import PackedPaths, cross_activation_similarity, cross_path_similarity, cross_paths
from gendyn_lite.measures.relu_paths import gram as gram_module
from tests.measures.networks import refused
from tests.measures.relu_paths.nets import LAYOUTS, NETS, cosine, cross, images, random_paths, scrambled


@pytest.fixture(params=["float32", "int8"])
def arithmetic(request, monkeypatch):
    """Counts by one of the two products, as if the other one took longer."""
    slow = gram_module._int8 if request.param == "float32" else gram_module.float_product
    monkeypatch.setattr(gram_module, "_seconds", lambda multiply, block: float(multiply is slow))
    relu_paths.int8_is_fast.cache_clear()
    if request.param == "int8" and not relu_paths.int8_is_fast():
        pytest.skip("torch has no exact int8 product on this machine")
    yield
    relu_paths.int8_is_fast.cache_clear()


def moved(model):
    """Another state of the same network."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * value.std(unbiased=False) * torch.randn(value.shape, generator=generator))
    return model


def close(found, expected, tolerance):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def cosines(now, before):
    """Image by image."""
    return torch.tensor([cosine(a, b) for a, b in zip(now, before, strict=True)], dtype=torch.float64)


@pytest.mark.parametrize("name", NETS)
def test_all_pairs_of_a_network_equal_the_pair_loop(name):
    torch.manual_seed(0)
    make, shape = NETS[name]
    model, x = scrambled(make()), images(9, shape)
    before, a_before = relu_paths.record_paths(model, x), relu_paths.record_activations(model, x)
    moved(model)
    now, a_now = relu_paths.record_paths(model, x), relu_paths.record_activations(model, x)
    for layer in now:
        p, q, a, b = now[layer], before[layer], a_now[layer], a_before[layer]
        assert not torch.equal(p, q)
        single = cross_activation_similarity(a, b)
        assert single.dtype == torch.float32
        close(cross_path_similarity(p, q, dtype=torch.float64), cross(p, q), 1e-14)
        close(single.double(), cross(a, b), 2e-6)
        close(cross_activation_similarity(a.double(), b.double()), cross(a, b), 1e-13)
        close(relu_paths.self_similarity(p, q), cosines(p, q), 1e-14)
        close(relu_paths.self_activation_similarity(a, b), cosines(a, b), 1e-13)


SHAPES = [(0, 5), (1, 1), (2, 9), (2, 17), (9, 33), (24, 16), (129, 1), (130, 257), (1100, 24)]


@pytest.mark.parametrize("room", [1, 1 << 25], ids=["blocks of 16 units", "one block"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("count", "units"), SHAPES)
def test_counts_are_exact_in_every_arithmetic_shape_and_block(count, units, layout, room, arithmetic, monkeypatch):
    monkeypatch.setitem(gram_module.BLOCK_BYTES, "cpu", room)
    now, before = layout(random_paths(count, units)), random_paths(count, units, seed=1)
    for sources in ([now, before], [PackedPaths.pack(one) for one in (now, before)]):
        found = gram_module.grams(sources, lambda p, q: [p & q, p])
        for counts, paths in zip(found, (now & before, now), strict=True):
            wide = paths.double()
            assert counts.dtype == torch.int32
            assert torch.equal(counts.double(), wide @ wide.T)


@pytest.mark.parametrize("more", [1, 3])
def test_counts_are_exact_above_what_float32_counts(arithmetic, more, monkeypatch):
    """2²⁴ + 1 is no float32: with memory for all units in one block it would come out as 2²⁴."""
    monkeypatch.setitem(gram_module.BLOCK_BYTES, "cpu", 1 << 40)
    units = (1 << 24) + more
    paths = torch.ones(2, units, dtype=torch.bool)
    paths[1, : more - 1] = False
    found = units - more + 1
    assert relu_paths.path_gram(paths).tolist() == [[units, found], [found, found]]


def test_a_half_precision_context_does_not_round_counts(arithmetic):
    paths = torch.ones(2, 1001, dtype=torch.bool)
    relu_paths.int8_is_fast.cache_clear()  # the products are tried anew in this context
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert int(relu_paths.path_gram(paths)[0, 1]) == 1001
        assert float(cross_activation_similarity(paths.float(), paths.float())[0, 1]) == 1.0


def right(rows, columns):
    return rows.int() @ columns.int().T


FAULTS = {
    "always": lambda rows, columns: right(rows, columns) + 1,
    "missing": lambda rows, columns: rows.no_such_product,
    "few columns": lambda rows, columns: right(rows, columns) + (len(columns) < 16),
    "few units": lambda rows, columns: right(rows, columns) + (rows.shape[1] < 32),
    "a last row": lambda rows, columns: torch.cat([right(rows, columns)[:-1], right(rows[-1:], columns) * 0]),
    "full counts": lambda rows, columns: right(rows, columns).clamp(max=2048),
}


@pytest.mark.parametrize("faulty", FAULTS.values(), ids=FAULTS)
def test_an_int8_product_that_is_wrong_at_some_shapes_or_missing_is_not_used(faulty, arithmetic, monkeypatch):
    relu_paths.int8_is_fast.cache_clear()
    monkeypatch.setattr(gram_module, "_int8", faulty)
    assert not relu_paths.int8_is_fast()
    assert relu_paths.path_gram(torch.ones(2, 5, dtype=torch.bool)).tolist() == [[5, 5], [5, 5]]


def test_zero_norms_are_0_and_counted():
    now = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    before = torch.ones(4, 4, dtype=torch.bool)
    found = cross_paths(now, before, dtype=torch.float64)
    assert found.zeros == 4  # (0, 1) do not meet, and whatever meets image 2
    torch.testing.assert_close(found.similarity, cross(now, before), rtol=1e-15, atol=0)
    assert found.similarity[2].tolist() == [0, 0, 0, 0]
    assert relu_paths.cross_activations(now.float(), before.float()).zeros == 4
    assert relu_paths.self_similarity(now, before)[2] == 0
    assert relu_paths.self_activation_similarity(now.float(), before.float())[2] == 0


@pytest.mark.parametrize("scale", [1e-15, 1e15], ids=["tiny", "huge"])
def test_activations_of_any_size(scale):
    """Fourth powers of activations leave float32's range; the ratio does not."""
    generator = torch.Generator().manual_seed(0)
    now, before = (torch.rand(4, 30, generator=generator) for _ in range(2))
    now[1] *= scale
    found = cross_activation_similarity(now, before)
    assert torch.allclose(found.double(), cross(now, before), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 70), st.integers(0, 10_000), st.floats(0, 1))
def test_laws(count, units, seed, share):
    now, before = random_paths(count, units, seed, share), random_paths(count, units, seed + 1, share)
    found = cross_paths(now, before, dtype=torch.float64)
    matrix = found.similarity
    assert torch.equal(matrix, matrix.T)
    assert bool(((matrix >= 0) & (matrix <= 1)).all())
    assert torch.equal(matrix.diagonal(), relu_paths.self_similarity(now, before))
    assert torch.equal(matrix, cross_paths(before, now, dtype=torch.float64).similarity)
    assert torch.equal(found.gram, relu_paths.path_gram(now))
    reused = cross_paths(now, before, before_gram=relu_paths.path_gram(before), dtype=torch.float64)
    assert torch.equal(matrix, reused.similarity) and torch.equal(reused.gram, found.gram)
    same = cross_paths(now, now, dtype=torch.float64).similarity
    meet = relu_paths.path_gram(now) > 0
    assert torch.equal(same, meet.double())
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(cross_path_similarity(now[order], before[order], dtype=torch.float64), matrix[order][:, order])


A = random_paths(3, 9)
PACKED = [PackedPaths.pack(A, layer=name, images=name) for name in ("relu1", "relu2")]
REFUSED = {
    "network": (lambda: cross_path_similarity(A, A[:, :8]), "now has 9 units and before 8: paths of different"),
    "batch": (lambda: cross_path_similarity(A, A[:2]), "now has 3 images and before 2: record one fixed set"),
    "one": (lambda: cross_path_similarity(A[:1], A[:1]), "there is 1 image, expected at least 2"),
    "none": (lambda: cross_path_similarity(A[:0], A[:0]), "there are 0 images, expected at least 2"),
    "float": (lambda: cross_path_similarity(A.float(), A), r"now is float32 \[3, 9\], expected bool"),
    "dict": (lambda: cross_path_similarity({"relu": A}, A), "now is a dict, expected one layer's paths"),
    "self": (lambda: relu_paths.self_similarity(A, A[:, :8]), "9 units and before 8"),
    "not-activations": (lambda: cross_activation_similarity(A, A), "expected activations of one layer"),
    "infinite": (lambda: cross_activation_similarity(A.float(), A / 0), "before has .* image 0 that are not finite"),
    "one-activation": (lambda: cross_activation_similarity(A[:1].float(), A[:1].float()), "there is 1 image"),
    "no-units": (lambda: cross_activation_similarity(A[:, :0].float(), A.float()), "at least one image and unit"),
    "gram": (lambda: cross_paths(A, A, before_gram=torch.zeros(2, 2)), r"before_gram is \[2, 2\]"),
    "layer": (lambda: cross_path_similarity(*PACKED), "now is layer 'relu1' and before 'relu2'"),
    "images": (cross_path_similarity, (replace(PACKED[0], layer=""), PACKED[1]), {}, "paths of different images"),
}


test_bad_input_is_one_line = refused(REFUSED)


@pytest.mark.parametrize("units", [5, 1000])
def test_overlap_across_images_and_times_is_the_cosine_of_each_pair(units):
    now, before = random_paths(6, units, seed=1), random_paths(6, units, seed=2)
    before[3] = False
    expected = torch.tensor([[cosine(p, q) for q in before] for p in now], dtype=torch.float64)
    for pair in ((now, before), (PackedPaths.pack(now), PackedPaths.pack(before))):
        found = relu_paths.overlap_across(*pair)
        close(found, expected, 1e-12)
        close(found.diagonal(), relu_paths.self_similarity(*pair), 1e-12)
