"""Recorded paths are the signs of what each gate reads, for gates of every kind."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import models
from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.layers import hooked
from gendyn_lite.measures.relu_paths import (
    PackedPaths,
    cross_path_similarity,
    gate_layers,
    gated,
    record_activations,
    record_packed,
)
from gendyn_lite.measures.relu_paths import record_paths as record
from gendyn_lite.measures.relu_paths.packed import pack_anywhere, unpack_anywhere
from tests.measures.networks import BUILT, Net, built, refused
from tests.measures.relu_paths.nets import LAYOUTS, Functional, Overwriting, conv, images, random_paths, scrambled

GATES = (nn.ReLU, nn.LeakyReLU)


@pytest.mark.parametrize("name", BUILT)
def test_every_network_equals_its_hooked_gates(name):
    model, x, _ = built(name)  # in float64, so that rounding does not depend on the batch
    names, seen = {module: name for name, module in model.named_modules()}, {}

    def keep(module, args, kwargs, out):
        seen[names[module]] = args[0].flatten(1), out.flatten(1)

    with torch.no_grad(), hooked([module for module in names if isinstance(module, GATES)], keep):
        model(x)
    found, activations = record(model, x), record_activations(model, x, batch_size=2)
    assert gate_layers(model, x) == {name: read.shape[1] for name, (read, _) in seen.items()}
    assert set(found) == set(seen)
    for name, (read, given) in seen.items():
        assert torch.equal(found[name], read > 0)
        assert torch.allclose(activations[name], given, atol=1e-9)


@pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in-place"])
def test_functions_methods_and_repeated_modules(inplace):
    model, x = Functional(inplace), images(4, (6,))
    with torch.no_grad():
        expected = model.pre_activations(x)
    found, given = record(model, x), record_activations(model, x)
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value > 0)
        assert torch.equal(given[key], value.clamp(min=0))


class Own(nn.Module):
    """A network of code that is no library's."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(("wrapped", "runs"), [(nn.Sequential, [8, 4]), (Own, [8, 2, 4, 2])], ids=["library", "own"])
def test_a_batch_is_run_once_and_two_images_of_it_again_if_code_is_own(wrapped, runs, monkeypatch):
    """What is proved of a library's operations needs no second run; own code may take other branches in each batch."""
    seen, run = [], gated.run_gated

    def counted(model, x, *others):
        seen.append(len(x))
        return run(model, x, *others)

    monkeypatch.setattr(gated, "run_gated", counted)
    record(wrapped(conv()).eval(), images(12, (2, 8, 8)), batch_size=8)
    assert seen == runs


def test_what_is_overwritten_is_recorded_before():
    model, x = Overwriting(), images(9, (6,))
    with torch.no_grad():
        first = model.first(x)
        second = torch.where(first > 0, first, -0.5 * first) - 0.2
    packed = record_packed(model, x)
    for found in (record(model, x), {layer: one.unpack() for layer, one in packed.items()}):
        assert list(found) == ["leaky_relu", "relu"]
        assert torch.equal(found["leaky_relu"], first > 0)
        assert torch.equal(found["relu"], second > 0)
    given = record_activations(model, x)
    assert torch.allclose(given["leaky_relu"], second + 0.2)
    assert torch.equal(given["relu"], second.clamp(min=0))


class Clamped(nn.Module):
    """A gate, and a clamp that is none."""

    def __init__(self):
        super().__init__()
        self.first, self.gate = nn.Linear(6, 5), nn.ReLU()

    def forward(self, x):
        return self.gate(self.first(x)).clamp(max=1.0)


BOOK = torch.randn(7, 6)


def written(h, x):
    h = h.clone()
    h[x < -0.5] = 0
    return h


