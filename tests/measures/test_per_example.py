"""What is made of per-example gradients equals the slow twin: any layer, any layout, any block, either way."""

from __future__ import annotations

import warnings
from unittest.mock import patch

import pytest
import torch
from torch import nn

from gendyn_lite import models
from gendyn_lite.measures import fisher, relu_paths, stiffness
from gendyn_lite.measures.fisher import squares
from gendyn_lite.measures.per_example import factors
from gendyn_lite.measures.stiffness import layer_gram
from gendyn_lite.threads import threads
from tests.measures import naive, networks
from tests.measures.networks import CONVOLUTIONS, Net, Own, built, convolution, embedding, examples, scrambled


def check(model, x, y, *, block=2, large=False, **options):
    """The Gram matrix, squared norms, the Fisher diagonal, and image functions, but of large networks."""
    loop = naive.gradients(model, x, y, **options)
    trainable = {name: value.requires_grad for name, value in model.named_parameters()}
    each = {name: torch.stack([row[name] for row in loop]) for name in loop[0]}
    by_layer = {}
    for name, rows in each.items():
        layer = name.rpartition(".")[0] or "model"
        by_layer[layer] = by_layer.get(layer, 0) + rows @ rows.T
    gram = sum(by_layer.values())

    def same(found, expected):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * float(gram.abs().max()))

    state = {name: value.clone() for name, value in model.state_dict().items()}
    with warnings.catch_warnings(), patch.object(stiffness.gram, "MOST", block):
        warnings.simplefilter("ignore")  # no formula for …
        if len(x) > 1:
            same(stiffness.gradient_gram(model, x, y, **options), gram)
            layers = stiffness.gradient_gram(model, x, y, per_layer=True, **options)
            assert list(layers) == list(by_layer)
            for layer, expected in by_layer.items():
                same(layers[layer], expected)
        same(stiffness.squared_norms(model, x, y, **options), gram.diagonal())
        diagonal = fisher.diagonal(model, x, y, batch_size=block, **options)
    for name, rows in each.items():
        assert diagonal[name].shape == model.get_parameter(name).shape
        same(diagonal[name].flatten(), rows.square().mean(0))
    if not large:
        chosen = torch.linspace(-1, 1, len(x))
        functions = relu_paths.image_functions(model, x, y, step_size=0.3, **options)
        weighted, last = functions.total(chosen), functions.of(len(x) - 1)
        assert list(functions.parts) == list(each)
        for name, rows in each.items():
            same(functions.each(name).flatten(1), -0.3 * rows)
            same(weighted[name].flatten(), -0.3 * chosen.double() @ rows)
            same(last[name].flatten(), -0.3 * rows[-1])
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None and value.requires_grad == trainable[n] for n, value in model.named_parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


MINUTES = pytest.mark.minutes("61 million weights")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[MINUTES] * (name == "alexnet")) for name in models.names()])
def test_every_network(name):
    check(*built(name), large=not name.startswith("mlp"))


def test_frozen_parameters_are_left_out_and_a_loss_may_be_ones_own():
    x, _ = examples(6, (4,))
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    model[0].weight.requires_grad_(False)
    check(model, x, x[:, :1].sin(), loss=lambda output, y: (output - y).square().sum(1))


def test_half_precision_is_summed_in_float32():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)).bfloat16(), examples(64, (6,))
    gram = stiffness.gradient_gram(model, x.bfloat16(), y)
    diagonal = fisher.diagonal(model.float(), x.float(), y, precision="bfloat16")["0.weight"]
    exact_gram = stiffness.gradient_gram(model.double(), x.bfloat16().double(), y)
    for value, exact in ((gram, exact_gram), (diagonal, fisher.diagonal(model, x, y)["0.weight"])):
        assert value.dtype == torch.float32
        assert 1e-4 < (value - exact).abs().max() / exact.abs().max() < 0.05


def conv(channels=4):
    first, second = nn.Conv2d(2, channels, 3, padding=1), nn.Conv2d(channels, 1, 1)
    return nn.Sequential(first, nn.ReLU(), second, nn.Flatten(), nn.Linear(20, 3))


NETWORKS = {  # and the shape of an input
    "dense": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), (3, 4)),
    "convolution": (conv, (2, 4, 5)),
    "one channel": (lambda: conv(1), (2, 4, 5)),
    "sequence": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(9, 3)), (2, 5)),
    "one unit": (lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(1, 2)), (1, 1, 1)),
    "one output": (lambda: nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)), (1,)),
}
LAYOUTS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.transpose(1, -1).contiguous().transpose(1, -1),
    "every second": lambda x: torch.stack([x, -x], dim=-1)[..., 0],
    "examples that are one": lambda x: x[:1].expand(x.shape),
    "places that are one": lambda x: x[..., :1].expand(x.shape),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("make", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_inputs_and_weights_in_any_layout(make, shape, layout):
    torch.manual_seed(0)
    model = scrambled(make())
    outputs = model[-1].out_features
    x, y = examples(5, shape, classes=outputs)
    for value in model.parameters():
        if layout is LAYOUTS["transposed"] and value.dim() > 1:
            value.data = value.data.transpose(0, 1).contiguous().transpose(0, 1)
    options = {"loss": lambda out, y: out.square().sum(1)} if outputs == 1 else {}  # its cross-entropy is refused
    check(model, layout(x), y, **options)


@pytest.mark.parametrize(("count", "block"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 9)])
@pytest.mark.parametrize("name", ["dense", "convolution"])
def test_blocks_of_any_size(name, count, block):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    check(scrambled(make()), *examples(count, shape), block=block)


