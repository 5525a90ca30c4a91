"""The Gram matrix without gradients equals the one of gradients taken one by one, for every network and layer."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import models
from gendyn_lite.errors import UserError
from gendyn_lite.measures import stiffness
from tests.measures import naive, networks
from tests.measures.networks import Net, convolution, examples, scrambled

TOLERANCE = 1e-10
NETWORKS = {  # in_shape, examples, options
    "mlp": ((5,), 9, {"widths": [7, 6], "activation": "tanh"}),
    "mlp_1x512": ((1, 4, 4), 5, {}),
    "mlp_3x512": ((1, 4, 4), 5, {}),
    "alexnet_small": ((3, 7, 7), 5, {}),
    "inception_small": ((3, 4, 4), 3, {}),
    "resnet18": ((3, 8, 8), 3, {}),
    "vgg19": ((3, 32, 32), 2, {}),
    "resnet18_imagenet": ((3, 32, 32), 2, {}),
    "resnet50": ((3, 32, 32), 2, {}),
    "inception_v3": ((3, 75, 75), 2, {}),
    "alexnet": ((3, 63, 63), 2, {}),
}


def same(found, expected):
    for layer, gram in expected.items():
        worst = (found[layer] - gram).abs().max()
        assert worst <= TOLERANCE * gram.abs().max().clamp(min=1e-300), (layer, worst)


def check(model, x, y, **options):
    """Per layer and whole, in one block and in several, one set and two."""
    expected = naive.gram(model, x, y)
    found = stiffness.gradient_gram(model, x, y, per_layer=True, **options)
    assert list(found) == list(expected)
    same(found, expected)
    whole = {"all": sum(expected.values())}
    same({"all": stiffness.gradient_gram(model, x, y, **options)}, whole)
    same({"all": stiffness.gradient_gram(model, x, y, block=2, **options)}, whole)
    two = stiffness.gradient_gram(model, x[:1], y[:1], other=(x[1:], y[1:]), block=2, **options)
    same({"all": two}, {"all": whole["all"][:1, 1:]})


def test_a_forward_that_views_its_pictures_is_not_given_another_layout():
    class Viewing(nn.Sequential):
        def forward(self, x):
            return self[2](self[1](self[0](x)).view(len(x), -1))

    model = scrambled(Viewing(nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), nn.Linear(12, 3)))
    with pytest.raises(RuntimeError, match="view size"):
        model(torch.randn(2, 2, 4, 4).double().contiguous(memory_format=torch.channels_last))
    check(model, *examples(4, (2, 4, 4)))


@pytest.mark.parametrize("name", models.names())
def test_every_network_equals_the_loop(name):
    shape, count, options = NETWORKS[name]
    model = scrambled(models.build(name, num_classes=3, in_shape=shape, seed=0, **options))
    x, y = examples(count, shape)
    expected = naive.gram(model, x, y)
    found = stiffness.gradient_gram(model, x, y, per_layer=True)
    assert list(found) == list(expected)
    same(found, expected)
    same({"all": stiffness.gradient_gram(model, x, y)}, {"all": sum(expected.values())})


CONVOLUTIONS = networks.CONVOLUTIONS | {
    "even-kernel": {"kernel_size": 2, "padding": 1},
    "valid": {"kernel_size": 2, "padding": "valid"},
    "reflect": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "reflect"},
}


@pytest.mark.parametrize("way", ["ghost", "instantiated"])
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolution_equals_the_loop_both_ways(options, way, monkeypatch):
    monkeypatch.setattr(
        "gendyn_lite.measures.stiffness.layer_gram.ghost_is_cheaper", lambda *_: way == "ghost"
    )  # fmt: skip
    torch.manual_seed(0)
    check(convolution(4, 8, **options).double(), *examples(5, (4, 6, 5)))


@pytest.mark.parametrize("kept", [0, 1 << 20], ids=["patches made for each block", "patches kept"])
@pytest.mark.parametrize("way", ["ghost", "instantiated"])
def test_small_blocks_change_nothing(way, kept, monkeypatch):
    from gendyn_lite.measures.per_example import factors
    from gendyn_lite.measures.stiffness import layer_gram

    monkeypatch.setattr(layer_gram, "ghost_is_cheaper", lambda *_: way == "ghost")
    monkeypatch.setattr(layer_gram, "BLOCK_BYTES", {"cpu": 500})
    monkeypatch.setattr(layer_gram, "KEPT_BYTES", kept)
    monkeypatch.setattr(layer_gram, "TRIANGLE", 2)
    monkeypatch.setattr(layer_gram, "GHOST_STRIP", 2)
    monkeypatch.setattr(factors, "PATCH_BYTES", {"cpu": 2000})
    torch.manual_seed(0)
    for groups in (1, 2):
        check(convolution(4, 8, kernel_size=3, padding=1, groups=groups).double(), *examples(7, (4, 6, 5)))


def test_both_ways_are_taken_where_they_cost_less():
    from gendyn_lite.measures.per_example.factors import Factors, Workspace
    from gendyn_lite.measures.per_example.passes import Use
    from gendyn_lite.measures.stiffness.layer_gram import ghost_is_cheaper

    def of(module, shape, count=64):
        a = torch.randn(count, *shape)
        return Factors([Use(module, a, torch.zeros_like(module(a)))], Workspace())

    assert ghost_is_cheaper(of(nn.Linear(50, 60), (50,)), None)
    assert not ghost_is_cheaper(of(nn.Conv2d(3, 64, 5, padding=2), (3, 28, 28)), None)
    assert ghost_is_cheaper(of(nn.Conv2d(512, 512, 3, padding=1), (512, 4, 4)), None)


def shared_linear():
    hidden = nn.Linear(4, 4)
    return Net(lambda s, x: s.out(s.hidden(torch.tanh(s.hidden(x)))), hidden=hidden, out=nn.Linear(4, 3))


def shared_between_modules():
    model = Net(
        lambda s, x: s.out(s.second(torch.tanh(s.first(x)))),
        first=nn.Linear(4, 4),
        second=nn.Linear(4, 4),
        out=nn.Linear(4, 3),
    )
    model.second.weight = model.first.weight  # two biases, one weight
    return model


def shared_convolution():
    def forward(s, x):
        h = F.max_pool2d(s.conv(x.view(-1, 1, 4, 4).repeat(1, 2, 1, 1)), 2)
        return s.out(F.max_pool2d(s.conv(h), 2)[..., 0, 0])

    return Net(forward, conv=nn.Conv2d(2, 2, 3, padding=1), out=nn.Linear(2, 3))


SMALL = {
    "linear-model": (nn.Linear(4, 3), (4,)),
    "in-place-relu": (nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)), (4,)),
    "in-place-sum": (
        Net(lambda s, x: s.out(s.b(x).add_(s.a(x)).relu_()), a=nn.Linear(4, 5), b=nn.Linear(4, 5), out=nn.Linear(5, 3)),
        (4,),
    ),
    "shared-module": (shared_linear(), (4,)),
    "shared-weight": (shared_between_modules(), (4,)),
    "shared-convolution": (shared_convolution(), (16,)),
    "batch-norm-1d": (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)), (4,)),
    "no-affine-batch-norm": (
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(36, 3)),
        (2, 5, 5),
    ),
    "conv-1d": (
        nn.Sequential(nn.Conv1d(2, 4, 3, stride=2, padding=1, groups=2), nn.Flatten(), nn.Linear(12, 3)),
        (2, 6),
    ),
    "layer-norm-over-places": (
        nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Flatten(), nn.Linear(18, 3)),
        (3, 4),
    ),
    "group-norm": (nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(36, 3)), (2, 5, 5)),
    "unused-branch": (
        Net(lambda s, x: s.used(x) + 0 * s.idle(x).detach(), used=nn.Linear(4, 3), idle=nn.Linear(4, 3)),
        (4,),
    ),
    "never-called": (Net(lambda s, x: s.used(x), used=nn.Linear(4, 3), idle=nn.Linear(4, 3)), (4,)),
    "float-view-of-input": (Net(lambda s, x: s.out(x[:, ::2]), out=nn.Linear(2, 3)), (4,)),
}


@pytest.mark.parametrize(("model", "shape"), SMALL.values(), ids=SMALL)
def test_special_networks_equal_the_loop(model, shape):
    model = scrambled(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(model, *examples(6, shape))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("padding", [None, 1], ids=["no-padding-token", "padding-token"])
@pytest.mark.parametrize("shape", [(), (5,)], ids=["one-token", "five-tokens"])
def test_embeddings_equal_the_loop(shape, padding):
    torch.manual_seed(0)
    model = Net(
        lambda s, x: s.out(s.words(x) if x.dim() == 1 else s.words(x).mean(1)),
        words=nn.Embedding(6, 4, padding_idx=padding),
        out=nn.Linear(4, 3),
    ).double()
    x = torch.randint(0, 6, (8, *shape), generator=torch.Generator().manual_seed(1))
    check(model, x, examples(8, ())[1])


def lstm():
    return Net(lambda s, x: s.out(s.memory(x)[0][:, -1]), memory=nn.LSTM(4, 5, batch_first=True), out=nn.Linear(5, 3))


def attention():
    def forward(s, x):
        h = s.mix(x, x, x, need_weights=False)[0]
        return s.out(h.mean(1))

    return Net(forward, mix=nn.MultiheadAttention(4, 2, batch_first=True), out=nn.Linear(4, 3))


class Own(nn.Module):
    """A layer without a formula."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, x):
        return x * self.scale