BENT = {
    "GELU": (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.GELU()), r"elsewhere too: 3 \(gelu\)"),
    "clamp": (Clamped(), r"elsewhere too: the network \(clamp\)"),
    **{
        f"torch.{function.__name__}": (
            Net(lambda s, x, function=function: function(torch.relu(x)).abs_()),
            rf"the network \({function.__name__}\)",
        )
        for function in (torch.selu, torch.celu, torch.exp, torch.sin)
    },
    **{
        name: (Net(lambda s, x, bend=bend: bend(x.relu())), rf"the network \({name}\)")
        for name, bend in {
            "square": torch.Tensor.square,
            "pow": lambda h: h**3,
            "mul": lambda h: h * h.flip(1),
            "softmax": lambda h: h.softmax(1),
            "div": lambda h: h / h.sum(1, keepdim=True),
            "matmul": lambda h: h[:, None] @ h[:, :, None],
            "layer_norm": lambda h: F.layer_norm(h, (6,)),
            "amax": lambda h: h.amax(1),
            "round": torch.round,
            "einsum": lambda h: torch.einsum("bi,bj->bij", h, h),
            "sqrt": lambda h: (1 + h).sqrt_(),
        }.items()
    },
    "a gate by hand": (Net(lambda s, x: x.relu() + x * (x > 0)), r"the network \(mul\)"),
    "a norm of each image": (nn.Sequential(nn.ReLU(), nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2)), "instance_norm"),
    "a choice": (Net(lambda s, x: torch.where(x > 1, x, x.relu())), r"the network \(where\)"),
    "places by a mask": (Net(lambda s, x: written(x.relu(), x)), r"the network \(setitem\)"),
    "a codebook": (Net(lambda s, x: x.relu() + BOOK[(x > 0).long().sum(1)]), r"the network \(getitem\)"),
    "places of the largest": (Net(lambda s, x: x.relu().gather(1, x.argmax(1)[:, None])), r"the network \(gather\)"),
    "a comparison": (Net(lambda s, x: x.relu() + (x > 0.3).to(x.dtype)), r"the network \(to\)"),
    "whole numbers": (Net(lambda s, x: x.relu() + (x * 5).long().to(x.dtype)), r"the network \(to\)"),
    "the largest": (Net(lambda s, x: x.relu() + F.embedding(x.argmax(1), BOOK)), r"the network \(embedding\)"),
    "a staircase": (Net(lambda s, x: torch.threshold(x.relu(), 0.1, 0)), r"the network \(threshold\)"),
    "clamped in place": (Net(lambda s, x: x.relu().clamp_min_(0.1)), r"the network \(clamp_min\)"),
    "other limits": (nn.Sequential(nn.ReLU(), nn.Linear(6, 5), nn.Hardtanh()), r"elsewhere too: 2 \(hardtanh\)"),
}


@pytest.mark.parametrize("name", BENT)
def test_what_bends_beside_the_gates_is_named(name):
    model, told = BENT[name]
    with pytest.warns(UserWarning, match=told):
        record(model, images(4, (6,)))


def test_networks_of_gates_alone_need_no_warning(recwarn):
    record(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Hardtanh(0, 6), nn.Linear(5, 2)), images(4, (6,)))
    mask, weight = torch.tensor([1.0, 0, 1, 0, 1, 0]), torch.randn(6, 3)
    affine = Net(lambda s, x: ((1 - 2 * x.relu() / 3) * mask + x.flip(1)) @ weight)
    record(affine, images(4, (6,)))
    record(models.build("alexnet_small", num_classes=3, in_shape=(3, 7, 7)), images(4, (3, 7, 7)))
    places = torch.tensor([2, 0, 1])
    record(Net(lambda s, x: x.relu()[:, places] + x.gather(1, places.expand(len(x), 3))), images(4, (6,)))
    plain = Net(lambda s, x: x.relu().gather(1, torch.zeros_like(x, dtype=torch.int64)) * torch.ones_like(x))
    record(plain, images(4, (6,)))
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 1, 2, 3], align_corners=False)
    record(Net(lambda s, x: F.grid_sample(x.relu().view(-1, 1, 2, 3), grid.expand(len(x), -1, -1, -1),
                                          align_corners=False).flatten(1)), images(4, (6,)))  # fmt: skip
    assert not [each for each in recwarn if "paths tell of gates alone" in str(each.message)]


@pytest.mark.parametrize("kind", [record, record_packed], ids=["plain", "packed"])
def test_paths_of_other_images_or_another_order_are_not_compared(kind):
    model, x = nn.Sequential(nn.Linear(6, 50), nn.ReLU()), images(4, (6,))
    now = kind(model, x)["1"]
    assert torch.isfinite(cross_path_similarity(now, kind(model, x)["1"])).all()
    for other in (x.flip(0), x + 1):
        with pytest.raises(UserError, match="now and before are paths of different images"):
            cross_path_similarity(now, kind(model, other)["1"])


def test_paths_that_were_changed_in_place_are_of_no_known_images():
    model, x = nn.Sequential(nn.Linear(6, 50), nn.ReLU()), images(4, (6,))
    now, other = record(model, x)["1"], record(model, x.flip(0))["1"]
    other.copy_(other.flip(0).clone())
    assert torch.equal(now, other) and torch.isfinite(cross_path_similarity(now, other)).all()