def length_first():
    """Sequences with their places in front while the layers work on them, as nn.LSTM and nn.Transformer have it."""
    layers = {"first": nn.Linear(3, 4), "norm": nn.LayerNorm(4), "last": nn.Linear(4, 3)}
    return Net(lambda self, x: self.last(self.norm(torch.tanh(self.first(x.transpose(0, 1))))).mean(0), **layers)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
@pytest.mark.parametrize("block", [2, 3, 5])
def test_a_length_that_is_the_number_of_examples_is_not_taken_for_it(length, block):
    torch.manual_seed(0)
    check(scrambled(length_first()), *examples(5, (length, 3)), block=block)


WAYS = {
    "as it costs least": {},
    "ghost": {"ghost_is_cheaper": lambda *_: True},
    "instantiated": {"ghost_is_cheaper": lambda *_: False},
    "small blocks of ghosts": {"ghost_is_cheaper": lambda *_: True, "BLOCK_BYTES": {"cpu": 500}, "GHOST_STRIP": 2},
    "small blocks": {"ghost_is_cheaper": lambda *_: False, "BLOCK_BYTES": {"cpu": 500}, "TRIANGLE": 2},
}


def take(way, monkeypatch):
    for name, value in WAYS[way].items():
        monkeypatch.setattr(layer_gram, name, value)
    if way.startswith("small"):
        monkeypatch.setattr(factors, "PATCH_BYTES", {"cpu": 2000})
        monkeypatch.setattr(squares, "GRADIENT_BYTES", {"cpu": 300})


@pytest.mark.parametrize("way", [way for way in WAYS if way != "as it costs least"])
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_any_convolution_either_way(options, way, monkeypatch):
    take(way, monkeypatch)
    torch.manual_seed(0)
    check(convolution(4, 8, **options).double(), *examples(5, (4, 6, 5)))


@pytest.mark.parametrize(("room", "count"), [(100, 2), (1 << 20, 3), (None, 8)], ids=["one by one", "all", "cpu"])
def test_the_squares_of_a_gpu_and_any_number_of_threads_change_nothing(room, count, monkeypatch):
    if room:
        monkeypatch.setattr(squares, "_add_one_by_one", lambda total, part, _: squares._add_in_blocks(total, part))
        monkeypatch.setattr(squares, "GRADIENT_BYTES", {"cpu": room})
    torch.manual_seed(0)
    with threads(count):
        check(convolution(4, 8, kernel_size=3, groups=2).double(), *examples(5, (4, 6, 5)), block=5)


@pytest.mark.parametrize("way", ["as it costs least", "instantiated"])
@pytest.mark.parametrize(("make", "shape"), networks.LAYERS.values(), ids=networks.LAYERS)
def test_any_layer(make, shape, way, monkeypatch):
    take(way, monkeypatch)
    torch.manual_seed(0)
    model, (x, y) = scrambled(make()), examples(6, shape)
    check(model, x, y, block=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fisher.diagonal(model, x, y)


@pytest.mark.parametrize("padding", [None, 1], ids=["plain", "with padding"])
@pytest.mark.parametrize("tied", [False, True], ids=["own", "tied"])
@pytest.mark.parametrize("shape", [(1,), (5,)], ids=["one token", "five tokens"])
def test_an_embedding_adds_the_places_of_a_token(shape, padding, tied):
    torch.manual_seed(0)
    x = torch.randint(0, 3, (8, *shape), generator=torch.Generator().manual_seed(1))
    check(embedding(padding, tied).double(), x, examples(8, ())[1], block=3)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("make", "shape", "told"), networks.WITHOUT.values(), ids=networks.WITHOUT)
def test_a_layer_without_a_formula_is_named_once_and_right(make, shape, told):
    torch.manual_seed(0)
    model, (x, y) = scrambled(make()), examples(5, shape)
    check(model, x, y)
    for call in (stiffness.gradient_gram, stiffness.squared_norms, fisher.diagonal):
        with pytest.warns(UserWarning, match=told) as caught:
            call(model, x, y)
        assert len([each for each in caught if "no formula" in str(each.message)]) == 1


def test_a_layer_that_loses_its_formula_on_the_way():
    """The last block has one example, and so as many as the input has places."""
    layers = {"first": nn.Linear(4, 4), "last": nn.Linear(4, 3)}
    model = Net(lambda s, x: s.last(s.first(x if len(x) > 1 else x.repeat(2, 1))[: len(x)]), **layers)
    check(model.double(), *examples(5, (4,)))


def test_what_vmap_cannot_do_is_done_one_by_one():
    class Choosy(Own):
        def forward(self, x):
            return x * self.scale if float(x.detach().sum()) > 0 else x - self.scale

    x, y = examples(1, (4,))
    check(nn.Sequential(Choosy(), nn.Linear(4, 3)).double(), x.repeat(3, 1), y.repeat(3), block=3)


def test_a_forward_that_views_its_pictures_is_not_given_another_layout():
    class Viewing(nn.Sequential):
        def forward(self, x):
            return self[2](self[1](self[0](x)).view(len(x), -1))

    model = scrambled(Viewing(nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), nn.Linear(12, 3)))
    with pytest.raises(RuntimeError, match="view size"):
        model(torch.randn(2, 2, 4, 4).double().contiguous(memory_format=torch.channels_last))
    check(model, *examples(4, (2, 4, 4)))