def tied():
    def forward(s, x):
        return F.linear(torch.tanh(s.first(x)), s.first.weight)[:, :3]

    return Net(forward, first=nn.Linear(4, 4))


def no_example_axis():
    return Net(
        lambda s, x: s.out(s.first(x.reshape(-1, 2)).reshape(len(x), -1)), first=nn.Linear(2, 3), out=nn.Linear(6, 3)
    )


WITHOUT = {
    "own-layer": (nn.Sequential(Own(), nn.Linear(4, 3)), (4,), r"no formula for 0 \(Own\)"),
    "lstm": (lstm(), (3, 4), r"no formula for memory \(LSTM\)"),
    "attention": (attention(), (3, 4), "no formula for mix"),
    "weight-used-outside": (tied(), (4,), r"no formula for first \(Linear\)"),
    "no-example-axis": (no_example_axis(), (4,), r"no formula for first \(Linear\)"),
    "weight-norm": (
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)),
        (4,),
        "no formula for",
    ),
    "nothing-else": (Net(lambda s, x: s.pair(x, x), pair=nn.Bilinear(4, 4, 3)), (4,), r"pair \(Bilinear\)"),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("model", "shape", "told"), WITHOUT.values(), ids=WITHOUT)
def test_a_layer_without_a_formula_is_named_and_right(model, shape, told):
    model = scrambled(model)
    x, y = examples(5, shape)
    with pytest.warns(UserWarning, match=told):
        found = stiffness.gradient_gram(model, x, y, per_layer=True)
    same(found, naive.gram(model, x, y))
    with pytest.warns(UserWarning, match=told):
        blocked = stiffness.gradient_gram(model, x, y, block=2)
    same({"all": blocked}, {"all": sum(found.values())})