def test_batches_and_packing_agree():
    model, x = scrambled(conv()).double(), images(7, (2, 8, 8), dtype=torch.float64)
    whole, parts, packed = record(model, x), record(model, x, batch_size=3), record_packed(model, x, batch_size=2)
    assert list(record(model, x, layers=["6"])) == ["6"]
    for layer, paths in whole.items():
        assert torch.equal(paths, parts[layer]) and torch.equal(paths, packed[layer].unpack())
        assert packed[layer].layer == layer
        assert packed[layer].images == record_packed(model, x)[layer].images != ""


def test_the_network_is_left_as_it_was():
    model, x = scrambled(conv(inplace=True)), images(3, (2, 8, 8))
    before, state, kept = copy.deepcopy(model.state_dict()), torch.get_rng_state(), x.clone()
    for take in (record, record_activations, record_packed):
        take(model, x)
    with pytest.raises(UserError):
        record(model, images(2, (9, 8, 8)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(x, kept)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_compiled_network_is_recorded_as_its_original():
    model, x = Functional(), images(2, (6,))
    compiled = torch.compile(model, backend="eager")
    assert all(torch.equal(a, b) for a, b in zip(record(compiled, x).values(), record(model, x).values(), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("units", [1, 7, 8, 9, 17, 1000])
def test_packing_and_unpacking(count, units, layout):
    paths = layout(random_paths(count, units))
    packed = PackedPaths.pack(paths)
    assert packed.bits.nbytes == count * -(-units // 8)
    assert torch.equal(pack_anywhere(paths), packed.bits)
    assert torch.equal(packed.unpack(), paths)
    assert torch.equal(packed[1:3].unpack(), paths[1:])
    assert torch.equal(packed.unpack(units // 16 * 8, units - 1), paths[:, units // 16 * 8 : units - 1])
    bits = layout(packed.bits)
    unpacked = unpack_anywhere(bits.contiguous())
    assert torch.equal(unpack_anywhere(packed.bits)[:, :units], paths)
    assert torch.equal(unpack_anywhere(bits), unpacked)
    assert torch.equal(PackedPaths(bits, units).unpack(), unpacked[:, :units])


DROPPING = Net(lambda s, x: nn.functional.dropout(nn.functional.relu(x), 0.5, training=s.training))
FOLDED = Net(lambda s, x: nn.functional.relu(x.reshape(-1, 2)).reshape(len(x), -1))
SIX, NAN = images(2, (6,)), torch.tensor([[0.0], [0.0], [math.nan]]).expand(3, 6)
EVAL, DROPOUT = scrambled(conv()), nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
REFUSED = {
    "no-gates": (lambda: record(nn.Sequential(nn.Tanh()), SIX), r"the network has no gates \(its activations: Tanh\)"),
    "linear": (lambda: record(nn.Linear(6, 2), SIX), "the network has no gates: paths"),
    "channels": (lambda: record(EVAL, images(2, (3, 8, 8))), r"does not take images of shape \(3, 8, 8\): .*channels"),
    "width": (lambda: record(Functional(), images(2, (5,))), r"images of shape \(5,\)"),
    "dropout": (lambda: record(DROPOUT, SIX), r"'1' \(Dropout\) is in train mode and draws at random: call model.eval"),
    "functional-dropout": (lambda: record(DROPPING, SIX), "dropout in .* is in train mode"),
    "batch-norm": (lambda: record(conv(), images(2, (2, 8, 8))), r"'1' \(BatchNorm2d\) is in train mode, where an"),
    "layer": (lambda: record(Functional(), SIX, layers=["gat"]), "unknown gate layer 'gat': did you mean 'gate'"),
    "no layer": (
        lambda: record(Functional(), SIX, layers=[]),
        r"layers is \[\], expected a list of names, at least one",
    ),
    "a text": (lambda: record(Functional(), SIX, layers="gate2"), "layers is 'gate2', expected a list of names"),
    "uint8": (lambda: record(Functional(), torch.zeros(2, 6).byte()), "x is uint8: standardize it"),
    "1d": (lambda: record(Functional(), torch.zeros(6)), r"x is \[6\], expected images \[n, ...\]"),
    "empty": (lambda: record(Functional(), images(0, (6,))), "n ≥ 1"),
    "NaN": (lambda: record(Functional(), NAN, batch_size=2), "gives NaN for image 2: are its weights and the images"),
    "batch": (lambda: record(Functional(), SIX, batch_size=0), "batch_size is 0"),
    "no-example-axis": (lambda: record(FOLDED, images(3, (6,))), r"gate 'relu' sees \[9, 2\] for 3 images"),
}


test_bad_input_is_one_line = refused(REFUSED)