def test_what_vmap_cannot_do_is_done_one_by_one():
    class Choosy(Own):
        def forward(self, x):
            return x * self.scale if float(x.sum()) > 0 else x - self.scale

    model = nn.Sequential(Choosy(), nn.Linear(4, 3)).double()
    x, y = examples(1, (4,))
    x, y = x.repeat(3, 1), y.repeat(3)
    with pytest.warns(UserWarning, match="Choosy"):
        same(stiffness.gradient_gram(model, x, y, per_layer=True), naive.gram(model, x, y))


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    model[0].weight.requires_grad_(False)
    x, y = examples(6, (4,))
    found = stiffness.gradient_gram(model, x, y, per_layer=True)
    same(found, naive.gram(model, x, y))
    assert not model[0].weight.requires_grad


def test_groups_are_sums_of_their_layers():
    model = scrambled(models.build("resnet18", num_classes=3, in_shape=(3, 8, 8), seed=0))
    x, y = examples(3, (3, 8, 8))
    layers = stiffness.gradient_gram(model, x, y, per_layer=True)
    found = stiffness.gradient_gram(model, x, y, groups={"first": ["conv", "norm"], "block": "block1a", "head": ["fc"]})
    assert list(found) == ["first", "block", "head"]
    block = sum(gram for name, gram in layers.items() if name.startswith("block1a."))
    same(found, {"first": layers["conv"] + layers["norm"], "block": block, "head": layers["fc"]})
    with pytest.raises(UserError, match="unknown layer 'blok1a': did you mean"):
        stiffness.gradient_gram(model, x, y, groups={"block": ["blok1a"]})


def test_a_loss_of_ones_own():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x, _ = examples(6, (4,))
    y = x[:, :1].sin()

    def squared(output, y):
        return (output - y).square().sum(1)

    expected = naive.gram(model, x, y, loss=squared)
    same(stiffness.gradient_gram(model, x, y, loss=squared, per_layer=True), expected)
    with pytest.raises(UserError, match=r"the loss has shape \(\), expected one value for each of 6 examples"):
        stiffness.gradient_gram(model, x, y, loss=lambda output, y: squared(output, y).mean())


def test_inputs_that_require_a_gradient_and_grad_mode_do_not_matter():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    x, y = examples(6, (4,))
    expected = stiffness.gradient_gram(model, x, y)
    assert torch.equal(stiffness.gradient_gram(model, x.clone().requires_grad_(), y), expected)
    with torch.no_grad():
        assert torch.equal(stiffness.gradient_gram(model, x, y), expected)


def test_half_precision_is_summed_in_float32():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).bfloat16()
    x, y = examples(6, (4,))
    found = stiffness.gradient_gram(model, x.bfloat16(), y)
    assert found.dtype == torch.float32
    exact = stiffness.gradient_gram(model.double(), x.bfloat16().double(), y)
    assert (found - exact).abs().max() < 0.05 * exact.abs().max()
